"""worker: one slot for the newest picture and one thread that works on it, without ROS.

A picture that comes while the thread is busy waits in the slot; the next one takes its place. So
nothing queues up, and the thread always works on the newest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


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

    def take(self) -> T | None:
        """Wait for an item; None once the slot is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._item is not None)
            item, self._item = self._item, None
            return None if self._closed else item

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
    """

    def __init__(self, work: Callable[[T], None], failed: Callable[[Exception], None]) -> None:
        self.slot: Slot[T] = Slot()
        self._work, self._failed = work, failed
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the item at hand and end."""
        self.slot.close()
        self._thread.join()

    def _run(self) -> None:
        while (item := self.slot.take()) is not None:
            try:
                self._work(item)
            except Exception as error:  # nothing that one picture does may end the node
                self._failed(error)
