"""evaluation.mupots: the MuPoTS-3D protocol, on plain arrays, in millimetres and pixels.

In   of each frame the valid truths (G) and the predictions (P): joints in pixels and millimetres
Out  3DPCK and AUC [%], of all annotated people and of the matched ones

A frame's truths choose in their order: each takes the free prediction of which the most of joints
2-14 (counted from 1) lie within 40 px of its own in u and in v, if any does; a joint at exactly
(0, 0) is one that wasn't predicted. Predicted bones are given the truth's lengths, along the tree
from the pelvis; then both are compared relative to their pelvises (or absolutely). Right are
joints with an error below 150 mm, of 14: head top to ankles. Every joint of a truth without
prediction has the error 1e5 mm; "matched" leaves such people out. Scores are means over sequences.
Source: Mehta et al. 2018, Single-shot multi-person 3D pose estimation from monocular RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mpmesh_core.checks import check_shapes
from mpmesh_core.datasets.conventions import MPI17
from mpmesh_core.evaluation.metrics import auc3d, joint_errors, pck3d
from mpmesh_core.evaluation.protocol import Protocol
from mpmesh_core.types import Array

# Rows of `conventions.MPI17`.
PARENTS = (1, 15, 1, 2, 3, 1, 5, 6, 14, 8, 9, 14, 11, 12, 14, 14, 1)
TRAVERSAL = (15, 1, 0, 16, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)  # each after its parent
PELVIS = MPI17.index("pelvis")
MATCHED_ON = slice(1, 14)
SCORED = slice(0, 14)
MATCH_PX = 40.0
PCK_MM = 150.0
AUC_MM = np.arange(0.0, 151.0, 5.0)
UNMATCHED_MM = 1e5
SEQUENCES = 20

PROTOCOL = Protocol(
    name="MuPoTS-3D",
    joints="14 (head top to ankles)",
    regressor="none: 17 MuPoTS joints, truth univ_annot3",
    alignment="pelvis (joint 15); predicted bones rescaled to the truth's lengths",
    boxes="the method's own detections",
    gender="none",
    matching="in the order of the truths, exclusive, on joints 2-14 within 40 px in u and v",
    source="Mehta et al. 2018",
)


@dataclass(frozen=True)
class MupotsSequence:
    """All G annotated people of one sequence."""

    name: str
    errors: Array  # (G, 17) [mm]; UNMATCHED_MM throughout for people without prediction
    matched: Array  # (G,) bool


@dataclass(frozen=True)
class MupotsScores:
    """In percent; NaN where nobody is annotated or matched."""

    pck_all: float
    auc_all: float
    pck_matched: float
    auc_matched: float
    annotated: int
    matched: int


def match_mupots(true_px: Array, found_px: Array) -> Array:
    """Whom each truth of a frame is compared with.

    Args:
        true_px: (G, 17, 2) [px] of the valid annotations, in the file's order.
        found_px: (P, 17, 2) [px].

    Returns:
        (G,) int64 row of `found_px`, or -1.
    """
    check_shapes(true_px=(true_px, ("G", 17, 2)), found_px=(found_px, ("P", 17, 2)))
    truth, found = np.asarray(true_px)[:, MATCHED_ON], np.asarray(found_px)[:, MATCHED_ON]
    near = (np.abs(truth[:, None] - found[None]) < MATCH_PX).all(-1)
    score = (near & (found != 0).any(-1)).sum(-1)  # (G, P)
    chosen = np.full(len(truth), -1, np.int64)
    if not len(found):
        return chosen
    for row in range(len(truth)):
        best = int(score[row].argmax())
        if score[row, best] > 0:
            chosen[row] = best
            score[:, best] = 0
    return chosen


def rescale_bones(predicted: Array, truth: Array) -> Array:
    """Give predicted bones the truth's lengths, from the pelvis outwards.

    Args:
        predicted: (..., 17, 3) [mm]; gives the directions.
        truth: (..., 17, 3) [mm]; gives the lengths.

    Returns:
        (..., 17, 3); NaN from a predicted bone of no length on, since it has no direction.
    """
    check_shapes(predicted=(predicted, (..., 17, 3)), truth=(truth, (..., 17, 3)))
    scaled = np.array(predicted, np.float64)
    for joint in TRAVERSAL:
        parent = PARENTS[joint]
        length = np.linalg.norm(truth[..., joint, :] - truth[..., parent, :], axis=-1)
        bone = np.asarray(predicted[..., joint, :] - predicted[..., parent, :], np.float64)
        size = np.linalg.norm(bone, axis=-1)
        stretch = np.where(size > 0, length / np.where(size > 0, size, 1.0), np.nan)
        scaled[..., joint, :] = scaled[..., parent, :] + bone * stretch[..., None]
    return scaled


def mupots_errors(found: Array, truth: Array, chosen: Array, relative: bool = True) -> Array:
    """Errors of every joint of every truth of a frame.

    Args:
        found: (P, 17, 3) [mm, camera frame].
        truth: (G, 17, 3) [mm, camera frame], univ_annot3.
        chosen: (G,) rows of `found`, or -1, see `match_mupots`.
        relative: to the pelvis, or absolute.

    Returns:
        (G, 17) [mm].
    """
    check_shapes(found=(found, ("P", 17, 3)), truth=(truth, ("G", 17, 3)), chosen=(chosen, ("G",)))
    errors = np.full((len(truth), 17), UNMATCHED_MM)
    there = np.flatnonzero(chosen >= 0)
    if not len(there):
        return errors
    predicted, known = found[chosen[there]], truth[there]
    if relative:
        predicted = predicted - predicted[:, PELVIS : PELVIS + 1]
        known = known - known[:, PELVIS : PELVIS + 1]
    errors[there] = joint_errors(rescale_bones(predicted, known), known)
    return errors


def sequence_scores(sequence: MupotsSequence) -> MupotsScores:
    """Scores of one sequence."""
    everybody = _percentages(sequence.errors)
    matched = _percentages(sequence.errors[sequence.matched])
    counts = len(sequence.matched), int(sequence.matched.sum())
    return MupotsScores(everybody[0], everybody[1], matched[0], matched[1], *counts)


def mupots_scores(sequences: Sequence[MupotsSequence]) -> MupotsScores:
    """Means over sequences; one without annotated (or matched) people has no say in that mean."""
    each = [sequence_scores(sequence) for sequence in sequences]
    return MupotsScores(
        pck_all=_mean([scores.pck_all for scores in each]),
        auc_all=_mean([scores.auc_all for scores in each]),
        pck_matched=_mean([scores.pck_matched for scores in each]),
        auc_matched=_mean([scores.auc_matched for scores in each]),
        annotated=sum(scores.annotated for scores in each),
        matched=sum(scores.matched for scores in each),
    )


def _percentages(errors: Array) -> tuple[float, float]:
    """3DPCK and AUC of people's errors (G, 17)."""
    if not len(errors):
        return np.nan, np.nan
    scored = errors[:, SCORED]
    return 100 * float(pck3d(scored, PCK_MM).mean()), 100 * float(auc3d(scored, AUC_MM).mean())


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan
