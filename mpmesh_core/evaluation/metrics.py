"""evaluation.metrics: how far predictions lie from the truth; pure functions on numpy arrays.

Leading dimensions are free, but the same of all that is compared; every element is measured alone,
so one bad person never changes another's number. Distances come out in the unit that went in
(metres here), NaN where the input has none. Who is compared with whom is decided elsewhere:
`agora`, `mupots`, `threedpw`, `matching`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpmesh_core.checks import check_shapes

Floats = NDArray[np.float64]


def mpjpe(predicted: Floats, truth: Floats, root: int | None = 0) -> Floats:
    """Mean per-joint position error.

    Args:
        predicted: (..., J, 3).
        truth: (..., J, 3).
        root: joint that both are moved onto first; None compares absolute positions.

    Returns:
        (...) mean distance.

    Example:
        >>> truth = np.zeros((24, 3))
        >>> moved = truth + [3.0, 4.0, 0.0]
        >>> float(mpjpe(moved, truth)), float(mpjpe(moved, truth, root=None))
        (0.0, 5.0)
    """
    check_shapes(predicted=(predicted, ("...P", "J", 3)), truth=(truth, ("...P", "J", 3)))
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if root is not None:
        predicted = predicted - predicted[..., root : root + 1, :]
        truth = truth - truth[..., root : root + 1, :]
    return np.linalg.norm(predicted - truth, axis=-1).mean(-1)


def procrustes_align(predicted: Floats, truth: Floats) -> Floats:
    """Move each predicted point set onto its truth by rotation, translation and scale.

    Never a reflection. A set of coincident points has no scale: it lands on the truth's centre.

    Args:
        predicted: (..., J, 3).
        truth: (..., J, 3).

    Returns:
        (..., J, 3) aligned prediction; NaN for elements with non-finite input.

    Source: Umeyama 1991, least-squares similarity.
    """
    check_shapes(predicted=(predicted, ("...P", "J", 3)), truth=(truth, ("...P", "J", 3)))
    finite = np.isfinite(predicted).all((-1, -2)) & np.isfinite(truth).all((-1, -2))
    mask = np.expand_dims(finite, (-2, -1))
    source = np.where(mask, predicted, 0.0).astype(np.float64)
    target = np.where(mask, truth, 0.0).astype(np.float64)
    centre = target.mean(-2, keepdims=True)
    source = source - source.mean(-2, keepdims=True)
    target = target - centre
    U, S, Vt = np.linalg.svd(np.swapaxes(target, -1, -2) @ source)
    mirrored = np.linalg.det(U @ Vt) < 0
    sign = np.ones_like(S)
    sign[..., 2] = np.where(mirrored, -1.0, 1.0)
    rotation = (U * sign[..., None, :]) @ Vt
    variance = (source**2).sum((-1, -2))
    scale = (S * sign).sum(-1) / np.where(variance > 0, variance, 1.0)
    aligned = scale[..., None, None] * source @ np.swapaxes(rotation, -1, -2) + centre
    return np.where(mask, aligned, np.nan)


def pa_mpjpe(predicted: Floats, truth: Floats) -> Floats:
    """Mean per-joint error after `procrustes_align`: (..., J, 3) twice to (...)."""
    return mpjpe(procrustes_align(predicted, truth), truth, root=None)


def joint_errors(predicted: Floats, truth: Floats) -> Floats:
    """Distance of each point from its truth: (..., J, 3) or (..., J, 2) twice to (..., J)."""
    check_shapes(predicted=(predicted, ("...P", "J", "D")), truth=(truth, ("...P", "J", "D")))
    return np.linalg.norm(np.subtract(predicted, truth, dtype=np.float64), axis=-1)


def pve(predicted: Floats, truth: Floats, predicted_root: Floats, true_root: Floats) -> Floats:
    """Mean per-vertex error (PVE, also MVE or MPVPE) after moving both roots together.

    Args:
        predicted: (..., V, 3) mesh.
        truth: (..., V, 3) mesh of the same topology.
        predicted_root: (..., 3), such as the pelvis; zeros compare absolute positions.
        true_root: (..., 3).

    Returns:
        (...) mean distance.

    Example:
        >>> mesh, pelvis = np.ones((6890, 3)), np.ones(3)
        >>> float(pve(mesh + 2.0, mesh, pelvis + 2.0, pelvis))
        0.0
    """
    check_shapes(
        predicted=(predicted, ("...P", "V", 3)),
        truth=(truth, ("...P", "V", 3)),
        predicted_root=(predicted_root, ("...P", 3)),
        true_root=(true_root, ("...P", 3)),
    )
    shift = np.subtract(predicted_root, true_root, dtype=np.float64)
    off = np.subtract(predicted, truth, dtype=np.float64) - shift[..., None, :]
    return np.linalg.norm(off, axis=-1).mean(-1)


def pck3d(errors: Floats, at: float) -> Floats:
    """3DPCK: share of joints strictly nearer to their truth than a threshold.

    Args:
        errors: (..., J) distances; NaN and infinity are never near.
        at: the threshold, in the unit of `errors`; 150 mm by custom.

    Returns:
        (...) share in 0..1.

    Example:
        >>> float(pck3d(np.array([0.0, 149.9, 150.0, np.nan]), 150.0))
        0.5

    Source: Mehta et al. 2017, Monocular 3D human pose estimation in the wild.
    """
    check_shapes(errors=(errors, (..., "J")))
    return (errors < at).mean(-1)


def auc3d(errors: Floats, thresholds: Floats) -> Floats:
    """Area under the curve of 3DPCK: its mean over thresholds.

    Args:
        errors: (..., J) distances.
        thresholds: (T,) in the same unit; 0, 5, ..., 150 mm by custom.

    Returns:
        (...) in 0..1; below 1 even for a perfect prediction where a threshold is 0.

    Example:
        >>> float(auc3d(np.zeros(14), np.arange(0.0, 151.0, 5.0)).round(4))
        0.9677
    """
    check_shapes(errors=(errors, (..., "J")), thresholds=(thresholds, ("T",)))
    return (np.asarray(errors)[..., None] < thresholds).mean((-2, -1))


@dataclass(frozen=True)
class DetectionCounts:
    """How many people were found, invented and missed.

    Example:
        >>> counts = DetectionCounts(correct=6, wrong=2, missed=4)
        >>> counts.precision, counts.recall, round(counts.f1, 3)
        (0.75, 0.6, 0.667)
    """

    correct: int  # true positives
    wrong: int  # false positives
    missed: int  # false negatives

    @property
    def precision(self) -> float:
        """Share of the found that are right; 0 where nobody was found."""
        found = self.correct + self.wrong
        return self.correct / found if found else 0.0

    @property
    def recall(self) -> float:
        """Share of the people that were found; 0 where there are none."""
        people = self.correct + self.missed
        return self.correct / people if people else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where nobody was found or is there."""
        weight = self.correct + 0.5 * (self.wrong + self.missed)
        return self.correct / weight if weight else 0.0


