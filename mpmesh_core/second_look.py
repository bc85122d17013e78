"""second_look: people who lean, and people of whom the network is unsure, are looked at once more.

In   skeletons and crop cameras of the first look, the skeleton engine, pictures of crop cameras
Out  crop cameras and skeletons

Networks know upright people best. So where the torso leans by `LEAN_DEG` or more in the crop, the
camera turns about its own axis until the torso points up, and the surer reading counts. Where the
network is unsure then, the person is read in a mirror too, and both readings are averaged. Others
cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from mpmesh_core.crop import CropCameras
from mpmesh_core.doubles import distinct
from mpmesh_core.engines.base import Engine
from mpmesh_core.joints import POINTS
from mpmesh_core.mirror import averaged, read_crops, read_mirrored
from mpmesh_core.types import Skeletons

Pictures = Callable[[CropCameras], Tensor]

LEAN_DEG = 30.0
UNSURE = 0.52  # mean confidence of a person's points
SHORTEST = 0.1  # [m] of the torso across the line of sight; shorter ones point nowhere
_PELVIS, _NECK = POINTS.index("pelvis"), POINTS.index("neck")


def look_again(
    engine: Engine,
    boxes: Tensor,
    crops: CropCameras,
    skeletons: Skeletons,
    pictures: Pictures,
    mirror: bool = False,
    everybody: bool = False,
) -> tuple[CropCameras, Skeletons]:
    """Look once more at those who lean, then at those of whom the network is unsure.

    Args:
        engine: the skeleton network.
        boxes: (N, 4) [px], best first, at which the crop cameras look.
        crops: N crop cameras.
        skeletons: what it read there.
        pictures: what other crop cameras see, (K, 3, S, S) float32, RGB 0..255.
        mirror: everybody is read in a mirror too at every look, as in `read_crops`.
        everybody: read all again, also those whose first look stays: shapes and the number of
            kernels then do not depend on the people.

    Returns:
        Crop cameras and skeletons of N people. Where somebody would now be the double of another,
        which they were not at first, the first look stays.
    """
    before, first = crops, skeletons
    crops, skeletons = _upright(engine, crops, skeletons, pictures, mirror, everybody)
    if not mirror:
        skeletons = _steady(engine, crops, skeletons, pictures, everybody)
    if skeletons is first:
        return crops, skeletons
    return keep_strayed(boxes, (before, first), (crops, skeletons))


def keep_strayed(
    boxes: Tensor, before: tuple[CropCameras, Skeletons], after: tuple[CropCameras, Skeletons]
) -> tuple[CropCameras, Skeletons]:
    """Later looks, but the first one where somebody would become the double of another.

    Args:
        boxes: (N, 4) [px], best first.
        before: crop cameras and skeletons of the first look.
        after: those of the later ones.
    """
    (crops, skeletons), (first_crops, first) = after, before
    strayed = distinct(boxes, first, first_crops) & ~distinct(boxes, skeletons, crops)
    rows = torch.arange(len(boxes), device=boxes.device)
    camera = replaced(crops.R_crop_cam, first_crops.R_crop_cam, rows, strayed)
    return replace(crops, R_crop_cam=camera), merged(skeletons, first, rows, strayed)


def _upright(
    engine: Engine,
    crops: CropCameras,
    skeletons: Skeletons,
    pictures: Pictures,
    mirror: bool,
    everybody: bool,
) -> tuple[CropCameras, Skeletons]:
    """The surer (mean confidence) of the first look and an upright one; not finite: the first."""
    angle, leans = lean(skeletons)
    rows = rows_of(leans, everybody)
    if not len(rows):
        return crops, skeletons
    turned = turn(crops.take(rows), -angle[rows])
    again = read_crops(engine, pictures(turned), mirror)
    surer = again.confidence.mean(1) > skeletons.confidence[rows].mean(1)
    better = leans[rows] & surer
    camera = replaced(crops.R_crop_cam, turned.R_crop_cam, rows, better)
    return replace(crops, R_crop_cam=camera), merged(skeletons, again, rows, better)


def _steady(
    engine: Engine,
    crops: CropCameras,
    skeletons: Skeletons,
    pictures: Pictures,
    everybody: bool,
) -> Skeletons:
    """Unsure skeletons, averaged with what a mirror shows where that is finite."""
    unsure = skeletons.confidence.mean(1) < UNSURE
    rows = rows_of(unsure, everybody)
    if not len(rows):
        return skeletons
    in_mirror = read_mirrored(engine, pictures(crops.take(rows)))
    mean = averaged(skeletons.take(rows), in_mirror)
    return merged(skeletons, mean, rows, unsure[rows] & mean.confidence.mean(1).isfinite())


def rows_of(wanted: Tensor, everybody: bool) -> Tensor:
    """Indices of who is read again."""
    return torch.arange(len(wanted), device=wanted.device) if everybody else wanted.nonzero()[:, 0]


def merged(first: Skeletons, second: Skeletons, rows: Tensor, better: Tensor) -> Skeletons:
    """The first skeletons with those rows of the second (K,) that are better."""
    return Skeletons(
        **{
            field.name: replaced(
                getattr(first, field.name), getattr(second, field.name), rows, better
            )
            for field in fields(first)
        }
    )


def replaced(first: Tensor, second: Tensor, rows: Tensor, better: Tensor) -> Tensor:
    """`first` (N, ...) with those rows of `second` (K, ...) that are better."""
    chosen = torch.where(better.view(-1, *[1] * (first.ndim - 1)), second, first[rows])
    return first.index_copy(0, rows, chosen)


def lean(skeletons: Skeletons) -> tuple[Tensor, Tensor]:
    """How far each torso leans in its crop.

    Returns:
        Angle (N,) [rad], positive clockwise, 0 where it has no direction; and (N,) bool: whether
        it is as much as `LEAN_DEG`.
    """
    torso = skeletons.points3d[:, _NECK, :2] - skeletons.points3d[:, _PELVIS, :2]
    known = torso.square().sum(-1) > SHORTEST**2
    angle = torch.where(known, torch.atan2(torso[:, 0], -torso[:, 1]), 0.0)
    return angle, angle.abs() >= torch.pi * LEAN_DEG / 180


def turn(crops: CropCameras, angle: Tensor) -> CropCameras:
    """Crop cameras turned about their axes: what they show turns clockwise by angle (N,) [rad]."""
    cos, sin = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    about_z = torch.stack((cos, -sin, zero, sin, cos, zero, zero, zero, one), -1)
    return replace(crops, R_crop_cam=about_z.view(-1, 3, 3) @ crops.R_crop_cam)
