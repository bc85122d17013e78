"""messages.navigation: people for planners: Detection3DArray, People, a target to follow, TF.

In   MessageFrame
Out  vision_msgs/Detection3DArray and geometry_msgs/PoseStamped in the camera optical frame;
     people_msgs/People there, or in a frame that a rigid transform leads to; tf2_msgs/TFMessage
     with body_<id> of REP 155 (x front, y left, z up, between the hips) below the camera
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from mpmesh_core.joints import SMPL_JOINTS, SMPL_PARENTS
from mpmesh_core.messages.frame import R_SMPL_BODY, MessageFrame, stacked
from mpmesh_core.messages.geometry import (
    header_message,
    pose_covariances,
    pose_message,
    quaternion_message,
    xyz,
)
from mpmesh_core.messages.types import MessageTypes
from mpmesh_core.types import Array

BOX_MARGIN = 0.1  # [m] of flesh around the joints
_COASTED_RELIABILITY = 0.5  # of a person who is expected rather than seen, times the confidence


@dataclass(frozen=True)
class RigidTransform:
    """From the camera optical frame to another one: point there = R point + t."""

    frame_id: str  # of the other one
    R: Array  # (3, 3)
    t: Array  # (3,) [m]


def detections_3d(types: MessageTypes, frame: MessageFrame) -> Any:
    """vision_msgs/Detection3DArray: class `person`, box along the body's axes around the joints."""
    header = header_message(types, frame.header)
    centres, sizes = (part.tolist() for part in body_boxes(frame))
    quaternions, positions = frame.body_quaternions, frame.positions.tolist()
    covariances = pose_covariances(frame.people)
    detection = types["vision_msgs/msg/Detection3D"]
    box = types["vision_msgs/msg/BoundingBox3D"]
    vector = types["geometry_msgs/msg/Vector3"]
    found = types["vision_msgs/msg/ObjectHypothesisWithPose"]
    hypothesis = types["vision_msgs/msg/ObjectHypothesis"]
    posed = types["geometry_msgs/msg/PoseWithCovariance"]
    detections = []
    for i, person in enumerate(frame.people):
        pose = pose_message(types, positions[i], quaternions[i])
        result = found(
            hypothesis=hypothesis(class_id="person", score=float(person.score)),
            pose=posed(pose=pose, covariance=covariances[i]),
        )
        bbox = box(
            center=pose_message(types, centres[i], quaternions[i]), size=xyz(vector, sizes[i])
        )
        name = str(frame.numbers[i])
        detections.append(detection(header=header, results=[result], bbox=bbox, id=name))
    return types["vision_msgs/msg/Detection3DArray"](header=header, detections=detections)


def body_boxes(frame: MessageFrame) -> tuple[Array, Array]:
    """Boxes along the bodies' axes around their joints.

    Returns:
        (N, 3) centres [m, camera optical frame] and (N, 3) sizes [m] along body x, y, z.
    """
    axes = frame.body_axes.as_matrix()  # (N, 3, 3)
    local = (frame.joints - frame.joints[:, :1]) @ axes
    low, high = local.min(1) - BOX_MARGIN, local.max(1) + BOX_MARGIN
    middle = (axes @ (0.5 * (low + high))[..., None])[..., 0]
    return frame.positions + middle, high - low


def people_message(
    types: MessageTypes,
    frame: MessageFrame,
    transform: RigidTransform | None = None,
    prefix: str = "",
) -> Any:
    """people_msgs/People: `<prefix>person_<id>`, positions [m], velocities [m/s]; empty ones, too.

    Args:
        types: message classes.
        frame: the people.
        transform: to the frame in which they are wanted; None leaves them in the camera's.
        prefix: of the names, which tells this camera's people from another one's.
    """
    positions, velocities, frame_id = frame.positions, frame.velocities, frame.header.frame_id
    if transform is not None:
        positions = positions @ transform.R.T + transform.t
        velocities, frame_id = velocities @ transform.R.T, transform.frame_id
    cls, point = types["people_msgs/msg/Person"], types["geometry_msgs/msg/Point"]
    rows = zip(frame.people, frame.numbers, positions.tolist(), velocities.tolist())
    return types["people_msgs/msg/People"](
        header=header_message(types, frame.header, frame_id),
        people=[
            cls(
                name=f"{prefix}person_{number}",
                position=xyz(point, position),
                velocity=xyz(point, velocity),
                reliability=float(person.score)
                * (_COASTED_RELIABILITY if person.state == "coasted" else 1.0),
                tagnames=["state"],
                tags=[person.state],
            )
            for person, number, position, velocity in rows
        ],
    )


