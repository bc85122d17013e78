"""messages.people: SmplPersonArray and MeshTopology, the messages of this project."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mpmesh_core.body import BodyModel
from mpmesh_core.joints import SMPL_JOINTS
from mpmesh_core.messages.frame import MessageFrame, body_axes
from mpmesh_core.messages.geometry import (
    header_message,
    pose_message,
    pose_with_covariance,
    xyz,
)
from mpmesh_core.messages.types import MessageTypes
from mpmesh_core.types import Array, Person


def people_array(
    types: MessageTypes, frame: MessageFrame, gender: str = "neutral", vertices: bool = False
) -> Any:
    """mpmesh_ros/SmplPersonArray: everybody of the frame, those lost in it too.

    Args:
        types: message classes.
        frame: the people.
        gender: of an SMPL body.
        vertices: fill in the meshes of those who are there.
    """
    people = frame.result.people
    quaternions = body_axes(people).as_quat().tolist()
    meshes = iter(frame.vertices if vertices else [])
    filled = [next(meshes, None) if person.state != "lost" else None for person in people]
    return types["mpmesh_ros/msg/SmplPersonArray"](
        header=header_message(types, frame.header),
        model_type=frame.body.name,
        gender=gender,
        joint_names=list(SMPL_JOINTS),
        people=[
            _person(types, frame, person, quaternion, mesh)
            for person, quaternion, mesh in zip(people, quaternions, filled)
        ],
    )


def mesh_topology(types: MessageTypes, body: BodyModel) -> Any:
    """mpmesh_ros/MeshTopology: the body's triangles."""
    faces = body.faces.cpu().numpy().astype(np.uint32)
    return types["mpmesh_ros/msg/MeshTopology"](
        model_type=body.name,
        vertex_count=len(body.v_template),
        faces=types.sequence(faces.reshape(-1)),
    )


def _person(
    types: MessageTypes,
    frame: MessageFrame,
    person: Person,
    quaternion: list[float],
    mesh: Array | None,
) -> Any:
    cls = types["mpmesh_ros/msg/SmplPerson"]
    velocity = np.zeros(3) if person.velocity is None else person.velocity
    pose = pose_message(types, _floats(person.position), quaternion)
    return cls(
        track_id=int(person.track_id),
        track_state=getattr(cls, person.state.upper()),
        confidence=float(person.score),
        roi=_roi(types, person.bbox, (frame.result.width, frame.result.height)),
        root=pose_with_covariance(types, pose, person.position_covariance),
        velocity=xyz(types["geometry_msgs/msg/Vector3"], _floats(velocity)),
        velocity_valid=person.velocity is not None,
        betas=_float32(person.betas),
        global_orient=_float32(person.global_orient),
        body_pose=_float32(person.body_pose),
        transl=_float32(person.transl),
        joints=types.sequence(_float32(person.joints)),
        joint_confidence=types.sequence(_float32(person.joint_confidence)),
        joints_2d=types.sequence(_float32(person.joints_2d)),
        fit_residual=float(person.fit_residual),
        vertices=types.sequence(_float32(np.zeros(0) if mesh is None else mesh)),
    )


def _roi(types: MessageTypes, bbox: Array, size: tuple[int, int]) -> Any:
    """Whole pixels that cover the box's part inside the picture; empty where it is outside."""
    width, height = size
    x1, y1, x2, y2 = np.nan_to_num(bbox).tolist()
    left, top = (int(min(max(low, 0), end)) for low, end in ((x1, width), (y1, height)))
    right, bottom = (math.ceil(min(max(high, 0), end)) for high, end in ((x2, width), (y2, height)))
    return types["sensor_msgs/msg/RegionOfInterest"](
        x_offset=left,
        y_offset=top,
        width=max(right - left, 0),
        height=max(bottom - top, 0),
        do_rectify=False,
    )


def _floats(values: Array) -> list[float]:
    return np.asarray(values, np.float64).tolist()


def _float32(values: Array) -> Array:
    return np.ascontiguousarray(values, np.float32).reshape(-1)
