"""losses: what the refiner is asked for (eq. 11-13 of the paper; `adversary` adds 14 and 15).

Every term is in metres or close to it and averages over people with that label; the equations
themselves are in `equations`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mpmesh_core.body import BodyModel
from mpmesh_core.placement import place
from mpmesh_core.refine import rotations_from_pose6d
from mpmesh_core.training.equations import (
    Form,
    orthographic,
    points_loss,
    pose_loss,
    shape_loss,
    weighted_mean,
)

CROP_METRES = 2.2  # what the width of a crop counts for, as in the skeleton network's metric box


@dataclass(frozen=True)
class RefinerLossWeights:
    """Weight of each term; the paper gives none."""

    # Made from settings, it refuses unknown keys.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    form: Form = "robust"  # how each term measures, see `equations`
    pose: float = 1.0  # eq. 12, first term, on rotation matrices
    shape: float = 0.05  # second
    points: float = 1.0  # eq. 13, first term
    image: float = 0.3  # second, in perspective: the body stands where its points fit best
    camera: float = 0.1  # second, orthographic as in the paper: this trains the camera
    stay: float = 0.01  # keeps the residual small where nothing else speaks
    adversarial: float = 0.0  # eq. 15; needs `real_poses`


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
    deceive: Callable[[Tensor, Tensor], Tensor] | None = None,
    size: int = 256,
) -> dict[str, Tensor]:
    """All terms of L_Ref, weighted; their sum is the loss.

    Args:
        refined: outputs of the refiner for B people.
        start: its inputs `pose6d`, `betas`, `camera`.
        truth: of the same people.
        body: the body model that poses and shapes speak of.
        weights: of the terms.
        deceive: eq. 15 of rotations (B, 24, 3, 3) and betas, where it counts.
        size: side of the crops [px].
    """
    pose6d, betas = refined["refined_pose6d"].float(), refined["refined_betas"].float()
    rotations = rotations_from_pose6d(pose6d, truth.rotations)
    zero = torch.zeros_like(betas[:, :3])
    # Shape learns from its own truth alone: under an uncertain pose, points call for a dwarf.
    shape = betas if weights.form == "paper" else betas.detach()
    points = body(rotations, shape, zero, vertices=False).points
    coco = body.keypoints(rotations, shape, zero, "coco17") - points[:, :1]
    points = points - points[:, :1]
    pixel = CROP_METRES / size
    known, seen = truth.weight_3d, truth.weight_2d[:, None].expand(-1, points.shape[1])
    flat = orthographic(points, refined["refined_camera"].float(), size)
    marked, form = truth.coco[..., 2], weights.form
    standing = _reprojected(points, truth.pixels, seen, truth.K, size)
    keypoints = _reprojected(coco, truth.coco[..., :2], marked, truth.K, size)
    moved = (pose6d - start["pose6d"]).square().mean((1, 2))
    moved = moved + (betas - start["betas"]).square().mean(1)
    errors = {
        "pose": pose_loss(rotations, truth.rotations, known, form),
        "shape": shape_loss(betas, truth.betas, known),
        "points": points_loss(points, truth.points, known[:, None].expand_as(seen), form),
        "image": points_loss(pixel * standing, pixel * truth.pixels, seen, form)
        + points_loss(pixel * keypoints, pixel * truth.coco[..., :2], marked, form),
        "camera": points_loss(pixel * flat, pixel * truth.pixels, seen, form),
        "stay": weighted_mean(moved, torch.ones_like(moved)),
    }
    if deceive is not None:
        errors["adversarial"] = deceive(rotations, betas)
    return {name: getattr(weights, name) * error for name, error in errors.items()}


def _reprojected(points: Tensor, pixels: Tensor, weight: Tensor, K: Tensor, size: int) -> Tensor:
    """Pixels (B, J, 2) of pelvis-relative points that stand where they fit the labels best."""
    root = place(points, pixels, weight, K, size=size).root
    return projected(points + root.unsqueeze(1), K)


def projected(points: Tensor, K: Tensor) -> Tensor:
    """Pixels (B, J, 2) of points (B, J, 3) [m, crop cameras], as if none were nearer than 0.1 m."""
    seen = points @ K.mT
    return seen[..., :2] / seen[..., 2:].clamp_min(0.1)