def choose_target(frame: MessageFrame, previous: int | None = None) -> int | None:
    """Number of the person to follow: the previous one while there, else the nearest.

    Confirmed (`tracked`) people come before others; nobody there gives None.
    """
    if previous in frame.numbers:
        return previous
    distances = np.linalg.norm(frame.positions, axis=-1).tolist()
    order = [
        (person.state != "tracked", distance, number)
        for person, distance, number in zip(frame.people, distances, frame.numbers)
    ]
    return min(order)[2] if order else None


def target_pose(types: MessageTypes, frame: MessageFrame, number: int | None) -> Any:
    """geometry_msgs/PoseStamped of body_<number>; None where that person isn't there."""
    if number not in frame.numbers:
        return None
    i = frame.numbers.index(number)
    return types["geometry_msgs/msg/PoseStamped"](
        header=header_message(types, frame.header),
        pose=pose_message(types, frame.body_origins[i].tolist(), frame.body_quaternions[i]),
    )


def transforms(
    types: MessageTypes, frame: MessageFrame, joints: bool = False, prefix: str = ""
) -> Any:
    """tf2_msgs/TFMessage: body_<id> below the camera, and below it <joint>_<id> if asked for.

    All names begin with `prefix`: a frame may have one parent only, so another camera's people
    need other names.
    """
    header = header_message(types, frame.header)
    rows = list(zip(frame.numbers, frame.body_origins.tolist(), frame.body_quaternions))
    messages = [_transform(types, header, f"{prefix}body_{n}", t, q) for n, t, q in rows]
    if joints and frame.people:
        positions, quaternions = (part.tolist() for part in joint_poses(frame))
        for i, number in enumerate(frame.numbers):
            parent = header_message(types, frame.header, f"{prefix}body_{number}")
            messages += [
                _transform(types, parent, f"{prefix}{name}_{number}", *place)
                for name, *place in zip(SMPL_JOINTS, positions[i], quaternions[i])
            ]
    return types["tf2_msgs/msg/TFMessage"](transforms=messages)


def joint_poses(frame: MessageFrame) -> tuple[Array, Array]:
    """Where the joints are in their body frames, and how they are turned.

    At rest every joint's axes are those of the body: x front, y left, z up.

    Returns:
        (N, 24, 3) positions [m] and (N, 24, 4) quaternions x, y, z, w.
    """
    axes = frame.body_axes.as_matrix()
    pose = stacked([person.body_pose for person in frame.people], (23, 3)).reshape(-1, 3)
    local = R_SMPL_BODY.T @ Rotation.from_rotvec(pose).as_matrix() @ R_SMPL_BODY
    local = local.reshape(-1, 23, 3, 3)
    turned = np.tile(np.eye(3), (len(frame.people), len(SMPL_JOINTS), 1, 1))
    for joint in range(1, len(SMPL_JOINTS)):
        turned[:, joint] = turned[:, SMPL_PARENTS[joint]] @ local[:, joint - 1]
    shifted = frame.joints - frame.joints[:, :1] + (frame.positions - frame.body_origins)[:, None]
    quaternions = Rotation.from_matrix(turned.reshape(-1, 3, 3)).as_quat()
    return shifted @ axes, quaternions.reshape(-1, len(SMPL_JOINTS), 4)


def _transform(
    types: MessageTypes, header: Any, child: str, position: list[float], quaternion: list[float]
) -> Any:
    return types["geometry_msgs/msg/TransformStamped"](
        header=header,
        child_frame_id=child,
        transform=types["geometry_msgs/msg/Transform"](
            translation=xyz(types["geometry_msgs/msg/Vector3"], position),
            rotation=quaternion_message(types, quaternion),
        ),
    )
