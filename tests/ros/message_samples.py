"""Frames that tests of messages share."""

from __future__ import annotations

from people_samples import result_of, standing_person

from mpmesh_core.body import BodyModel
from mpmesh_core.camera import Camera
from mpmesh_core.messages import MessageFrame
from mpmesh_core.sources.frames import Header
from mpmesh_core.types import Person


def room(body: BodyModel, camera: Camera, people: int) -> list[Person]:
    """People side by side, 3 m away and farther."""
    return [
        standing_person(body, camera, 0.6 * i - 1.0, 3.0 + 0.5 * i, track_id=i)
        for i in range(people)
    ]


def frame_of(
    body: BodyModel, camera: Camera, people: list[Person], frame_id: str = "camera_optical"
) -> MessageFrame:
    """These people at 12.5 s."""
    return MessageFrame(Header(12, 500_000_000, frame_id), result_of(camera, people), body)
