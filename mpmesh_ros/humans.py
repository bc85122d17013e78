"""humans: people for ROS4HRI, as REP 155 names things; needs hri_msgs.

Under /humans/bodies: `tracked` (who is there), and for everybody roi, skeleton2d and position. An
id is `p` and the track id, since names of topics and frames begin with a letter; the frame is
body_<id>.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mpmesh_core.errors import MissingPackageError
from mpmesh_core.joints import COCO_KEYPOINTS, SMPL_JOINTS
from mpmesh_core.messages import MessageFrame
from mpmesh_core.messages.geometry import header_message, xyz
from mpmesh_core.messages.navigation import transforms
from mpmesh_core.types import Array, Person

if TYPE_CHECKING:
    from rclpy.node import Node

    from mpmesh_ros.message_types import RclpyTypes

ROOT = "/humans/bodies"
_KINDS = {
    "roi": "hri_msgs/msg/NormalizedRegionOfInterest2D",
    "skeleton2d": "hri_msgs/msg/Skeleton2D",
    "position": "geometry_msgs/msg/PointStamped",
}
_LIMBS = [
    f"{side}_{joint}"
    for chain in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle"))
    for side in ("right", "left")
    for joint in chain
]
SKELETON = ["nose", "neck", *_LIMBS, "left_eye", "right_eye", "left_ear", "right_ear"]
"""Order of hri_msgs/Skeleton2D; all but the neck are joints of COCO."""


class Humans:
    """The topics of REP 155.

    Args:
        node: the node.
        types: message classes.

    Raises:
        MissingPackageError: hri_msgs isn't installed.
    """

    def __init__(self, node: Node, types: RclpyTypes) -> None:
        from mpmesh_ros.message_types import message_class

        self._node, self._types = node, types
        try:
            kind = message_class("hri_msgs/msg/IdsList")
        except ModuleNotFoundError:
            raise MissingPackageError(
                "humans needs hri_msgs: apt install ros-$ROS_DISTRO-hri-msgs, or build "
                "https://github.com/ros4hri/hri_msgs; or set humans to false"
            ) from None
        self._tracked = node.create_publisher(kind, f"{ROOT}/tracked", 1)
        self._frames = node.create_publisher(message_class("tf2_msgs/msg/TFMessage"), "/tf", 100)
        self._kinds = {name: message_class(kind) for name, kind in _KINDS.items()}
        self._bodies: dict[str, dict[str, Any]] = {}

    def publish(self, frame: MessageFrame) -> None:
        """Everybody of a frame."""
        header = header_message(self._types, frame.header)
        ids = [f"p{number}" for number in frame.numbers]
        for gone in set(self._bodies) - set(ids):
            self._remove(gone)
        for identity, person in zip(ids, frame.people):
            size = (frame.result.width, frame.result.height)
            topics = self._bodies.get(identity) or self._add(identity)
            topics["roi"].publish(region(self._types, header, person, size))
            topics["skeleton2d"].publish(skeleton(self._types, header, person, size))
            topics["position"].publish(_position(self._types, header, person))
        self._tracked.publish(self._types["hri_msgs/msg/IdsList"](header=header, ids=ids))
        self._frames.publish(_named_transforms(self._types, frame))

    def destroy(self) -> None:
        """Take the topics away."""
        for identity in list(self._bodies):
            self._remove(identity)
        self._node.destroy_publisher(self._tracked)
        self._node.destroy_publisher(self._frames)

    def _add(self, identity: str) -> dict[str, Any]:
        self._bodies[identity] = {
            name: self._node.create_publisher(kind, f"{ROOT}/{identity}/{name}", 1)
            for name, kind in self._kinds.items()
        }
        return self._bodies[identity]

    def _remove(self, identity: str) -> None:
        for publisher in self._bodies.pop(identity).values():
            self._node.destroy_publisher(publisher)


def skeleton_points(person: Person, size: tuple[int, int]) -> Array:
    """(18, 3) x, y in 0..1 of the picture and confidence, in the order of `SKELETON`.

    Joints outside the picture have confidence 0 and stand at its edge.

    Args:
        person: the person.
        size: width, height of the picture [px].
    """
    pixels = dict(zip(COCO_KEYPOINTS, np.asarray(person.coco_2d, np.float64)))
    pixels["neck"] = 0.5 * (pixels["left_shoulder"] + pixels["right_shoulder"])
    xy = np.stack([pixels[name] for name in SKELETON]) / np.maximum(np.subtract(size, 1), 1)
    known = dict(zip(SMPL_JOINTS, person.joint_confidence))
    confidence = np.array([known.get(name, known["head"]) for name in SKELETON], np.float64)
    inside = ((xy >= 0) & (xy <= 1)).all(-1)
    return np.column_stack([np.clip(xy, 0, 1), np.where(inside, confidence, 0.0)])


def skeleton(types: RclpyTypes, header: Any, person: Person, size: tuple[int, int]) -> Any:
    """hri_msgs/Skeleton2D."""
    point = types["hri_msgs/msg/NormalizedPointOfInterest2D"]
    points = [point(x=x, y=y, c=c) for x, y, c in skeleton_points(person, size).tolist()]
    return types[_KINDS["skeleton2d"]](header=header, skeleton=points)


def region(types: RclpyTypes, header: Any, person: Person, size: tuple[int, int]) -> Any:
    """hri_msgs/NormalizedRegionOfInterest2D of the person's box."""
    scale = np.maximum(np.subtract((*size, *size), 1), 1)
    x1, y1, x2, y2 = np.clip(np.asarray(person.bbox) / scale, 0, 1).tolist()
    kind = types[_KINDS["roi"]]
    return kind(header=header, xmin=x1, ymin=y1, xmax=x2, ymax=y2, c=float(person.score))


def _position(types: RclpyTypes, header: Any, person: Person) -> Any:
    point = xyz(types["geometry_msgs/msg/Point"], np.asarray(person.position, float).tolist())
    return types[_KINDS["position"]](header=header, point=point)


def _named_transforms(types: RclpyTypes, frame: MessageFrame) -> Any:
    """The frames of everybody under the ids of REP 155."""
    message = transforms(types, frame)
    for transform, number in zip(message.transforms, frame.numbers):
        transform.child_frame_id = f"body_p{number}"
    return message
