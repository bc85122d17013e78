"""evaluation.agora: AGORA's protocol for SMPL bodies, on plain arrays.

In   of each frame P predictions and G truths: joints and their boxes [px], joints and meshes [m]
Out  MPJPE and MVE [mm], precision, recall, F1, NMJE and NMVE [mm]; the same for children alone

Pairs of prediction and truth are taken by rising 2D error. A pair whose keypoint boxes overlap by
an IoU below 0.1 uses up one prediction, without saying which; else it is a match if both are free.
A truth that is too occluded takes itself out of the game at the first such pair, and whoever found
it is a false positive in the end. The game is over when all truths or as many predictions as there
are have been used up. The 2D error is the largest singular value of the 24 x 2 difference, which
is what the official code computes where its paper speaks of the mean distance: both rank nearly
alike, but not always.
Errors are of matched people: 24 joints and the body's 4010 vertices, after moving the midpoints of
the hip joints together. Numbers that aren't finite make a prediction a false positive.
Source: Patel et al. 2021, AGORA, section 5, and its official evaluation code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mpmesh_core.checks import check_shapes
from mpmesh_core.evaluation.metrics import DetectionCounts, mpjpe, normalised_error, pve
from mpmesh_core.evaluation.protocol import Protocol
from mpmesh_core.types import Array

JOINTS = 24
HIPS = (1, 2)
MIN_IOU = 0.1
MAX_OCCLUSION = 90.0  # [%]

PROTOCOL = Protocol(
    name="AGORA (SMPL)",
    joints="24 SMPL joints; MVE on the 4010 body vertices",
    regressor="SMPL's own joints",
    alignment="midpoint of the two hip joints",
    boxes="the method's own detections",
    gender="truth and prediction neutral",
    matching="greedy on the 2D error of 24 joints, keypoint-box IoU >= 0.1, occlusion 0-90 %",
    source="Patel et al. 2021",
)


@dataclass(frozen=True)
class AgoraFound:
    """The P predictions of one frame."""

    joints_px: Array  # (P, 24, 2) in the 3840 x 2160 picture
    boxes: Array  # (P, 4) x1, y1, x2, y2 [px] around all their keypoints
    joints: Array  # (P, 24, 3) [m]
    vertices: Array | None  # (P, B, 3) [m], the body's; None for bodies without SMPL's mesh


@dataclass(frozen=True)
class AgoraTruth:
    """The G people of one frame."""

    joints_px: Array  # (G, 24, 2)
    boxes: Array  # (G, 4) [px] around all their keypoints
    joints: Array  # (G, 24, 3) [m]
    vertices: Array  # (G, B, 3) [m], the body's
    valid: Array  # (G,) bool, must be found
    occlusion: Array  # (G,) [%]; outside 0..90 nobody can be matched
    kid: Array  # (G,) bool


@dataclass(frozen=True)
class AgoraErrors:
    """One frame."""

    chosen: Array  # (G,) int64 row of the prediction, or -1
    mpjpe: Array  # (G,) [m], NaN where nobody was matched
    mve: Array  # (G,) [m], likewise
    valid: Array  # (G,) bool
    kid: Array  # (G,) bool
    wrong: int  # false positives


@dataclass(frozen=True)
class AgoraScores:
    """Of all frames; NaN for the errors of nobody."""

    counts: DetectionCounts
    mpjpe_mm: float
    mve_mm: float

    @property
    def f1(self) -> float:
        """Rounded to two decimals, as every AGORA figure takes it."""
        return round(self.counts.f1, 2)

    @property
    def nmje_mm(self) -> float:
        """MPJPE over the rounded F1."""
        return normalised_error(self.mpjpe_mm, self.f1)

    @property
    def nmve_mm(self) -> float:
        """MVE over the rounded F1."""
        return normalised_error(self.mve_mm, self.f1)

    def published(self) -> dict[str, float]:
        """The figures as the official code rounds them: errors once before and once after F1."""
        errors = {"MPJPE": self.mpjpe_mm, "MVE": self.mve_mm}
        rounded = {name: float(np.round(error, 1)) for name, error in errors.items()}
        return {
            "precision": round(self.counts.precision, 2),
            "recall": round(self.counts.recall, 2),
            "F1": self.f1,
            **rounded,
            "NMJE": float(np.round(normalised_error(rounded["MPJPE"], self.f1), 1)),
            "NMVE": float(np.round(normalised_error(rounded["MVE"], self.f1), 1)),
        }


def keypoint_iou(found: Array, truth: Array) -> Array:
    """IoU of boxes as AGORA counts it, a pixel wider and higher: (P, 4), (G, 4) to (P, G)."""
    check_shapes(found=(found, ("P", 4)), truth=(truth, ("G", 4)))
    a, b = found[:, None], truth[None]
    shared = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + 1
    overlap = np.maximum(shared, 0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2] + 1).prod(-1) for box in (a, b)]
    return overlap / (areas[0] + areas[1] - overlap)


def match_agora(found: AgoraFound, truth: AgoraTruth) -> Array:
    """Whom each truth of a frame is compared with; the rule is the module's.

    Returns:
        (G,) int64 row of the prediction, or -1.
    """
    chosen = np.full(len(truth.joints), -1, np.int64)
    usable = np.flatnonzero(_finite(found))
    if not len(usable) or not len(chosen):
        return chosen
    difference = found.joints_px[usable][:, None] - truth.joints_px[None]
    error = np.linalg.norm(difference, 2, axis=(-2, -1))  # (P, G) largest singular value
    near = keypoint_iou(found.boxes[usable], truth.boxes) >= MIN_IOU
    playing = truth.valid & (truth.occlusion >= 0) & (truth.occlusion <= MAX_OCCLUSION)
    free, out = np.ones(len(usable), bool), np.zeros(len(chosen), bool)
    used = 0
    for pair in error.argsort(axis=None, kind="stable"):
        if out.all() or used >= len(usable):
            break
        row, column = divmod(int(pair), len(chosen))
        if near[row, column] and (out[column] or not free[row]):
            continue
        if not near[row, column]:
            used += 1
        elif playing[column]:
            chosen[column] = usable[row]
            free[row], out[column] = False, True
            used += 1
        out[column] |= not playing[column]
    return chosen


def agora_errors(found: AgoraFound, truth: AgoraTruth) -> AgoraErrors:
    """Match a frame and measure whom it matched.

    Raises:
        ShapeError: arrays that don't belong together.
    """
    _check(found, truth)
    chosen = match_agora(found, truth)
    there = np.flatnonzero(chosen >= 0)
    rows = chosen[there]
    joint_error, vertex_error = np.full((2, len(chosen)), np.nan)
    if len(there):
        joints, known = found.joints[rows], truth.joints[there]
        roots = joints[:, HIPS].mean(1), known[:, HIPS].mean(1)
        joint_error[there] = mpjpe(joints - roots[0][:, None], known - roots[1][:, None], None)
        if found.vertices is not None:
            vertex_error[there] = pve(found.vertices[rows], truth.vertices[there], *roots)
    wrong = len(found.joints) - len(there)
    return AgoraErrors(chosen, joint_error, vertex_error, truth.valid, truth.kid, wrong)


def agora_scores(frames: Sequence[AgoraErrors], kids: bool = False) -> AgoraScores:
    """Figures over frames.

    Args:
        frames: of the whole set.
        kids: only children; false positives count in full all the same, as officially.
    """
    valid = _joined([f.valid & f.kid if kids else f.valid for f in frames], bool)
    matched = valid & (_joined([frame.chosen for frame in frames], np.int64) >= 0)
    errors = [_joined([getattr(frame, n) for frame in frames]) for n in ("mpjpe", "mve")]
    means = [1e3 * float(e[matched].mean()) if matched.any() else np.nan for e in errors]
    correct = int(matched.sum())
    wrong = sum(frame.wrong for frame in frames) if valid.any() else 0
    return AgoraScores(DetectionCounts(correct, wrong, int(valid.sum()) - correct), *means)


def _check(found: AgoraFound, truth: AgoraTruth) -> None:
    for people, count in ((found, "P"), (truth, "G")):
        check_shapes(
            joints_px=(people.joints_px, (count, JOINTS, 2)),
            boxes=(people.boxes, (count, 4)),
            joints=(people.joints, (count, JOINTS, 3)),
        )
    check_shapes(vertices=(truth.vertices, ("G", "B", 3)), truth=(truth.joints, ("G", JOINTS, 3)))
    if found.vertices is not None:
        check_shapes(
            truth=(truth.vertices, ("G", "B", 3)),
            found=(found.vertices, ("P", "B", 3)),
            joints=(found.joints, ("P", JOINTS, 3)),
        )
    marks = {name: (getattr(truth, name), ("G",)) for name in ("valid", "occlusion", "kid")}
    check_shapes(**marks, truth=(truth.joints, ("G", JOINTS, 3)))


def _finite(found: AgoraFound) -> Array:
    parts = [found.joints_px, found.boxes, found.joints]
    if found.vertices is not None:
        parts.append(found.vertices)
    return np.all([np.isfinite(part).all(tuple(range(1, part.ndim))) for part in parts], axis=0)


def _joined(parts: Sequence[Array], kind: type = float) -> Array:
    return np.concatenate([np.zeros(0, kind), *parts])
