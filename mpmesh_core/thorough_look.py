"""thorough_look: a person seen in many ways, and what most of those readings agree on.

In   skeletons and crop cameras of the first look, the skeleton engine, pictures of crop cameras
Out  crop cameras and skeletons

Everybody is read in a mirror too. Where the network is unsure, the crop camera also turns about its
own axis, by `TURNS_DEG` from the first look and, where the torso leans, from the one in which it is
upright; each view is read straight and in a mirror. Readings of the wrong limb or side differ from
one another, right ones less. So a mean is taken in which readings count more the surer they are and
the nearer they come to it, as a whole and point by point. That makes two readings of whoever is
clear, six of others who stand upright, twelve of the rest. It is for single pictures; on videos it
takes too long.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mpmesh_core.crop import CropCameras
from mpmesh_core.engines.base import Engine
from mpmesh_core.mirror import read_both, read_mirrored
from mpmesh_core.second_look import Pictures, keep_strayed, lean, merged, replaced, rows_of, turn
from mpmesh_core.types import Skeletons

TURNS_DEG = (-30.0, 30.0)
SURE = 0.6  # mean confidence of the first look; from there on, more than a mirror gains nothing
ALREADY_DEG = 15.0  # a torso that leans less is upright in the first look
SURENESS = 10.0  # how much a difference in mean confidence counts, as an exponent
NEAR = 0.08  # [m]: a reading so much farther from the mean, over all points, counts 1/e
NEAR_POINT = 0.2  # [m], of a point alone
ROUNDS = 10  # of mean and weights; more change 1 of 20 by over 7 mm and gain nothing


@dataclass(frozen=True)
class _Look:
    """Readings of all N people from one camera each, in the first look's axes and pixels."""

    cameras: CropCameras
    straight: Skeletons
    in_mirror: Skeletons
    wanted: Tensor  # (N,) bool; the others' numbers mean nothing


def look_thoroughly(
    engine: Engine,
    boxes: Tensor,
    crops: CropCameras,
    skeletons: Skeletons,
    pictures: Pictures,
    everybody: bool = False,
) -> tuple[CropCameras, Skeletons]:
    """Read unclear people from many sides; arguments and results as of `second_look.look_again`."""
    angle, _ = lean(skeletons)
    unsure = ~(skeletons.confidence.mean(1) >= SURE)
    leans = unsure & (angle.abs() >= torch.pi * ALREADY_DEG / 180)
    in_mirror = read_mirrored(engine, pictures(crops))
    looks = [_Look(crops, skeletons, in_mirror, torch.ones_like(unsure))]
    turns = [(torch.full_like(angle, degrees), unsure) for degrees in TURNS_DEG]
    turns += [(degrees - torch.rad2deg(angle), leans) for degrees in (0.0, *TURNS_DEG)]
    for degrees, wanted in turns:
        if everybody or bool(wanted.any()):
            turned = torch.deg2rad(degrees)
            looks.append(_look(engine, crops, skeletons, pictures, turned, wanted, everybody))
    cameras, agreed, known = _agreed(looks)
    rows = torch.arange(len(boxes), device=boxes.device)
    after = merged(skeletons, agreed, rows, known)
    cameras = replace(crops, R_crop_cam=replaced(crops.R_crop_cam, cameras.R_crop_cam, rows, known))
    return keep_strayed(boxes, (crops, skeletons), (cameras, after))


def _look(
    engine: Engine,
    crops: CropCameras,
    first: Skeletons,
    pictures: Pictures,
    angle: Tensor,
    wanted: Tensor,
    everybody: bool,
) -> _Look:
    """Readings from cameras turned clockwise by angle (N,) [rad], of those wanted."""
    rows = rows_of(wanted, everybody)
    turned = turn(crops.take(rows), angle[rows])
    size = crops.size
    readings = [
        merged(first, _turned_back(reading, angle[rows], size), rows, wanted[rows])
        for reading in read_both(engine, pictures(turned))
    ]
    R = replaced(crops.R_crop_cam, turned.R_crop_cam, rows, wanted[rows])
    return _Look(replace(crops, R_crop_cam=R), readings[0], readings[1], wanted)


