"""pictures: a camera's messages on their way to the pipeline, and how old they are, without ROS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mpmesh_core.sources.frames import Header
from mpmesh_core.sources.messages import (
    depth_from_message,
    image_from_compressed,
    image_from_message,
)
from mpmesh_core.types import Array

FOREIGN_CLOCK_S = 60.0
"""A stamp that is further from the clock was given by another one: a bag, a camera out of sync."""
_EARLY_S = 1.0
STILL_S = 2.0
"""A stamp that stays for longer is none, and no repeated picture's, nor one in whole seconds."""


@dataclass(frozen=True)
class Picture:
    """One image message, not yet decoded."""

    message: Any  # sensor_msgs Image or CompressedImage
    compressed: bool
    arrived: float  # when, by a clock that never jumps [s]
    age_on_arrival: float | None  # [s]; None where its stamp is of another clock
    depth: Any = None  # the sensor_msgs Image aligned to it
    standstill: float = 0.0  # for how long stamps have told no time [s]

    @property
    def header(self) -> Header:
        """Stamp and frame."""
        header = self.message.header
        return Header(header.stamp.sec, header.stamp.nanosec, header.frame_id)

    @property
    def time(self) -> float:
        """When it was taken [s]; from its arrival where stamps tell nothing.

        Time that stands still would keep those who left for ever. Where it stops, it goes on
        without a leap.
        """
        nanoseconds = self.header.nanoseconds
        return 1e-9 * nanoseconds + self.standstill if nanoseconds else self.arrived

    def age(self, now: float) -> float:
        """How old it is [s], at a time of the clock of `arrived`."""
        return (self.age_on_arrival or 0.0) + now - self.arrived

    def decoded(self) -> Array:
        """(H, W, 3) uint8 RGB.

        Raises:
            InputError: it cannot be decoded.
        """
        if self.compressed:
            return image_from_compressed(self.message)
        return image_from_message(self.message)

    def decoded_depth(self) -> Array | None:
        """(H, W) [m]; None without a depth image.

        Raises:
            InputError: it cannot be decoded.
        """
        return None if self.depth is None else depth_from_message(self.depth)


class StampWatch:
    """Notices stamps that stand still."""

    def __init__(self) -> None:
        self._stamp_ns: int | None = None
        self._since = 0.0

    def standstill(self, stamp_ns: int, arrived: float) -> float:
        """For how long the stamps up to this one have told no time, `STILL_S` aside [s]."""
        if stamp_ns != self._stamp_ns:
            self._stamp_ns, self._since = stamp_ns, arrived
        return max(arrived - self._since - STILL_S, 0.0)


def age_by_stamp(stamp_ns: int, now_ns: int) -> float | None:
    """Age of a picture by its stamp [s]; None where the stamp cannot be of this clock."""
    age = 1e-9 * (now_ns - stamp_ns)
    return max(age, 0.0) if -_EARLY_S <= age <= FOREIGN_CLOCK_S else None


def foreign_stamp(stamp_ns: int, now_ns: int, standstill: float = 0.0) -> str:
    """What is wrong with a stamp that cannot be of this clock, and what to do."""
    count = "so ages count from arrival"
    if not stamp_ns or standstill:
        what = "stand still" if stamp_ns else "are 0"
        return f"stamps {what}, {count} and TF knows no time; have the camera's driver give them"
    if not now_ns:
        return f"use_sim_time is set and no /clock comes, {count}; play bags with --clock"
    off = 1e-9 * (now_ns - stamp_ns)
    return (
        f"stamps are {abs(off):.0f} s {'behind' if off > 0 else 'ahead of'} the clock, {count}; "
        "play bags with --clock and set use_sim_time, or synchronise the camera's clock"
    )
