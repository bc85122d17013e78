"""clock: how long each stage of a frame took, on the CPU or in a CUDA stream.

On the CPU that is the time between entering a stage and leaving it. On CUDA two events are put into
the stream around it, also where a graph is being captured: every replay then tells its own times.
Nothing waits; `timings` is for after the frame's last transfer.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

Events = dict[str, tuple[torch.cuda.Event, torch.cuda.Event]]

# Torch before 2.8 can't time inside of a graph: its stages then have no times.
_TIMES_GRAPHS = "external" in inspect.signature(torch.cuda.Event.__new__).parameters


class StageClock(threading.local):
    """Times of the stages of one frame after another, in every thread its own."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self.start()

    def start(self) -> None:
        """Forget the last frame."""
        self._begun = time.perf_counter()
        self._times: dict[str, float] = {}
        self._events: Events = {}

    def spent(self) -> float:
        """Milliseconds since `start`, on the host."""
        return 1e3 * (time.perf_counter() - self._begun)

    @contextmanager
    def stage(self, name: str, on_host: bool = False) -> Iterator[None]:
        """Time what happens inside; `on_host` where it is host work on a CUDA device's line."""
        if on_host or not self._cuda:
            start = time.perf_counter()
            yield
            self._times[name] = 1e3 * (time.perf_counter() - start)
        else:
            first = _record()
            yield
            last = _record()
            if first is not None and last is not None:
                self._events[name] = (first, last)

    @contextmanager
    def collect(self) -> Iterator[Events]:
        """Events of the stages inside, for `include` to add to later frames."""
        outside, self._events = self._events, {}
        collected = self._events
        try:
            yield collected
        finally:
            self._events = outside

    def include(self, events: Events) -> None:
        """Add stages whose events a graph records."""
        self._events |= events

    def timings(self) -> dict[str, float]:
        """Milliseconds of each stage, in the order in which they ran; the device must be done."""
        on_device = {name: first.elapsed_time(last) for name, (first, last) in self._events.items()}
        return on_device | self._times


def _record() -> torch.cuda.Event | None:
    if not torch.cuda.is_current_stream_capturing():
        event = torch.cuda.Event(enable_timing=True)
    elif _TIMES_GRAPHS:
        event = torch.cuda.Event(enable_timing=True, external=True)
    else:
        return None
    event.record()
    return event