def _turned_back(skeletons: Skeletons, angle: Tensor, size: int) -> Skeletons:
    """What cameras turned clockwise by angle (N,) [rad] saw, as the unturned ones see it."""
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]

    def back(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return cos * x + sin * y, cos * y - sin * x

    middle = (size - 1) / 2
    points, pixels = skeletons.points3d, skeletons.points2d - middle
    return replace(
        skeletons,
        points3d=torch.stack((*back(points[..., 0], points[..., 1]), points[..., 2]), -1),
        points2d=torch.stack(back(pixels[..., 0], pixels[..., 1]), -1) + middle,
    )


def _agreed(looks: list[_Look]) -> tuple[CropCameras, Skeletons, Tensor]:
    """What the looks agree on, seen by each person's best camera, and for whom (N,) there is one.

    Features and heatmaps are those of the best straight reading.
    """
    readings = [reading for look in looks for reading in (look.straight, look.in_mirror)]
    points, pixels, confidence, twist, betas = (
        torch.stack([getattr(reading, name) for reading in readings])
        for name in ("points3d", "points2d", "confidence", "twist", "betas")
    )
    wanted = torch.stack([look.wanted for look in looks]).repeat_interleave(2, 0)
    known = wanted & confidence.mean(-1).isfinite() & points.flatten(2).isfinite().all(-1)
    shares = agreement(points, confidence, known)
    of_person = shares.mean(-1)
    best = of_person[::2].argmax(0)  # of the straight ones
    rows = torch.arange(len(best), device=best.device)
    straight = [look.straight for look in looks]
    agreed = Skeletons(
        points3d=_mean(points, shares),
        points2d=_mean(pixels, shares),
        confidence=_mean(confidence, shares),
        twist=F.normalize(_mean(twist, of_person), dim=-1),
        betas=_mean(betas, of_person),
        features=torch.stack([reading.features for reading in straight])[best, rows],
        heatmaps=torch.stack([reading.heatmaps for reading in straight])[best, rows],
    )
    first = looks[0].cameras
    R = torch.stack([look.cameras.R_crop_cam for look in looks])[best, rows]
    Z = R @ first.R_crop_cam.mT  # a turn about the camera's axis
    angle = torch.atan2(Z[:, 1, 0], Z[:, 0, 0])
    agreed = _turned_back(agreed, -angle, first.size)
    return replace(first, R_crop_cam=R), agreed, known.any(0)


def agreement(points: Tensor, confidence: Tensor, known: Tensor) -> Tensor:
    """How much each reading of a point counts.

    Args:
        points: (L, N, J, 3) [m] of L readings, all in the same axes.
        confidence: (L, N, J) in 0..1.
        known: (L, N) bool; the other readings count nothing, whatever is in them.

    Returns:
        (L, N, J), over the readings of a point 1 in sum; 0 where none is known.
    """
    confidence = torch.where(known[..., None], confidence, 0.0)
    points = torch.where(known[..., None, None], points, 0.0)
    total = confidence.mean(-1)
    surer = torch.exp(SURENESS * (total - total.amax(0))) * known
    shares = _shares(surer[..., None] * confidence)
    for _ in range(ROUNDS):
        away = (points - _mean(points, shares)).norm(dim=-1)
        near = torch.exp(-away.mean(-1, keepdim=True) / NEAR - away / NEAR_POINT)
        shares = _shares(surer[..., None] * near * confidence)
    return shares


def _shares(weights: Tensor) -> Tensor:
    """Weights (L, ...) over the readings as parts of 1."""
    return weights / weights.sum(0).clamp(min=1e-12)


def _mean(values: Tensor, shares: Tensor) -> Tensor:
    """Values (L, ...) by shares (L, ...) of their first axes; not finite ones count nothing."""
    missing = values.ndim - shares.ndim
    return (values.nan_to_num() * shares.view(*shares.shape, *[1] * missing)).sum(0)
