"""evaluation.observed: people over time, from a results file or from a topic of a bag.

In   results.jsonl, or messages of type SmplPersonArray, Detection3DArray or People
Out  ObservedFrames by stamp: identities, pelvises and, where known, joints [m, camera frame]
Who is only expected (`coasted`) or given up (`lost`) counts as not seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpmesh_core.errors import InputError, UsageError
from mpmesh_core.joints import SMPL_JOINTS
from mpmesh_core.messages.frame import stacked
from mpmesh_core.messages.rosbags_types import RosbagsTypes
from mpmesh_core.outputs import read_results
from mpmesh_core.sources.bags import bag_messages
from mpmesh_core.types import UNSEEN, Array

UNKNOWN = -1  # identity


@dataclass(frozen=True)
class ObservedFrame:
    """The P people at one moment."""

    stamp_ns: int  # of the picture
    ids: Array  # (P,) int64, UNKNOWN where nobody tracks
    positions: Array  # (P, 3) pelvises [m]
    joints: Array | None  # (P, 24, 3) [m]; None where only positions are known


def observed_in_results(path: Path) -> list[ObservedFrame]:
    """Frames of a results.jsonl, sorted by stamp.

    Raises:
        MissingFileError, InputError: see `outputs.read_results`.
    """
    frames = []
    for result in read_results(path):
        seen = result.seen
        frames.append(
            ObservedFrame(
                round(1e9 * result.stamp),
                _ids([person.track_id for person in seen]),
                stacked([person.position for person in seen], (3,)),
                stacked([person.joints for person in seen], (len(SMPL_JOINTS), 3)),
            )
        )
    return _sorted(frames)


def observed_in_bag(path: Path, topic: str) -> list[ObservedFrame]:
    """Frames of a topic, sorted by the stamps of its headers.

    Raises:
        UsageError: the bag has no such topic, or of a type that holds no people.
        InputError: messages that cannot be read.
    """
    types = RosbagsTypes()
    frames = []
    for kind, data in bag_messages(path, topic):
        if kind not in _READERS:
            known = ", ".join(sorted(_READERS))
            raise UsageError(f"topic {topic} in {path} is of type {kind}; truth is one of {known}")
        try:
            message: Any = types.store.deserialize_cdr(data, kind)
        except Exception as error:  # of many kinds, on damaged bytes
            raise InputError(f"{topic} in {path} cannot be decoded: {error}") from None
        stamp = message.header.stamp
        frames.append(_READERS[kind](message, 1_000_000_000 * stamp.sec + stamp.nanosec))
    return _sorted(frames)


def _from_smpl(message: Any, stamp_ns: int) -> ObservedFrame:
    seen = [p for p in message.people if p.track_state not in (p.COASTED, p.LOST)]
    roots = [person.root.pose.position for person in seen]
    return ObservedFrame(
        stamp_ns,
        _ids([person.track_id for person in seen]),
        _positions(roots),
        stacked([person.joints.reshape(-1, 3) for person in seen], (len(SMPL_JOINTS), 3)),
    )


def _from_detections(message: Any, stamp_ns: int) -> ObservedFrame:
    people = [d for d in message.detections if d.results]
    positions = _positions([detection.results[0].pose.pose.position for detection in people])
    return ObservedFrame(stamp_ns, _ids([_number(d.id) for d in people]), positions, None)


def _from_people(message: Any, stamp_ns: int) -> ObservedFrame:
    seen = [p for p in message.people if not set(p.tags) & set(UNSEEN)]
    positions = _positions([person.position for person in seen])
    return ObservedFrame(stamp_ns, _ids([_number(p.name) for p in seen]), positions, None)


_READERS: dict[str, Callable[[Any, int], ObservedFrame]] = {
    "mpmesh_ros/msg/SmplPersonArray": _from_smpl,
    "vision_msgs/msg/Detection3DArray": _from_detections,
    "people_msgs/msg/People": _from_people,
}


def _positions(points: list[Any]) -> Array:
    return stacked([np.array([point.x, point.y, point.z]) for point in points], (3,))


def _ids(numbers: list[int]) -> Array:
    return np.array(numbers, np.int64)


def _number(name: str) -> int:
    """The number that a name ends in."""
    found = re.search(r"\d+$", name)
    return int(found.group()) if found else UNKNOWN


def _sorted(frames: list[ObservedFrame]) -> list[ObservedFrame]:
    return sorted(frames, key=lambda frame: frame.stamp_ns)
