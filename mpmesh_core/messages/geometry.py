"""messages.geometry: std_msgs and geometry_msgs from rows of numbers.

Every number becomes a Python float on the way: rclpy takes a numpy float without a word and then
ends the process when it is published.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpmesh_core.messages.types import MessageTypes
from mpmesh_core.sources.frames import Header
from mpmesh_core.types import Array, Person

IDENTITY = (0.0, 0.0, 0.0, 1.0)  # quaternion x, y, z, w
ROTATION_VARIANCE = math.pi**2  # [rad^2] of an orientation whose error is not estimated


def header_message(types: MessageTypes, header: Header, frame_id: str | None = None) -> Any:
    """std_msgs/Header; in another frame where one is named."""
    stamp = types["builtin_interfaces/msg/Time"](sec=header.sec, nanosec=header.nanosec)
    name = header.frame_id if frame_id is None else frame_id
    return types["std_msgs/msg/Header"](stamp=stamp, frame_id=name)


def xyz(cls: Any, values: Sequence[float]) -> Any:
    """Point or Vector3 of three Python floats."""
    return cls(x=values[0], y=values[1], z=values[2])


def points_message(types: MessageTypes, points: Array) -> list[Any]:
    """List of geometry_msgs/Point from (P, 3) [m]."""
    cls = types["geometry_msgs/msg/Point"]
    return [cls(x=x, y=y, z=z) for x, y, z in np.asarray(points, np.float64).tolist()]


def pose_message(
    types: MessageTypes, position: Sequence[float], quaternion: Sequence[float]
) -> Any:
    """geometry_msgs/Pose of Python floats x, y, z [m] and a quaternion x, y, z, w."""
    return types["geometry_msgs/msg/Pose"](
        position=xyz(types["geometry_msgs/msg/Point"], position),
        orientation=quaternion_message(types, quaternion),
    )


def quaternion_message(types: MessageTypes, quaternion: Sequence[float]) -> Any:
    """geometry_msgs/Quaternion of Python floats x, y, z, w."""
    x, y, z, w = quaternion
    return types["geometry_msgs/msg/Quaternion"](x=x, y=y, z=z, w=w)


def pose_covariances(people: Sequence[Person]) -> Array:
    """(N, 36) covariances of geometry_msgs/PoseWithCovariance: positions as they are known."""
    covariances = np.zeros((len(people), 6, 6))
    for covariance, person in zip(covariances, people):
        covariance[:3, :3] = person.position_covariance
    covariances[:, [3, 4, 5], [3, 4, 5]] = ROTATION_VARIANCE
    return covariances.reshape(-1, 36)
