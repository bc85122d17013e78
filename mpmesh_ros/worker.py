"""worker: one slot for the newest picture and one thread that works on it, without ROS.

A picture that comes while the thread is busy waits in the slot; the next one takes its place. So
nothing queues up, and the thread always works on the newest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")
WATCH_S = 0.25


class Slot(Generic[T]):
    """Room for one item, from one thread to another."""

    def __init__(self) -> None:
        self._item: T | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> bool:
        """Leave an item; True where one that nobody had taken had to go."""
        with self._changed:
            replaced = self._item is not None
            self._item = item
            self._changed.notify()
        return replaced

    def take(self, timeout_s: float | None = None) -> T | None:
        """Wait for an item; None once the slot is closed, or where none came in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._item is not None, timeout_s)
            item, self._item = self._item, None
            return None if self._closed else item

    @property
    def closed(self) -> bool:
        """Whether nothing is taken any longer."""
        return self._closed

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Worker(Generic[T]):
    """A thread that works on what is left in its slot, one after the other.

    Args:
        work: is called with each item; what it raises goes to `failed`, and the thread goes on.
        failed: is told of errors.
        watch: is called in the same thread after each item, and every `WATCH_S` while none comes.
    """

    def __init__(
        self,
        work: Callable[[T], None],
        failed: Callable[[Exception], None],
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        self.slot: Slot[T] = Slot()
        self._work, self._failed, self._watch = work, failed, watch
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the item at hand and end."""
        self.slot.close()
        self._thread.join()

    def _run(self) -> None:
        while not self.slot.closed:
            item = self.slot.take(WATCH_S)
            if item is not None:
                self._guarded(partial(self._work, item))
            if not self.slot.closed:
                self._guarded(self._watch)

    def _guarded(self, action: Callable[[], None]) -> None:
        """Nothing that one picture does may end the node."""
        try:
            action()
        except Exception as error:
            self._failed(error)
