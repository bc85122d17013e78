"""problems: what is wrong now, said once per cause, without ROS.

Two texts that differ in numbers only are one cause, so a stream of pictures that are all a little
different in size gives one line, and what comes and goes is said again after `QUIET_S` only.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

QUIET_S = 30.0
LASTS_S = 10.0  # since it was last reported: with the pictures that were bad, their problem ends
_NUMBERS = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class _Problem:
    text: str
    when: float  # it was last reported [s]
    lasts: Callable[[], bool] | None


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
        self._current: dict[str, _Problem] = {}
        self._said: dict[str, float] = {}  # cause -> when
        self._announced: set[str] = set()  # topics whose recovery is worth a line
        self._lock = threading.Lock()

    def report(self, topic: str, text: str, lasts: Callable[[], bool] | None = None) -> None:
        """Something is wrong with `topic`; it is until `solved`.

        Args:
            topic: what it is about.
            text: what is wrong.
            lasts: tells whether it still is, of what is reported once; else a problem ends where
                it isn't reported again for `LASTS_S`.
        """
        cause, now = f"{topic} {_NUMBERS.sub('#', text)}", self._clock()
        with self._lock:
            self._current[topic] = _Problem(text, now, lasts)
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

    def forget(self, topic: str) -> None:
        """It doesn't matter any longer, well or not."""
        with self._lock:
            self._current.pop(topic, None)
            self._announced.discard(topic)

    def expire(self, after_s: float = LASTS_S) -> None:
        """Forget what hasn't been reported for so long [s] and cannot tell whether it lasts."""
        oldest = self._clock() - after_s
        with self._lock:
            ended = [t for t, p in self._current.items() if p.lasts is None and p.when <= oldest]
            for topic in ended:  # should it come again soon, and go, its recovery is worth a line
                del self._current[topic]

    @property
    def current(self) -> dict[str, str]:
        """Topic and text of all that is wrong now."""
        self.expire()
        with self._lock:
            found = dict(self._current)
        for topic, problem in found.items():
            if problem.lasts is not None and not problem.lasts():
                self.solved(topic)
        with self._lock:
            return {topic: problem.text for topic, problem in self._current.items()}
