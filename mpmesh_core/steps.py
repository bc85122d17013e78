"""steps: the people's part of the line, one function a step, in their order.

A step is a function of tensors and the line's dataclasses; what else it needs comes first, so that
the pipeline can give it once, time the step, and on a GPU compile it (`fusing`). The mathematics is
in the modules named here.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from mpmesh_core import pose
from mpmesh_core.body import BodyModel
from mpmesh_core.camera import Camera
from mpmesh_core.configuration import SecondLook
from mpmesh_core.crop import CropCameras, crop_images, look_at
from mpmesh_core.doubles import distinct
from mpmesh_core.engines import Engine
from mpmesh_core.hidden_look import look_behind
from mpmesh_core.ik import IKResult
from mpmesh_core.limbs import keep_limbs
from mpmesh_core.mirror import read_crops
from mpmesh_core.people import describe
from mpmesh_core.refine import refine as refine_poses
from mpmesh_core.second_look import look_again
from mpmesh_core.thorough_look import look_thoroughly
from mpmesh_core.types import Array, Bodies, Skeletons
from mpmesh_core.warp import warp_crops


def crop(camera: Camera, picture: Array | Tensor, boxes: Tensor) -> tuple[CropCameras, Tensor]:
    """Crop cameras that look at boxes (N, 4) [px], and what they see."""
    crops = look_at(boxes, camera)
    return crops, pictures(picture, camera, crops)


def pictures(picture: Array | Tensor, camera: Camera, crops: CropCameras) -> Tensor:
    """(N, 3, S, S) float32 pictures of crop cameras, sampled where the picture lies."""
    if isinstance(picture, Tensor):
        return warp_crops(picture, camera, crops)
    return crop_images(picture, camera, crops).float()


def read(
    engine: Engine,
    looks: SecondLook,
    mirror: bool,
    camera: Camera,
    picture: Array | Tensor,
    boxes: Tensor,
    crops: CropCameras,
    pixels: Tensor,
) -> tuple[CropCameras, Skeletons]:
    """Skeletons of the people in crops, and the cameras in which they stand after other looks."""
    mirror = mirror and looks != "thorough"  # which does so anyway
    skeletons = read_crops(engine, pixels, mirror)
    if looks == "off":
        return crops, skeletons
    see, fixed = partial(pictures, picture, camera), isinstance(picture, Tensor)
    if looks == "on":
        return look_again(engine, boxes, crops, skeletons, see, mirror, everybody=fixed)
    crops, skeletons = look_thoroughly(engine, boxes, crops, skeletons, see, everybody=fixed)
    return crops, look_behind(engine, boxes, crops, skeletons, see, everybody=fixed)


def place(boxes: Tensor, skeletons: Skeletons, crops: CropCameras) -> tuple[Tensor, Tensor, Tensor]:
    """(N,) bool, who is no double; points (N, 29, 3) and pelvis (N, 3) [m], crop camera frames.

    The pelvis is NaN for doubles and empty places.
    """
    one_each, points = distinct(boxes, skeletons, crops), pose.absolute_points(skeletons, crops)
    there = (one_each & crops.ok).unsqueeze(1)
    return one_each, points, torch.where(there, points[:, 0], torch.nan)


def solve(body: BodyModel, points: Tensor, skeletons: Skeletons) -> IKResult:
    """Inverse kinematics towards placed points."""
    return pose.solve_pose(points, skeletons, body)


def refine(
    engine: Engine,
    body: BodyModel,
    context: int,
    skeletons: Skeletons,
    rotations: Tensor,
    roots: Tensor,
    crops: CropCameras,
) -> tuple[Tensor, Tensor]:
    """Refined rotations (N, 24, 3, 3), and (N,) bool, who could be refined."""
    given = skeletons, rotations, skeletons.betas, roots, crops
    refined, _, ok = refine_poses(engine, *given, context)
    return keep_limbs(refined, rotations, skeletons.betas, body), ok


def stand(
    body: BodyModel,
    camera: Camera,
    focal: float,
    rotations: Tensor,
    skeletons: Skeletons,
    crops: CropCameras,
    one_each: Tensor,
    solved: Tensor,
) -> tuple[Bodies, dict[str, Tensor]]:
    """Bodies in the camera's frame, and what is told of them.

    That is fields of `describe`, and (N,) bool `usable` and `finite` (the skeleton network gave
    numbers); `one_each` and `solved` say who is no double, and for whom inverse kinematics worked.
    """
    bodies, placed = pose.stand(rotations, skeletons.betas, skeletons, crops, body, focal)
    finite = solved & skeletons.points2d.isfinite().flatten(1).all(1)
    told = {"usable": one_each & solved & placed, "finite": finite}
    return bodies, describe(body, bodies, skeletons, camera) | told
