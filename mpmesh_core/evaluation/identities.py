"""evaluation.identities: how well people are found and told apart over time, by TrackEval.

Protocol. A found person may be a true one up to 1 m from pelvis to pelvis: similarity is
1 - distance / 2 m, as TrackEval has it for distances, and counts from 0.5 for MOTA and IDF1; HOTA
averages over all thresholds.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpmesh_core.errors import MissingPackageError
from mpmesh_core.evaluation.matching import MAX_DISTANCE
from mpmesh_core.types import Array


@dataclass(frozen=True)
class IdentityReport:
    """Shares in 0..1, MOTA possibly below 0."""

    mota: float
    idf1: float
    hota: float
    detection_accuracy: float  # DetA of HOTA
    association_accuracy: float  # AssA of HOTA
    id_switches: int


def identity_report(
    found_ids: Sequence[Array],
    found: Sequence[Array],
    true_ids: Sequence[Array],
    true: Sequence[Array],
) -> IdentityReport:
    """Compare identities over the frames of one sequence.

    Args:
        found_ids: a frame (P,) int64.
        found: a frame (P, 3) pelvises [m].
        true_ids: a frame (Q,) int64.
        true: a frame (Q, 3) pelvises [m].

    Raises:
        MissingPackageError: trackeval isn't installed.
    """
    metrics = import_metrics()
    distances = [
        np.linalg.norm(q[:, None] - p[None], axis=-1).reshape(len(q), len(p))
        for q, p in zip(true, found)
    ]
    known, true_rows = _numbered(true_ids)
    seen, found_rows = _numbered(found_ids)
    data = {
        "num_timesteps": len(true_ids),
        "num_gt_ids": known,
        "num_tracker_ids": seen,
        "num_gt_dets": sum(map(len, true_ids)),
        "num_tracker_dets": sum(map(len, found_ids)),
        "gt_ids": true_rows,
        "tracker_ids": found_rows,
        "similarity_scores": [np.maximum(0, 1 - d / (2 * MAX_DISTANCE)) for d in distances],
    }
    quiet = {"PRINT_CONFIG": False}
    clear = metrics.CLEAR(quiet).eval_sequence(data)
    identity = metrics.Identity(quiet).eval_sequence(data)
    hota = metrics.HOTA().eval_sequence(data)
    return IdentityReport(
        mota=float(clear["MOTA"]),
        idf1=float(identity["IDF1"]),
        hota=float(np.mean(hota["HOTA"])),
        detection_accuracy=float(np.mean(hota["DetA"])),
        association_accuracy=float(np.mean(hota["AssA"])),
        id_switches=int(clear["IDSW"]),
    )


def _numbered(ids: Sequence[Array]) -> tuple[int, list[Array]]:
    """How many identities there are, and the frames with numbers from 0 instead."""
    every = np.unique(np.concatenate([np.zeros(0, np.int64), *ids]))
    return len(every), [np.searchsorted(every, frame) for frame in ids]


def import_metrics() -> Any:
    """TrackEval's metrics.

    Raises:
        MissingPackageError: it isn't installed.
    """
    try:
        with redirect_stdout(io.StringIO()):  # it tells of data sets that it can't read
            import trackeval.metrics
    except ImportError:
        raise MissingPackageError(
            "MOTA, IDF1 and HOTA need the package trackeval: pip install --no-deps trackeval "
            "(its dependencies bring a second OpenCV and aren't used here)"
        ) from None
    return trackeval.metrics
