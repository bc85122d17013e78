"""skeleton_losses: what the skeleton network is asked for (eq. 6-10 of the paper).

Pixel errors are scaled by box / crop side, so that a metre in the metric volume and its image in a
person-filling crop weigh alike. Every mean runs over known labels only (weight 0 = unknown); a
batch without any gives zero, and still a gradient path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mpmesh_core.joints import POINT_PARENTS
from mpmesh_core.networks.point_head import PointMaps
from mpmesh_core.networks.skeleton import CONFIDENCE_SCALE_PX, EXTRA_POINTS
from mpmesh_core.placement import place
from mpmesh_core.training.equations import (
    Form,
    absolute_loss,
    angle_loss,
    image_loss,
    projection_loss,
    relative_loss,
    shape_loss,
    weighted_centre,
    weighted_mean,
)

_SPREAD_METRES, _SPREAD_PX = 0.14, 9.0  # wanted width of heatmaps; px of a 256 px crop
_LOG_CONFIDENCE_PX = math.log(CONFIDENCE_SCALE_PX)


@dataclass(frozen=True)
class LossWeights:
    """Weight of each term; the paper gives none."""

    # Made from settings, it refuses unknown keys.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    form: Form = "robust"  # how the absolute term measures, see `equations`
    relative: float = 1.0  # eq. 7, second term
    bones: float = 1.0  # the same on the vectors between neighbours, of the final points
    final: float = 1.0  # on both, of the points that the network gives out; 0: they are aims
    image: float = 1.0  # third
    projection: float = 0.3  # fourth
    absolute: float = 0.1  # first; not before `SkeletonTraining.absolute_from`
    twist: float = 0.2  # eq. 9
    shape: float = 0.1  # eq. 10
    posed: float = 0.0  # eq. 13, first term, of the body after inverse kinematics
    standing: float = 0.0  # second, where the line stands that body
    likelihood: float = 0.02  # of the 2D errors under the predicted scale
    spread: float = 0.1  # of heatmaps around the true points
    extra: float = 0.5  # on all terms of the training-only conventions


def point_losses(
    maps: PointMaps, points3d: Tensor, points2d: Tensor, pixel: float
) -> dict[str, Tensor]:
    """Losses of one convention.

    Args:
        maps: predictions for J points.
        points3d: (N, J, 4) x, y, z [m], weight.
        points2d: (N, J, 3) u, v [crop px], weight.
        pixel: metres that a pixel counts for.
    """
    weight3d, weight2d = points3d[..., 3], points2d[..., 2]
    error2d = maps.points2d - points2d[..., :2]
    offset = weighted_centre(maps.points3d.detach() - points3d[..., :3], weight3d)
    moved, width = points3d[..., :3] + offset, _SPREAD_PX * (2.2 / 256) / pixel
    return {
        "spread": spread_loss(maps.marginals3d, maps.centres3d, moved, _SPREAD_METRES, weight3d)
        + spread_loss(maps.marginals2d, maps.centres2d, points2d[..., :2], width, weight2d),
        "relative": relative_loss(maps.points3d, points3d[..., :3], weight3d),
        "image": image_loss(maps.points2d, points2d[..., :2], weight2d) * pixel,
        "projection": projection_loss(maps.points3d, points2d[..., :2], weight2d) * pixel,
        "likelihood": likelihood_loss(error2d, maps.log_scale, weight2d, pixel),
    }


def final_losses(
    found: dict[str, Tensor], points3d: Tensor, points2d: Tensor, pixel: float
) -> dict[str, Tensor]:
    """Losses of the points that the network gives out.

    Args:
        found: `points3d` (N, 29, 3), `points2d` (N, 29, 2), `confidence` (N, 29).
        points3d, points2d, pixel: as in `point_losses`.
    """
    weight3d, weight2d = points3d[..., 3], points2d[..., 2]
    error3d, parents = found["points3d"] - points3d[..., :3], list(POINT_PARENTS[1:])
    bones = error3d[:, 1:] - error3d[:, parents]
    error2d = found["points2d"] - points2d[..., :2]
    log_scale = (1 / found["confidence"].clamp(1e-4, 1 - 1e-4) - 1).log() + _LOG_CONFIDENCE_PX
    return {
        "relative": relative_loss(found["points3d"], points3d[..., :3], weight3d),
        "bones": weighted_mean(
            bones.abs().sum(-1), torch.minimum(weight3d[:, 1:], weight3d[:, parents])
        ),
        "image": image_loss(found["points2d"], points2d[..., :2], weight2d) * pixel,
        "likelihood": likelihood_loss(error2d, log_scale, weight2d, pixel),
    }


def likelihood_loss(error2d: Tensor, log_scale: Tensor, weight: Tensor, pixel: float) -> Tensor:
    """How badly predicted scales (N, J) explain 2D errors (N, J, 2); the errors get no gradient."""
    distance = error2d.detach().norm(dim=-1) * pixel * (256 / 2.2)  # [px] of a 256 px crop
    return weighted_mean(distance * torch.exp(-log_scale) + log_scale, weight)


def skeleton_losses(
    found: dict[str, Tensor],
    maps: dict[str, PointMaps],
    labels: dict[str, Tensor],
    weights: LossWeights,
    size: int,
    absolute: bool = False,
) -> dict[str, Tensor]:
    """All terms of L_P and L_TS, weighted; their sum is the loss.

    Args:
        found: outputs of the network.
        maps: its points in every convention, "points" among them.
        labels: a batch as `PeopleStore.crop` describes it.
        size: side of the crops [px].
        absolute: whether the absolute term counts yet.
    """
    pixel = 2.2 / size
    terms = output_losses(found, labels, weights, size)
    for name, points in maps.items():
        share = weights.extra if name in EXTRA_POINTS else 1.0
        losses = point_losses(points, labels[f"{name}3d"], labels[f"{name}2d"], pixel)
        terms |= {f"{k}_{name}": v * share * getattr(weights, k) for k, v in losses.items()}
    nothing = labels["betas"].new_zeros(())
    error = placed_loss(found, labels, size, weights.form) if absolute else nothing
    terms["absolute"] = error * weights.absolute
    return terms


def output_losses(
    found: dict[str, Tensor], labels: dict[str, Tensor], weights: LossWeights, size: int
) -> dict[str, Tensor]:
    """The terms of what the network gives out, weighted; arguments as of `skeleton_losses`."""
    losses = final_losses(found, labels["points3d"], labels["points2d"], 2.2 / size)
    share = {"relative": weights.final, "bones": weights.final}
    terms = {
        f"{name}_final": value * getattr(weights, name) * share.get(name, 1.0)
        for name, value in losses.items()
    }
    twist, betas = labels["twist"], labels["betas"]
    terms["twist"] = weights.twist * angle_loss(found["twist"], twist[..., :2], twist[..., 2])
    terms["shape"] = weights.shape * shape_loss(found["betas"], betas[:, :10], betas[:, 10])
    return terms


def placed_loss(
    found: dict[str, Tensor], labels: dict[str, Tensor], size: int, form: Form = "robust"
) -> Tensor:
    """`absolute_loss` of the skeleton where `placement` stands it."""
    weight = found["confidence"].detach().square()
    placed = place(found["points3d"], found["points2d"], weight, labels["K"], size=size)
    truth = labels["points3d"][..., :3]
    root, trust = labels["root"][:, None, :3], labels["root"][:, 3] * placed.ok
    truth = truth - truth[:, :1] + root
    points = found["points3d"] + placed.root[:, None]
    return absolute_loss(points, truth, labels["points3d"][..., 3] * trust[:, None], form)


def spread_loss(
    marginals: tuple[Tensor, ...],
    centres: tuple[Tensor, ...],
    truth: Tensor,
    width: float,
    weight: Tensor,
) -> Tensor:
    """How far heatmaps are from normal distributions around the truth (KL divergence).

    A soft-argmax alone says where the mean should be; this says so to every cell, and learns
    several times faster in the beginning.

    Args:
        marginals: per axis (N, J, cells), each sums to 1.
        centres: per axis (cells,), coordinates of the cells.
        truth: (N, J, axes), in the unit of the centres.
        width: standard deviation that the heatmaps should have; never below half a cell.
        weight: (N, J).
    """
    errors = truth.new_zeros(truth.shape[:-1])
    for axis, (found, cells) in enumerate(zip(marginals, centres)):
        deviation = (0.6 * (cells[1] - cells[0])).clamp(min=width)
        wanted = -0.5 * ((cells - truth[..., axis : axis + 1]) / deviation).square()
        target = wanted.log_softmax(-1)
        errors = errors + (target.exp() * (target - (found + 1e-9).log())).sum(-1)
    return weighted_mean(errors, weight)
