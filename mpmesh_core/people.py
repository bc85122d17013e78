"""people: from SMPL parameters to what leaves the line.

In   Bodies (camera frame), skeletons' confidence, boxes and scores, camera
Out  every field of Person as one tensor over the people, on their device (`describe`); then list of
     Person as numpy (`to_people`)
People whose numbers are not finite are left out.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import roma
import torch
from torch import Tensor

from mpmesh_core.body import BodyModel
from mpmesh_core.body.model import KeypointSet
from mpmesh_core.camera import Camera
from mpmesh_core.stages import to_stages
from mpmesh_core.types import Array, Bodies, Person, Skeletons

_KEYPOINTS: tuple[KeypointSet, KeypointSet] = ("coco17", "h36m17")
_FIELDS = [field.name for field in fields(Person)]


def describe(
    body: BodyModel, bodies: Bodies, skeletons: Skeletons, camera: Camera
) -> dict[str, Tensor]:
    """Describe N posed bodies.

    Args:
        body: the body model they are parameters of.
        bodies: N people.
        skeletons: their skeletons, for the joints' confidence.
        camera: projects joints to pixels.

    Returns:
        Fields of Person as (N, ...) float32 tensors, without `score`, `bbox` and `vertices`.
    """
    pose = bodies.rotations, bodies.betas
    at_origin = body(*pose, torch.zeros_like(bodies.transl), vertices=False)
    transl = bodies.transl.unsqueeze(1)
    joints = at_origin.joints + transl
    coco, h36m = (body.keypoints_of(at_origin, *pose, which) + transl for which in _KEYPOINTS)
    axis_angle = roma.rotmat_to_rotvec(bodies.rotations)  # (N, 24, 3)
    pixels = camera.project(torch.cat((joints, coco), 1).double()).float()
    return {
        "global_orient": axis_angle[:, 0],
        "body_pose": axis_angle[:, 1:].flatten(1),
        "betas": bodies.betas,
        "transl": bodies.transl,
        "joints": joints,
        "joints_2d": pixels[:, :24],
        "joint_confidence": skeletons.confidence[:, :24],
        "coco_2d": pixels[:, 24:],
        "h36m": h36m,
        "position": joints[:, 0],
        "position_covariance": bodies.covariance,
        "fit_residual": bodies.fit_residual,
    }


def to_people(numbers: dict[str, Array], usable: Array) -> list[Person]:
    """People from what `describe` says about them.

    Args:
        numbers: fields of `describe`, `boxes` (N, 4) [px], `scores` (N,), maybe `vertices` and what
            `stages` keeps; others do not count.
        usable: (N,) bool, who has a usable result.

    Returns:
        One Person for each usable one, in the order given.
    """
    good = usable & np.isfinite(numbers["joints"]).all((1, 2))
    described = {name: numbers[name] for name in _FIELDS if name in numbers}
    return [
        Person(
            score=float(numbers["scores"][i]),
            bbox=numbers["boxes"][i],
            stages=to_stages(numbers, int(i)),
            **{name: values[i] for name, values in described.items()},
        )
        for i in np.flatnonzero(good)
    ]
