"""evaluation.people: people found over time against a truth of the same frames.

Protocol. Frames belong together, one to one, when their stamps are at most 5 ms apart; every frame
of the truth counts, one without result as one where nobody was found. In each frame people are
matched to truths by the Hungarian method on the distance of their pelvises, up to 1 m. MPJPE after
moving both pelvises together, PA-MPJPE after a similarity, over the 24 SMPL joints; the position
error is that of the pelvis.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mpmesh_core.errors import InputError
from mpmesh_core.evaluation.identities import IdentityReport, identity_report
from mpmesh_core.evaluation.matching import match_positions
from mpmesh_core.evaluation.metrics import mpjpe, pa_mpjpe
from mpmesh_core.evaluation.observed import UNKNOWN, ObservedFrame
from mpmesh_core.types import Array

logger = logging.getLogger(__name__)
STAMP_TOLERANCE_NS = 5_000_000


@dataclass(frozen=True)
class FrameErrors:
    """The M matched people of one frame."""

    stamp_ns: int
    found: int  # people
    truths: int
    distance: Array  # (M,) of the truths from the camera [m]
    position: Array  # (M,) error [m]
    mpjpe: Array  # (M,) [m]; NaN where the truth knows no joints
    pa_mpjpe: Array  # (M,) [m], likewise


@dataclass(frozen=True)
class PeopleReport:
    """Means over all matched people; None for what the truth doesn't tell."""

    frames: int
    missing_frames: int  # of the truth, without a result
    truths: int  # people in all frames
    found: int
    matched: int
    precision: float
    recall: float
    f1: float
    position_mm: float | None
    position_relative: float | None  # of the distance from the camera
    mpjpe_mm: float | None
    pa_mpjpe_mm: float | None
    identities: IdentityReport | None


def compare_people(
    found: list[ObservedFrame], truth: list[ObservedFrame]
) -> tuple[PeopleReport, list[FrameErrors]]:
    """Compare what was found with the truth; see the module's protocol.

    Args:
        found: frames, sorted by stamp.
        truth: frames, sorted by stamp.

    Returns:
        The figures over all frames, and those of each frame of the truth.

    Raises:
        InputError: a truth without frames, or none whose stamp a result has.
    """
    paired = pair_frames(found, truth)
    missing = sum(frame is None for frame in paired)
    if missing == len(truth):
        raise InputError(
            f"none of the {len(truth)} frames of the truth has the stamp of a result; is it of "
            "another recording?"
        )
    if 2 * missing > len(truth):
        logger.warning(
            "%d of %d frames of the truth have no result and count as missed, so recall drops; "
            "a truth is best taken at the stamps of the pictures",
            missing,
            len(truth),
        )
    seen = [
        frame if frame is not None else _nobody(known.stamp_ns)
        for frame, known in zip(paired, truth)
    ]
    errors = [_frame_errors(frame, known) for frame, known in zip(seen, truth)]
    distances = np.concatenate([frame.distance for frame in errors])
    truths, people = (sum(getattr(e, n) for e in errors) for n in ("truths", "found"))
    matched = len(distances)
    position = np.concatenate([frame.position for frame in errors])
    return (
        PeopleReport(
            frames=len(truth),
            missing_frames=missing,
            truths=truths,
            found=people,
            matched=matched,
            precision=matched / people if people else 0.0,
            recall=matched / truths if truths else 1.0,
            f1=2 * matched / (people + truths) if people + truths else 1.0,
            position_mm=_mean(1e3 * position),
            position_relative=_mean(position / np.maximum(distances, 1e-9)),
            mpjpe_mm=_mean(1e3 * np.concatenate([frame.mpjpe for frame in errors])),
            pa_mpjpe_mm=_mean(1e3 * np.concatenate([frame.pa_mpjpe for frame in errors])),
            identities=_identities(seen, truth),
        ),
        errors,
    )


def pair_frames(
    found: list[ObservedFrame], truth: list[ObservedFrame]
) -> list[ObservedFrame | None]:
    """For each frame of the truth the result nearest in time, None beyond the tolerance.

    Both are sorted by stamp. A result goes to one truth, the nearest of those it is nearest to;
    frames of one and the same stamp are paired in their order.
    """
    stamps = np.array([frame.stamp_ns for frame in found], np.int64)
    known = np.array([frame.stamp_ns for frame in truth], np.int64)
    if not len(stamps):
        return [None] * len(truth)
    stamps, first, counts = np.unique(stamps, return_index=True, return_counts=True)
    middles = np.array([a + (b - a) // 2 for a, b in pairwise(stamps.tolist())], np.int64)
    nearest = np.searchsorted(middles, known)
    apart = np.abs(stamps[nearest] - known)
    rivals: dict[int, list[int]] = {}  # stamp of results -> truths that are near it
    for number in np.flatnonzero(apart <= STAMP_TOLERANCE_NS).tolist():
        rivals.setdefault(int(nearest[number]), []).append(number)
    paired: list[ObservedFrame | None] = [None] * len(truth)
    for stamp, numbers in rivals.items():
        chosen = sorted(numbers, key=lambda number: int(apart[number]))[: counts[stamp]]
        for place, number in enumerate(sorted(chosen), int(first[stamp])):
            paired[number] = found[place]
    return paired


def _frame_errors(found: ObservedFrame, truth: ObservedFrame) -> FrameErrors:
    pairs = match_positions(found.positions, truth.positions)
    rows, columns = [row for row, _ in pairs], [column for _, column in pairs]
    position = np.linalg.norm(found.positions[rows] - truth.positions[columns], axis=-1)
    relative = aligned = np.full(len(pairs), np.nan)
    if found.joints is not None and truth.joints is not None:
        relative = mpjpe(found.joints[rows], truth.joints[columns])
        aligned = pa_mpjpe(found.joints[rows], truth.joints[columns])
    sizes = len(found.positions), len(truth.positions)
    distance = np.linalg.norm(truth.positions[columns], axis=-1)
    return FrameErrors(truth.stamp_ns, *sizes, distance, position, relative, aligned)


def _identities(found: list[ObservedFrame], truth: list[ObservedFrame]) -> IdentityReport | None:
    """None where one side knows no identities."""
    if any((frame.ids == UNKNOWN).any() for frame in (*found, *truth)):
        return None
    return identity_report(
        [frame.ids for frame in found],
        [frame.positions for frame in found],
        [frame.ids for frame in truth],
        [frame.positions for frame in truth],
    )


def _nobody(stamp_ns: int) -> ObservedFrame:
    return ObservedFrame(stamp_ns, np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros((0, 24, 3)))


def _mean(values: Array) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
