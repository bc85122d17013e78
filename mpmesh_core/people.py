"""people: from SMPL parameters to what leaves the line.

In   Bodies (camera frame), skeletons' confidence, detections, camera
Out  list of Person: joints, keypoints and, where asked for, vertices of the final mesh, as numpy
One transfer from the device for everything; people whose numbers are not finite are left out.
"""

from __future__ import annotations

import numpy as np
import roma
from torch import Tensor

from mpmesh_core.body import BodyModel
from mpmesh_core.camera import Camera
from mpmesh_core.types import Bodies, Detections, Person, Skeletons


def people_from_bodies(
    body: BodyModel,
    bodies: Bodies,
    ok: Tensor,
    skeletons: Skeletons,
    detections: Detections,
    camera: Camera,
    vertices: bool = False,
) -> list[Person]:
    """Describe N posed bodies.

    Args:
        body: the body model they are parameters of.
        bodies: N people.
        ok: (N,) bool, who has a usable result.
        skeletons: their skeletons, for the joints' confidence.
        detections: their boxes and scores.
        camera: projects joints to pixels.
        vertices: compute the meshes too.

    Returns:
        One Person for each ok one, in the order given.
    """
    fields = _tensors(body, bodies, skeletons, vertices)
    arrays = {name: tensor.cpu().numpy() for name, tensor in fields.items()}
    joints_2d = camera.project(arrays["joints"])
    coco_2d = camera.project(arrays["coco"])
    good = ok.cpu().numpy() & np.isfinite(arrays["joints"]).all((1, 2))
    return [
        Person(
            score=float(detections.scores[i]),
            bbox=detections.boxes[i],
            joints_2d=joints_2d[i],
            coco_2d=coco_2d[i],
            **{name: values[i] for name, values in arrays.items() if name != "coco"},
        )
        for i in np.flatnonzero(good)
    ]


def _tensors(
    body: BodyModel, bodies: Bodies, skeletons: Skeletons, vertices: bool
) -> dict[str, Tensor]:
    """Fields of Person as (N, ...) tensors, and `coco` (N, 17, 3) [m]."""
    parameters = (bodies.rotations, bodies.betas, bodies.transl)
    posed = body(*parameters, vertices=vertices)
    axis_angle = roma.rotmat_to_rotvec(bodies.rotations)  # (N, 24, 3)
    fields = {
        "global_orient": axis_angle[:, 0],
        "body_pose": axis_angle[:, 1:].flatten(1),
        "betas": bodies.betas,
        "transl": bodies.transl,
        "joints": posed.joints,
        "joint_confidence": skeletons.confidence[:, :24],
        "coco": body.keypoints(*parameters, "coco17"),
        "h36m": body.keypoints(*parameters, "h36m17"),
        "position": posed.joints[:, 0],
        "position_covariance": bodies.covariance,
        "fit_residual": bodies.fit_residual,
    }
    if vertices:
        fields["vertices"] = posed.vertices
    return fields
