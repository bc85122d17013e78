"""evaluation.metrics: how far predictions lie from the truth; pure functions on numpy arrays.

Leading dimensions are free; every element is measured alone, so one bad person never changes
another's number. Distances come out in the unit that went in (metres here), NaN where the input
has none.
"""

from __future__ import annotations

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
    """
    check_shapes(predicted=(predicted, (..., "J", 3)), truth=(truth, (..., "J", 3)))
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
    check_shapes(predicted=(predicted, (..., "J", 3)), truth=(truth, (..., "J", 3)))
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
    scale = (S * sign).sum(-1) / np.maximum(variance, 1e-12)
    aligned = scale[..., None, None] * source @ np.swapaxes(rotation, -1, -2) + centre
    return np.where(mask, aligned, np.nan)


def pa_mpjpe(predicted: Floats, truth: Floats) -> Floats:
    """Mean per-joint error after `procrustes_align`: (..., J, 3) twice to (...)."""
    return mpjpe(procrustes_align(predicted, truth), truth, root=None)


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
        predicted=(predicted, (..., "J", 2)),
        truth=(truth, (..., "J", 2)),
        weight=(weight, (..., "J")),
    )
    error = np.linalg.norm(predicted - truth, axis=-1)
    hit = (error <= at * np.asarray(reference)[..., None]) & (weight > 0)
    known = (weight > 0).sum(-1)
    return np.where(known > 0, hit.sum(-1) / np.maximum(known, 1), np.nan)
