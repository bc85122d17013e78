"""evaluation.score_mupots: MuPoTS-3D's records and a method's people into a report.

In   FrameRecords of 17 joints, what was found in each
Out  ProtocolReport; the mathematics is `mupots`'
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import partial

import numpy as np

from mpmesh_core.datasets.pictures import PictureReader
from mpmesh_core.datasets.record import FrameRecord
from mpmesh_core.errors import InputError
from mpmesh_core.evaluation.mupots import (
    PARENTS,
    PELVIS,
    PROTOCOL,
    SCORED,
    SEQUENCES,
    MupotsScores,
    MupotsSequence,
    match_mupots,
    mupots_errors,
    mupots_scores,
    sequence_scores,
)
from mpmesh_core.evaluation.predictions.found import Find
from mpmesh_core.evaluation.protocol import Case, Group, ProtocolReport
from mpmesh_core.types import Array

ERROR = "mean error of 14 joints [mm]"
_TREE = tuple(-1 if joint == PELVIS else parent for joint, parent in enumerate(PARENTS))


def score_mupots(records: Iterable[FrameRecord], find: Find, method: str) -> ProtocolReport:
    """Score a method.

    Args:
        records: frames; people that aren't valid don't count.
        find: what the method found in a frame.
        method: its name.

    Raises:
        InputError: no valid person, or predictions without `mpi17` joints.
    """
    relative: dict[str, list[Array]] = defaultdict(list)
    absolute: dict[str, list[Array]] = defaultdict(list)
    matched: dict[str, list[Array]] = defaultdict(list)
    cases: list[Case] = []
    for record in records:
        valid = [person for person in record.people if person.valid]
        if not valid:
            continue
        true_px = np.stack([person.points2d["mpi17"][:, :2] for person in valid])
        truth = 1e3 * np.stack([person.points3d["mpi17_univ"][:, :3] for person in valid])
        found = find(record)
        found_px, joints = np.zeros((0, 17, 2)), np.zeros((0, 17, 3))
        if found.count:
            found_px, joints = found.need_points("mpi17"), 1e3 * found.need_joints("mpi17")
        chosen = match_mupots(true_px, found_px)
        errors = mupots_errors(joints, truth, chosen)
        relative[record.sequence].append(errors)
        absolute[record.sequence].append(mupots_errors(joints, truth, chosen, relative=False))
        matched[record.sequence].append(chosen >= 0)
        cases += _cases(record, errors, chosen, found_px, true_px)
    if not matched:
        raise InputError("MuPoTS-3D: no frame with a valid person")
    sequences, apart = (
        [
            MupotsSequence(name, np.concatenate(parts[name]), np.concatenate(matched[name]))
            for name in parts
        ]
        for parts in (relative, absolute)
    )
    scores, standing = mupots_scores(sequences), mupots_scores(apart)
    few = f"Only {len(sequences)} of the {SEQUENCES} sequences: not comparable with published means"
    return ProtocolReport(
        PROTOCOL,
        data=f"MuPoTS-3D, {len(sequences)} sequences, {scores.annotated} annotated people",
        method=method,
        figures={
            **_figures(scores),
            "absolute 3DPCK, all [%]": standing.pck_all,
            "absolute 3DPCK, matched [%]": standing.pck_matched,
        },
        groups=[Group("Sequences", {s.name: _figures(sequence_scores(s)) for s in sequences})],
        cases=cases,
        notes=[] if len(sequences) == SEQUENCES else [f"{few}."],
        histogram=(ERROR,),
    )


def _figures(scores: MupotsScores) -> dict[str, float]:
    return {
        "3DPCK, all [%]": scores.pck_all,
        "AUC, all [%]": scores.auc_all,
        "3DPCK, matched [%]": scores.pck_matched,
        "AUC, matched [%]": scores.auc_matched,
        "people": scores.annotated,
        "matched": scores.matched,
    }


def _cases(
    record: FrameRecord, errors: Array, chosen: Array, found_px: Array, true_px: Array
) -> list[Case]:
    return [
        Case(
            where=f"{record.sequence}/{record.number}",
            errors={ERROR: float(errors[person, SCORED].mean())},
            found_px=found_px[row],
            true_px=true_px[person],
            parents=_TREE,
            picture=partial(PictureReader().read, record.picture),
        )
        for person, row in enumerate(chosen.tolist())
        if row >= 0
    ]
