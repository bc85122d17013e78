"""sources.frames: what every source of pictures hands out, one by one.

Out  Frame: one picture (H, W, 3) uint8 RGB with its time [s] and, from bags, its camera
     BadFrame: a picture that cannot be used and why; the run goes on
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from mpmesh_core.camera import Camera

Array = np.ndarray
SourceKind = Literal["images", "video", "camera", "bag"]


@dataclass(frozen=True)
class Header:
    """Time and frame of a picture, as exact as in the message that it came in."""

    sec: int  # [s]
    nanosec: int  # [ns], 0 to 999 999 999
    frame_id: str  # name of the camera optical frame

    @classmethod
    def from_seconds(cls, stamp: float, frame_id: str = "camera") -> Header:
        """The header of a picture that came in no message."""
        sec, nanosec = divmod(round(stamp * 1e9), 1_000_000_000)
        return cls(sec, nanosec, frame_id)

    @property
    def nanoseconds(self) -> int:
        """The stamp in one number [ns]."""
        return 1_000_000_000 * self.sec + self.nanosec


@dataclass(frozen=True)
class Frame:
    """One picture."""

    index: int  # counts good and bad pictures of its source from 0
    stamp: float  # [s]; of the message, since the start of the video, or by number
    source: str  # the picture's path, or the video's, bag topic's or camera's name
    image: Array  # (H, W, 3) uint8 RGB
    camera: Camera | None = None  # where the source knows it (bags with camera_info)
    header: Header | None = None  # of the message that it came in (bags)
    recorded_ns: int | None = None  # when that message was recorded [ns] (bags)


@dataclass(frozen=True)
class BadFrame:
    """A picture that could not be read."""

    index: int
    source: str
    reason: str  # one line


class Source(Protocol):
    """Pictures one after the other; may be iterated more than once, except a live camera."""

    name: str
    kind: SourceKind
    sequence: bool  # whether the pictures follow one another in time, so that tracking is sensible
    length: int | None  # number of pictures, None where it isn't known
    fps: float | None  # nominal rate, None for pictures that are no sequence
    paths: list[Path]  # the files that are read

    def __iter__(self) -> Iterator[Frame | BadFrame]:
        """Read the pictures from the first to the last."""
        ...  # pragma: no cover
