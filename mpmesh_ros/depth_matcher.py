"""depth_matcher: pictures and the depth images taken at the same time, without ROS.

A picture whose depth is here already goes on at once; else it waits for it until the next picture
comes, then goes on without. After some that waited in vain nothing waits, until depth comes again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mpmesh_ros.pictures import Picture

_KEPT = 5  # depth images
_MISSES = 5  # pictures in a row without depth, after which none waits


class DepthMatcher:
    """Joins two streams by their stamps.

    Args:
        slop_s: largest difference of stamps [s].
        deliver: is given each picture, with its depth where there is one.
    """

    def __init__(self, slop_s: float, deliver: Callable[[Picture], None]) -> None:
        self._slop_ns, self._deliver = round(1e9 * slop_s), deliver
        self._depths: deque[Any] = deque(maxlen=_KEPT)
        self._waiting: Picture | None = None
        self._alone_ns = 0  # stamp of the last picture that went without
        self._misses = 0

    @property
    def missing(self) -> bool:
        """Whether pictures have gone without depth for a while."""
        return self._misses >= _MISSES

    def add_picture(self, picture: Picture) -> None:
        """A picture came."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._go_alone(waiting)
        if not self._join(picture):
            if self.missing:
                self._go_alone(picture)
            else:
                self._waiting = picture

    def add_depth(self, message: Any) -> None:
        """A depth image came."""
        stamp = _nanoseconds(message)
        if self._depths and stamp < _nanoseconds(self._depths[-1]):
            self._depths.clear()  # time went back
        self._depths.append(message)
        if self.missing and abs(stamp - self._alone_ns) <= self._slop_ns:
            self._misses = 0  # that picture would have had to wait for it: the next one does
        if self._waiting is not None and self._join(self._waiting):
            self._waiting = None

    def _go_alone(self, picture: Picture) -> None:
        self._misses += 1
        self._alone_ns = _nanoseconds(picture.message)
        self._deliver(picture)

    def _join(self, picture: Picture) -> bool:
        stamp = _nanoseconds(picture.message)
        nearest = min(
            self._depths, key=lambda depth: abs(_nanoseconds(depth) - stamp), default=None
        )
        if nearest is None or abs(_nanoseconds(nearest) - stamp) > self._slop_ns:
            return False
        self._misses = 0
        self._deliver(replace(picture, depth=nearest))
        return True


def _nanoseconds(message: Any) -> int:
    stamp = message.header.stamp
    return 1_000_000_000 * stamp.sec + stamp.nanosec