def normalised_error(error: float, f1: float) -> float:
    """Error over F1, so that leaving out hard people doesn't pay: NMJE of MPJPE, NMVE of MVE.

    Returns:
        The quotient; NaN for an unknown error, infinity where F1 is 0.

    Example:
        >>> normalised_error(80.0, 0.8)
        100.0

    Source: Patel et al. 2021, AGORA, section 5.
    """
    if f1 == 0:
        return float("nan") if np.isnan(error) else float("inf")
    return error / f1


def pck(predicted: Floats, truth: Floats, weight: Floats, reference: Floats, at: float) -> Floats:
    """Share of keypoints that lie within `at` times a reference length of the truth.

    Args:
        predicted: (..., J, 2) [px].
        truth: (..., J, 2) [px].
        weight: (..., J), 0 for keypoints without truth.
        reference: (...) length [px], such as the torso's.
        at: share of the reference that still counts as right.

    Returns:
        (...) share in 0..1; NaN where no keypoint has truth.
    """
    check_shapes(
        predicted=(predicted, ("...P", "J", 2)),
        truth=(truth, ("...P", "J", 2)),
        weight=(weight, ("...P", "J")),
        reference=(np.asarray(reference), ("...P",)),
    )
    error = np.linalg.norm(np.subtract(predicted, truth, dtype=np.float64), axis=-1)
    hit = (error <= at * np.asarray(reference)[..., None]) & (weight > 0)
    known = (weight > 0).sum(-1)
    return np.where(known > 0, hit.sum(-1) / np.maximum(known, 1), np.nan)
