"""messages.humans: people for ROS4HRI, as REP 155 names things, in hri_msgs.

In   MessageFrame
Out  under /humans/bodies: `tracked` (who is there), and for everybody roi, skeleton2d and position;
     and the frames body_<id> on /tf
An id is `p` and the person's number, since names of topics begin with a letter, after the camera's
prefix where there are several. Coordinates in the picture are shares of it, 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mpmesh_core.joints import COCO_KEYPOINTS, SMPL_JOINTS
from mpmesh_core.messages.frame import MessageFrame
from mpmesh_core.messages.geometry import header_message, xyz
from mpmesh_core.messages.navigation import transforms
from mpmesh_core.messages.types import MessageTypes
from mpmesh_core.types import Array, Person

ROOT = "/humans/bodies"
_LIMBS = [
    f"{side}_{joint}"
    for chain in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle"))
    for side in ("right", "left")
    for joint in chain
]
SKELETON = ["nose", "neck", *_LIMBS, "left_eye", "right_eye", "left_ear", "right_ear"]
"""Order of hri_msgs/Skeleton2D; all but the neck are joints of COCO."""


@dataclass(frozen=True)
class TopicMessage:
    """A message and where it belongs."""

    topic: str
    type: str
    message: Any


def bodies(types: MessageTypes, frame: MessageFrame, prefix: str = "") -> list[TopicMessage]:
    """Who is there, also nobody; region, skeleton and position of each; their frames."""
    header = header_message(types, frame.header)
    size = (frame.result.width, frame.result.height)
    ids = [f"{prefix}p{number}" for number in frame.numbers]
    kind = "hri_msgs/msg/IdsList"
    messages = [TopicMessage(f"{ROOT}/tracked", kind, types[kind](header=header, ids=ids))]
    for name, person in zip(ids, frame.people):
        for topic, kind, make in (
            ("roi", "hri_msgs/msg/NormalizedRegionOfInterest2D", _region),
            ("skeleton2d", "hri_msgs/msg/Skeleton2D", _skeleton),
            ("position", "geometry_msgs/msg/PointStamped", _position),
        ):
            message = types[kind](header=header, **make(types, person, size))
            messages.append(TopicMessage(f"{ROOT}/{name}/{topic}", kind, message))
    return [*messages, TopicMessage("/tf", "tf2_msgs/msg/TFMessage", _frames(types, frame, ids))]


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


def _skeleton(types: MessageTypes, person: Person, size: tuple[int, int]) -> dict[str, Any]:
    point = types["hri_msgs/msg/NormalizedPointOfInterest2D"]
    points = skeleton_points(person, size).tolist()
    return {"skeleton": [point(x=x, y=y, c=c) for x, y, c in points]}


def _region(types: MessageTypes, person: Person, size: tuple[int, int]) -> dict[str, Any]:
    scale = np.maximum(np.subtract((*size, *size), 1), 1)
    x1, y1, x2, y2 = np.clip(np.asarray(person.bbox) / scale, 0, 1).tolist()
    return {"xmin": x1, "ymin": y1, "xmax": x2, "ymax": y2, "c": float(person.score)}


def _position(types: MessageTypes, person: Person, size: tuple[int, int]) -> dict[str, Any]:
    place = np.asarray(person.position, np.float64).tolist()
    return {"point": xyz(types["geometry_msgs/msg/Point"], place)}


def _frames(types: MessageTypes, frame: MessageFrame, ids: list[str]) -> Any:
    """The frames of everybody under these ids."""
    message = transforms(types, frame)
    for transform, name in zip(message.transforms, ids):
        transform.child_frame_id = f"body_{name}"
    return message
