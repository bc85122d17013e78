"""equations: the losses of the paper's equations 7 to 15, one small function each.

Every function takes predictions, truth and weights (0 = unknown) and gives one mean over what is
known, so a batch without labels costs nothing and still has a gradient. `form` says how far a
function follows the paper where this project departs from it; the reasons stand at each.
On several devices, means run over all of them, so that the loss is that of one large batch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, distributed

Form = Literal["paper", "robust"]

CERTAIN_DEPTH = 10.0  # [m]; beyond, depth is guesswork and counts less
FARTHEST_OFF = 2.0  # [m]; an error beyond that pulls no more
_SMOOTH = 1e-12  # under roots, so that they have a derivative at 0


def absolute_loss(
    found: Tensor, truth: Tensor, weight: Tensor, form: Form = "robust"
) -> Tensor:  # fmt: skip
    """First term of eq. 7: L1 of absolute points.

    An early network places people hundreds of metres away, and no picture tells 30 m from 31 m. So
    `robust` clamps every coordinate's error at 2 m and damps depth beyond 10 m.

    Args:
        found, truth: (N, J, 3) [m, camera frame].
        weight: (N, J).
    """
    error = (found - truth).abs()
    if form == "robust":
        error = error.clamp(max=FARTHEST_OFF)
        damping = CERTAIN_DEPTH / truth[:, :1, 2:].clamp(min=CERTAIN_DEPTH)
        error = torch.cat((error[..., :2], error[..., 2:] * damping), -1)
    return weighted_mean(error.sum(-1), weight)


def relative_loss(found: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Second term of eq. 7: L1 of points (N, J, 3) [m] less their mean under weight (N, J)."""
    error = centred(found, weight) - centred(truth, weight)
    return weighted_mean(error.abs().sum(-1), weight)


def image_loss(found: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Third term of eq. 7: L1 of image points (N, J, 2), in the unit that they come in."""
    return weighted_mean((found - truth).abs().sum(-1), weight)


def projection_loss(points: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Fourth term of eq. 7: L1 of the orthographic projection of points (N, J, 3).

    Args:
        points: any origin and scale.
        truth: (N, J, 2) image points.
        weight: (N, J).
    """
    return image_loss(fit_orthographic(points[..., :2], truth, weight), truth, weight)


def angle_loss(found: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Eq. 9: distance of (cos, sin) of twist angles (N, K, 2), under weight (N, K)."""
    return weighted_mean(lengths(found - truth), weight)


def shape_loss(found: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Eq. 10 and second term of eq. 12: distance of betas (N, 10), under weight (N,)."""
    return weighted_mean(lengths(found - truth), weight)


def pose_loss(found: Tensor, truth: Tensor, weight: Tensor, form: Form = "robust") -> Tensor:
    """First term of eq. 12: distance of poses, as rotation matrices (axis angles have jumps).

    `paper` takes the length of a person's whole pose vector; `robust` the mean over joints of each
    joint's, so that one lost limb does not quieten the others.

    Args:
        found, truth: (N, 24, 3, 3).
        weight: (N,).
    """
    error = (found - truth).flatten(2)
    if form == "paper":
        return weighted_mean(lengths(error.flatten(1)), weight)
    return weighted_mean(lengths(error), weight[:, None].expand(error.shape[:2]))


def points_loss(found: Tensor, truth: Tensor, weight: Tensor, form: Form = "robust") -> Tensor:
    """Either term of eq. 13: squared distance of points (N, J, D), under weight (N, J).

    `robust` takes the distance, not its square: else the few people whom the skeleton network lost
    outweigh all others.
    """
    if form == "paper":
        return weighted_mean((found - truth).square().sum(-1), weight)
    return weighted_mean(lengths(found - truth), weight)


def discriminator_loss(
    real: tuple[Tensor, ...], found: tuple[Tensor, ...], form: Form = "robust"
) -> Tensor:
    """Eq. 14: discriminators shall say 1 of real poses and shapes, 0 of estimated ones.

    Args:
        real, found: scores (N, S) of each discriminator.
        form: see `deceiving_loss`.
    """
    truths = [_score_error(scores, 1.0, form) for scores in real]
    lies = [_score_error(scores, 0.0, form) for scores in found]
    return torch.stack(truths + lies).sum()


def deceiving_loss(found: tuple[Tensor, ...], form: Form = "robust") -> Tensor:
    """Eq. 15: estimated poses and shapes shall be taken for real ones.

    `paper` takes the length of each discriminator's score vector, as the equation is written;
    `robust` the sum of squares, as HMR did: its pull fades as a pose becomes plausible.

    Args:
        found: scores (N, S) of each discriminator.
    """
    return torch.stack([_score_error(scores, 1.0, form) for scores in found]).sum()


def _score_error(scores: Tensor, wanted: float, form: Form) -> Tensor:
    squares = (scores - wanted).square().sum(-1)
    errors = (squares + _SMOOTH).sqrt() if form == "paper" else squares
    return weighted_mean(errors, torch.ones_like(errors))


def lengths(errors: Tensor) -> Tensor:
    """Lengths (...) of vectors (..., D), with a derivative at 0."""
    return (errors.square().sum(-1) + _SMOOTH).sqrt()


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of values (...) under weights (...); 0 where all weights are 0.

    With several processes the mean of what they return is the mean over all their values.
    """
    total, processes = weights.sum(), 1
    if distributed.is_available() and distributed.is_initialized():
        processes = distributed.get_world_size()
        total = total.detach().clone()
        distributed.all_reduce(total)
        total = total / processes
    return (values * weights).sum() / total.clamp(min=1.0 / processes)


def weighted_centre(points: Tensor, weight: Tensor) -> Tensor:
    """(N, 1, D) mean of each person's points (N, J, D) under weights (N, J)."""
    total = weight.sum(-1)[..., None, None].clamp(min=1e-6)
    return (points * weight[..., None]).sum(-2, keepdim=True) / total


def centred(points: Tensor, weight: Tensor) -> Tensor:
    """(N, J, D) points less the weighted mean (N, J) of each person."""
    return points - weighted_centre(points, weight)


def fit_orthographic(points: Tensor, pixels: Tensor, weight: Tensor) -> Tensor:
    """Pi of eq. 7: the scale and shift that lay points (N, J, 2) over pixels (N, J, 2) best.

    The fit is not differentiated through, so the network cannot please it by shrinking.
    """
    with torch.no_grad():
        shift = weighted_centre(pixels, weight)
        flat, target = centred(points, weight), pixels - shift
        across = (weight[..., None] * flat * target).sum((-2, -1))
        within = (weight[..., None] * flat.square()).sum((-2, -1))
        scale = (across / within.clamp(min=1e-4)).clamp(min=1.0)[:, None, None]
    return centred(points, weight) * scale + shift


def orthographic(points: Tensor, camera: Tensor, size: int) -> Tensor:
    """Pi of eq. 13: points (B, J, 3) [m] under camera (s, tx, ty) to (B, J, 2) [crop px]."""
    scale, shift = camera[:, None, :1], camera[:, None, 1:]
    return (scale * (points[..., :2] + shift) + 1) * (size / 2) - 0.5
