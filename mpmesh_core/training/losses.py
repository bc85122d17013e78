"""losses: what the refiner is asked for (eq. 11-13 of the paper, without the discriminators).

Norms instead of squares, so that the few people whom the skeleton network lost do not outweigh all
others. Every term is in metres or close to it and averages over people with that label.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mpmesh_core.body import BodyModel
from mpmesh_core.placement import place
from mpmesh_core.refine import rotations_from_pose6d

CROP_METRES = 2.2  # what the width of a crop counts for, as in the skeleton network's metric box


@dataclass(frozen=True)
class RefinerLossWeights:
    """Weight of each term."""

    pose: float = 1.0  # eq. 12, first term, on rotation matrices
    shape: float = 0.05  # second
    points: float = 1.0  # eq. 13, first term
    image: float = 0.3  # second, in perspective: the body stands where its points fit best
    camera: float = 0.1  # second, orthographic as in the paper: this trains the camera
    stay: float = 0.01  # keeps the residual small where nothing else speaks


@dataclass(frozen=True)
class RefinerTruth:
    """What is known of B people, in their crop cameras."""

    rotations: Tensor  # (B, 24, 3, 3)
    betas: Tensor  # (B, 10)
    points: Tensor  # (B, 29, 3) [m], pelvis-relative
    weight_3d: Tensor  # (B,) trust in the three above
    pixels: Tensor  # (B, 29, 2) [crop px]
    weight_2d: Tensor  # (B,) trust in them
    coco: Tensor  # (B, 17, 3) labelled u, v [crop px], weight
    K: Tensor  # (B, 3, 3) [crop px]


def refiner_losses(
    refined: dict[str, Tensor],
    start: dict[str, Tensor],
    truth: RefinerTruth,
    body: BodyModel,
    weights: RefinerLossWeights,
    size: int = 256,
) -> dict[str, Tensor]:
    """All terms of L_Ref, weighted; their sum is the loss.

    Args:
        refined: outputs of the refiner for B people.
        start: its inputs `pose6d`, `betas`, `camera`.
        truth: of the same people.
        body: the body model that poses and shapes speak of.
        weights: of the terms.
        size: side of the crops [px].
    """
    pose6d, betas = refined["refined_pose6d"].float(), refined["refined_betas"].float()
    rotations = rotations_from_pose6d(pose6d, truth.rotations)
    zero = torch.zeros_like(betas[:, :3])
    # Shape learns from its own truth alone: under an uncertain pose, points call for a dwarf.
    shape = betas.detach()
    points = body(rotations, shape, zero, vertices=False).points
    coco = body.keypoints(rotations, shape, zero, "coco17") - points[:, :1]
    points = points - points[:, :1]
    pixel = CROP_METRES / size
    known, seen = truth.weight_3d, truth.weight_2d[:, None].expand(-1, points.shape[1])
    flat = orthographic(points, refined["refined_camera"].float(), size)
    errors = {
        "pose": _mean((rotations - truth.rotations).flatten(2), known[:, None].expand(-1, 24)),
        "shape": _mean(betas - truth.betas, known),
        "points": _mean(points - truth.points, known[:, None].expand_as(seen)),
        "image": pixel
        * (
            _mean(_reprojection(points, truth.pixels, seen, truth.K), seen)
            + _mean(_reprojection(coco, truth.coco[..., :2], truth.coco[..., 2], truth.K),
                    truth.coco[..., 2])
        ),
        "camera": pixel * _mean(flat - truth.pixels, seen),
        "stay": (pose6d - start["pose6d"]).square().mean()
        + (betas - start["betas"]).square().mean(),
    }  # fmt: skip
    return {name: getattr(weights, name) * error for name, error in errors.items()}


def orthographic(points: Tensor, camera: Tensor, size: int) -> Tensor:
    """Pi of eq. 13: points (B, J, 3) [m] under camera (s, tx, ty) to (B, J, 2) [crop px]."""
    scale, shift = camera[:, None, :1], camera[:, None, 1:]
    return (scale * (points[..., :2] + shift) + 1) * (size / 2) - 0.5


def _reprojection(points: Tensor, pixels: Tensor, weight: Tensor, K: Tensor) -> Tensor:
    """Error (B, J, 2) [px] of pelvis-relative points that stand where they fit the pixels best."""
    root = place(points, pixels, weight, K).root
    standing = points + root.unsqueeze(1)
    projected = standing @ K.mT
    return projected[..., :2] / projected[..., 2:].clamp_min(0.1) - pixels


def _mean(errors: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of the lengths of errors (..., D); 0 where nothing has a weight."""
    lengths = (errors.square().sum(-1) + 1e-12).sqrt()
    return (lengths * weight).sum() / weight.sum().clamp_min(1.0)
