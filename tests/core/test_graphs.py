"""Graphs and stage times on a stand-in for CUDA: run once, record once, then replay."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from mpmesh_core import graphs
from mpmesh_core.clock import StageClock
from mpmesh_core.errors import DeviceError
from mpmesh_core.graphs import Graphs

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")


class FakeCuda:
    """Counts replays; time goes on by 1 ms with every event recorded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.capturing, self.now = False, 0.0
        self.external: list[bool] = []
        cuda = self

        class CUDAGraph:
            def __init__(self) -> None:
                self.replays = 0

            def replay(self) -> None:
                self.replays += 1

        class Event:
            def __init__(self, enable_timing: bool = False, external: bool = False) -> None:
                assert enable_timing
                cuda.external.append(external)

            def record(self) -> None:
                cuda.now += 1
                self.at = cuda.now

            def elapsed_time(self, later: Event) -> float:
                return later.at - self.at

        @contextmanager
        def graph(recorded: CUDAGraph, pool: object, capture_error_mode: str) -> Iterator[None]:
            cuda.capturing = True
            try:
                yield
            finally:
                cuda.capturing = False

        monkeypatch.setattr(torch.cuda, "CUDAGraph", CUDAGraph)
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "graph", graph)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: cuda.capturing)
        monkeypatch.setattr("mpmesh_core.clock._TIMES_GRAPHS", True)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


class Work:
    """A function that counts its calls and has one stage."""

    def __init__(self, clock: StageClock) -> None:
        self.clock, self.calls = clock, 0

    def __call__(self) -> torch.Tensor:
        self.calls += 1
        with self.clock.stage("detect"):
            return torch.tensor(float(self.calls))


class TestGraphs:
    def test_runs_then_records_then_replays(self, cuda: FakeCuda) -> None:
        clock = StageClock(GPU)
        made, work = Graphs(GPU, clock), Work(clock)
        steady = []
        for _ in range(4):
            clock.start()
            made.steady = True
            made.run("key", work)
            steady.append(made.steady)
            assert clock.timings() == {"detect": 1.0}
        assert work.calls == 2
        assert steady == [False, False, True, True]
        assert cuda.external == [False, False, True, True]  # only within a graph

    def test_every_key_has_its_own(self, cuda: FakeCuda) -> None:
        clock = StageClock(GPU)
        made, work = Graphs(GPU, clock), Work(clock)
        outputs = [made.run(key, work).item() for key in "aabbab"]
        assert outputs == [1, 2, 3, 4, 2, 4]

    def test_what_a_graph_reads_stays(self, cuda: FakeCuda) -> None:
        clock = StageClock(GPU)
        made = Graphs(GPU, clock)
        kept = weakref.WeakSet()
        for _ in range(2):  # each frame makes its own function
            work = Work(clock)
            kept.add(work)
            made.run("key", work)
        del work
        assert [work.calls for work in kept] == [1]
        made.forget()
        assert not kept

    def test_ever_new_keys_do_not_pile_up(
        self, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(graphs, "MOST_GRAPHS", 3)
        clock = StageClock(GPU)
        made, work = Graphs(GPU, clock), Work(clock)
        for key in range(10):
            made.run(key, work)
            assert len(made._recordings) <= 3

    def test_what_cannot_be_recorded_runs_every_time_with_one_warning(
        self, cuda: FakeCuda, caplog: pytest.LogCaptureFixture
    ) -> None:
        clock = StageClock(GPU)
        made, work = Graphs(GPU, clock), Work(clock)

        def refuse() -> torch.Tensor:
            if cuda.capturing:
                raise RuntimeError("operation not permitted when stream is capturing\nmore")
            return work()

        for run in range(4):
            clock.start()
            made.steady = True
            assert made.run("key", refuse).item() == run + 1
            assert clock.timings() == {"detect": 1.0}
        assert made.steady
        (record,) = caplog.records
        assert record.getMessage().endswith("not permitted when stream is capturing")

    def test_errors_of_ones_own_are_no_reason_to_go_on(self, cuda: FakeCuda) -> None:
        made = Graphs(GPU, StageClock(GPU))

        def fail() -> torch.Tensor:
            if cuda.capturing:
                raise DeviceError("out of memory")
            return torch.zeros(1)

        made.run("key", fail)
        for _ in range(2):
            with pytest.raises(DeviceError):
                made.run("key", fail)

    def test_on_the_cpu_everything_just_runs(self) -> None:
        clock = StageClock(CPU)
        made, work = Graphs(CPU, clock), Work(clock)
        assert [made.run("key", work).item() for _ in range(3)] == [1, 2, 3]


class TestStageClock:
    def test_stages_in_order_and_forgotten(self) -> None:
        clock = StageClock(CPU)
        for name in ("detect", "crop"):
            with clock.stage(name):
                pass
        assert list(clock.timings()) == ["detect", "crop"]
        assert all(value >= 0 for value in clock.timings().values())
        clock.start()
        assert clock.timings() == {}
        assert clock.spent() >= 0

    def test_host_stages_beside_a_gpu(self, cuda: FakeCuda) -> None:
        clock = StageClock(GPU)
        with clock.stage("track", on_host=True):
            pass
        with clock.stage("detect"):
            pass
        assert list(clock.timings()) == ["detect", "track"]
        assert cuda.now == 2

    def test_old_torch_gives_no_times_within_graphs(
        self, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mpmesh_core.clock._TIMES_GRAPHS", False)
        clock = StageClock(GPU)
        cuda.capturing = True
        with clock.stage("detect"):
            pass
        assert clock.timings() == {}
