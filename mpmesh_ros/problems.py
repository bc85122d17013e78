"""problems: what is wrong now, said once per cause, without ROS.

Two texts that differ in numbers only are one cause, so a stream of pictures that are all a little
different in size gives one line, and what comes and goes is said again after `QUIET_S` only.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

QUIET_S = 30.0
_NUMBERS = re.compile(r"\d+(\.\d+)?")


class Problems:
    """The problems of a running node; thread-safe.

    Args:
        warn: gets a line when something goes wrong in a new way.
        inform: gets a line when it is well again.
        clock: gives the time [s].
    """

    def __init__(
        self,
        warn: Callable[[str], None],
        inform: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._warn, self._inform, self._clock = warn, inform, clock
        self._current: dict[str, str] = {}
        self._said: dict[str, float] = {}  # cause -> when
        self._announced: set[str] = set()  # topics whose recovery is worth a line
        self._lock = threading.Lock()

    def report(self, topic: str, text: str) -> None:
        """Something is wrong with `topic`; it is until `solved`."""
        cause, now = f"{topic} {_NUMBERS.sub('#', text)}", self._clock()
        with self._lock:
            self._current[topic] = text
            silent = now - self._said.get(cause, -QUIET_S) < QUIET_S
            self._said[cause] = now
            if not silent:
                self._announced.add(topic)
        if not silent:
            self._warn(text)

    def solved(self, topic: str) -> None:
        """All is well with `topic`."""
        if topic not in self._current:
            return
        with self._lock:
            self._current.pop(topic, None)
            announced = topic in self._announced
            self._announced.discard(topic)
        if announced:
            self._inform(f"{topic}: well again")

    @property
    def current(self) -> dict[str, str]:
        """Topic and text of all that is wrong now."""
        with self._lock:
            return dict(self._current)
