"""depth_matcher: pictures and the depth images taken at the same time, without ROS.

A picture whose depth is here already goes on at once. Else it waits for it until the next picture
comes, also where older depth within the slop is here: a picture at 30 Hz would always get the depth
of the one before. After some that waited in vain nothing waits, until depth comes again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

from mpmesh_ros.pictures import Picture

_KEPT = 5  # depth images
_MISSES = 5  # pictures in a row without depth, after which none waits
_UNKNOWN_PERIOD = float("inf")  # of depth images, while only one came


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
            self._send(waiting)
        if self.missing or self._settled(picture):
            self._send(picture)
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
        if self._waiting is not None and self._settled(self._waiting):
            waiting, self._waiting = self._waiting, None
            self._send(waiting)

    def _settled(self, picture: Picture) -> bool:
        """Whether a picture's depth is here, and the next depth image will be no nearer to it."""
        if self._nearest(picture) is None:
            return False
        stamps = [_nanoseconds(depth) for depth in self._depths]
        period = min((b - a for a, b in pairwise(stamps)), default=_UNKNOWN_PERIOD)
        return _nanoseconds(picture.message) - stamps[-1] <= period / 2

    def _nearest(self, picture: Picture) -> Any:
        """The depth image nearest to a picture; None without one within the slop."""
        stamp = _nanoseconds(picture.message)
        # the newest first: where cameras give no stamps, all gaps are the same
        gaps = [(abs(_nanoseconds(depth) - stamp), depth) for depth in reversed(self._depths)]
        gap, depth = min(gaps, key=lambda pair: pair[0], default=(0, None))
        return depth if gap <= self._slop_ns else None

    def _send(self, picture: Picture) -> None:
        depth = self._nearest(picture)
        if depth is None:
            self._misses += 1
            self._alone_ns = _nanoseconds(picture.message)
        else:
            self._misses = 0
        self._deliver(replace(picture, depth=depth))


def _nanoseconds(message: Any) -> int:
    stamp = message.header.stamp
    return 1_000_000_000 * stamp.sec + stamp.nanosec
