"""messages.people: SmplPersonArray and MeshTopology, the messages of this project."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpmesh_core.body import BodyModel
from mpmesh_core.joints import SMPL_JOINTS
from mpmesh_core.messages.frame import STILL, MessageFrame, body_axes, stacked
from mpmesh_core.messages.geometry import header_message, pose_covariances, pose_message, xyz
from mpmesh_core.messages.types import MessageTypes
from mpmesh_core.types import Array, Person

_NO_VERTICES = np.zeros(0, np.float32)


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
    meshes = iter(frame.vertices if vertices else [])
    filled = [next(meshes, None) if person.state != "lost" else None for person in people]
    return types["mpmesh_ros/msg/SmplPersonArray"](
        header=header_message(types, frame.header),
        model_type=frame.body.name,
        gender=gender,
        joint_names=list(SMPL_JOINTS),
        people=[
            _person(types, person, mesh, root, roi)
            for person, mesh, root, roi in zip(
                people,
                filled,
                _roots(types, frame),
                _rois(types, people, frame.result.width, frame.result.height),
            )
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


def _person(types: MessageTypes, person: Person, mesh: Array | None, root: Any, roi: Any) -> Any:
    cls = types["mpmesh_ros/msg/SmplPerson"]
    velocity = STILL if person.velocity is None else person.velocity
    return cls(
        track_id=int(person.track_id),
        track_state=getattr(cls, person.state.upper()),
        confidence=float(person.score),
        roi=roi,
        root=root,
        velocity=xyz(types["geometry_msgs/msg/Vector3"], velocity.tolist()),
        velocity_valid=person.velocity is not None,
        betas=_float32(person.betas),
        global_orient=_float32(person.global_orient),
        body_pose=_float32(person.body_pose),
        transl=_float32(person.transl),
        joints=types.sequence(_float32(person.joints)),
        joint_confidence=types.sequence(_float32(person.joint_confidence)),
        joints_2d=types.sequence(_float32(person.joints_2d)),
        fit_residual=float(person.fit_residual),
        vertices=types.sequence(_NO_VERTICES if mesh is None else _float32(mesh)),
    )


def _roots(types: MessageTypes, frame: MessageFrame) -> list[Any]:
    """geometry_msgs/PoseWithCovariance of everybody's pelvis, turned as the body."""
    people = frame.result.people
    positions = stacked([person.position for person in people], (3,)).tolist()
    known = iter(frame.body_quaternions)
    quaternions = [
        body_axes([person]).as_quat()[0].tolist() if person.state == "lost" else next(known)
        for person in people
    ]
    cls = types["geometry_msgs/msg/PoseWithCovariance"]
    return [
        cls(pose=pose_message(types, position, quaternion), covariance=covariance)
        for position, quaternion, covariance in zip(
            positions, quaternions, pose_covariances(people)
        )
    ]


def _rois(types: MessageTypes, people: list[Person], width: int, height: int) -> list[Any]:
    """Whole pixels that cover the boxes' parts inside the picture; empty for those outside."""
    boxes = np.nan_to_num(stacked([person.bbox for person in people], (4,)))
    boxes = np.clip(boxes, 0, [width, height, width, height])
    corner = np.floor(boxes[:, :2])
    size = np.maximum(np.ceil(boxes[:, 2:]) - corner, 0)
    cls = types["sensor_msgs/msg/RegionOfInterest"]
    return [
        cls(x_offset=x, y_offset=y, width=w, height=h, do_rectify=False)
        for x, y, w, h in np.concatenate([corner, size], axis=1).astype(int).tolist()
    ]


def _float32(values: Array) -> Array:
    return np.asarray(values, np.float32).reshape(-1)
