"""graphs: work on tensors that stay in place, replayed as CUDA graphs.

A frame is a few thousand small kernels; starting them one by one takes longer than running them. A
graph starts them all at once. What is captured reads and writes the same memory on every replay, so
a key has to name everything that may change: shapes, camera, options. On the CPU everything simply
runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from mpmesh_core.clock import Events, StageClock
from mpmesh_core.errors import MPMeshError, first_line

logger = logging.getLogger(__name__)

MOST_GRAPHS = 64  # then all are dropped: pictures of ever new sizes would fill the memory


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    output: Tensor
    events: Events
    function: Callable[[], Tensor]  # holds what the graph reads, so that nobody frees it


class Graphs:
    """Runs functions by key: the first time as they are, from the second time on as a graph.

    What cannot be recorded runs as it is every time; one warning says so.
    """

    def __init__(self, device: torch.device, clock: StageClock) -> None:
        self._device, self._clock = device, clock
        self._recordings: dict[Hashable, _Recording | None] = {}
        self._unrecordable: set[Hashable] = set()
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None
        self.steady = True  # whether everything since this was set was a replay

    def run(self, key: Hashable, function: Callable[[], Tensor]) -> Tensor:
        """What `function` returns, on the current stream.

        Args:
            key: the same for calls that may share a graph.
            function: reads only tensors that stay in place and constants; never waits for the
                device. Its output is overwritten by the next run of the key.
        """
        if self._device.type != "cuda" or key in self._unrecordable:
            return function()
        recording = self._recordings.get(key)
        self.steady = self.steady and recording is not None
        if key not in self._recordings:  # also warms up: libraries choose their kernels
            if len(self._recordings) >= MOST_GRAPHS:
                self.forget()
            self._recordings[key] = None
            return function()
        if recording is None:
            try:
                recording = self._recordings[key] = self._record(function)
            except (torch.cuda.OutOfMemoryError, MPMeshError):
                raise
            except RuntimeError as error:  # of a library that may not be captured
                logger.warning(
                    "a part of the line runs without a CUDA graph: %s", first_line(error)
                )
                self._unrecordable.add(key)
                return function()
        recording.graph.replay()
        self._clock.include(recording.events)
        return recording.output

    def _record(self, function: Callable[[], Tensor]) -> _Recording:
        graph = torch.cuda.CUDAGraph()
        with (
            self._clock.collect() as events,
            torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"),
        ):
            output = function()
        return _Recording(graph, output, events, function)

    def forget(self) -> None:
        """Drop everything recorded."""
        self._recordings.clear()
