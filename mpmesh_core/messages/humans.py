"""messages.humans: people for users of REP 155 and its hri_msgs.

In   MessageFrame
Out  /humans/bodies/tracked, and for each body /humans/bodies/<id>/roi and .../skeleton2d; with TF
     `body_<id>` (see `navigation`) that is what REP 155 knows of bodies
Ids start with a letter, since topic names must: p7 is the person of number 7. Coordinates are
shares of the picture's width and height from its left top corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mpmesh_core.joints import COCO_KEYPOINTS, SMPL_JOINTS
from mpmesh_core.messages.frame import MessageFrame
from mpmesh_core.messages.geometry import header_message
from mpmesh_core.messages.types import MessageTypes
from mpmesh_core.types import Array, Person

BODIES = "/humans/bodies"
_FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
_NAMES = (*COCO_KEYPOINTS, "neck")
_CONFIDENT_AS = [SMPL_JOINTS.index("head" if name in _FACE else name) for name in _NAMES]
"""The SMPL joint whose confidence is that of a keypoint."""
_SHOULDERS = [COCO_KEYPOINTS.index(name) for name in ("left_shoulder", "right_shoulder")]


@dataclass(frozen=True)
class TopicMessage:
    """A message and where it belongs."""

    topic: str
    type: str
    message: Any


def bodies(types: MessageTypes, frame: MessageFrame) -> list[TopicMessage]:
    """The list of ids, also an empty one, then region and skeleton of each body."""
    header = header_message(types, frame.header)
    ids = types["hri_msgs/msg/IdsList"](header=header, ids=frame.ids)
    messages = [TopicMessage(f"{BODIES}/tracked", "hri_msgs/msg/IdsList", ids)]
    size = np.array([frame.result.width, frame.result.height], np.float64)
    for name, person in zip(frame.ids, frame.people):
        kind = "hri_msgs/msg/NormalizedRegionOfInterest2D"
        message = _region(types[kind], header, person, size)
        messages.append(TopicMessage(f"{BODIES}/{name}/roi", kind, message))
        kind = "hri_msgs/msg/Skeleton2D"
        message = _skeleton(types, header, person, size)
        messages.append(TopicMessage(f"{BODIES}/{name}/skeleton2d", kind, message))
    return messages


def _region(cls: Any, header: Any, person: Person, size: Array) -> Any:
    corners = _shares(np.asarray(person.bbox).reshape(2, 2), size).clip(0, 1)
    (xmin, ymin), (xmax, ymax) = corners.tolist()
    score = float(person.score)
    return cls(header=header, xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax, c=score)


def _skeleton(types: MessageTypes, header: Any, person: Person, size: Array) -> Any:
    """Keypoints in the order of the message; those outside the picture have confidence 0."""
    cls = types["hri_msgs/msg/Skeleton2D"]
    point = types["hri_msgs/msg/NormalizedPointOfInterest2D"]
    neck = np.mean(np.asarray(person.coco_2d)[_SHOULDERS], axis=0)
    shares = _shares(np.concatenate([person.coco_2d, neck[None]]), size)
    inside = ((shares >= 0) & (shares <= 1)).all(-1)
    confidence = np.where(inside, np.asarray(person.joint_confidence)[_CONFIDENT_AS], 0.0)
    rows = zip(_NAMES, shares.clip(0, 1).tolist(), confidence.tolist())
    points = {getattr(cls, name.upper()): point(x=x, y=y, c=c) for name, (x, y), c in rows}
    return cls(header=header, skeleton=[points[i] for i in range(len(points))])


def _shares(pixels: Array, size: Array) -> Array:
    """Pixels (..., 2), the first one's centre at (0, 0), as shares of (width, height)."""
    return (np.asarray(pixels, np.float64) + 0.5) / size
