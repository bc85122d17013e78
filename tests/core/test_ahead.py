"""Several frames in the line at once: order, errors, how many, and the same people."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optional_backends import OPENVINO

from mpmesh_core.ahead import MOST, cores, work_ahead
from mpmesh_core.cli.options import frames_at_once
from mpmesh_core.configuration import PipelineConfig
from mpmesh_core.engines import Backend
from mpmesh_core.errors import UsageError
from mpmesh_core.pipeline import Looked, Pipeline
from mpmesh_core.sources import Source
from mpmesh_core.training.synthetic.demo_clip import demo_clip
from mpmesh_core.types import Person


class TestOrder:
    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 12), st.integers(1, 5), st.sets(st.integers(0, 11)))
    def test_every_item_once_in_order_with_its_own_result_or_error(
        self, count: int, at_once: int, failing: set[int]
    ) -> None:
        def work(item: int) -> int:
            time.sleep(0.002 * ((item * 7) % 3))
            if item in failing:
                raise ValueError(item)
            return 10 * item

        seen = []
        for item, result in work_ahead(work, range(count), at_once):
            if item in failing:
                with pytest.raises(ValueError, match=f"^{item}$"):
                    result()
            else:
                assert result() == 10 * item
            seen.append(item)
        assert seen == list(range(count))

    def test_so_many_at_the_same_time(self) -> None:
        together = threading.Barrier(3, timeout=20)  # passes only if three wait in it
        for _, result in work_ahead(lambda _: together.wait(), range(6), 3):
            result()

    def test_one_at_a_time_stays_in_the_caller_and_waits_to_be_asked(self) -> None:
        done = []
        for item, result in work_ahead(
            lambda i: done.append((i, threading.get_ident())), [1, 2], 1
        ):
            assert len(done) == item - 1
            result()
        assert done == [(1, threading.get_ident()), (2, threading.get_ident())]

    def test_reads_no_further_ahead_than_it_must(self) -> None:
        read = []

        def items() -> Iterator[int]:
            for item in range(100):
                read.append(item)
                yield item

        for item, result in work_ahead(lambda item: item, items(), 4):
            result()
            assert len(read) <= item + 5

    def test_an_end_in_the_middle_leaves_no_thread_and_torch_as_it_was(self) -> None:
        before, threads = torch.get_num_threads(), threading.active_count()
        going = work_ahead(lambda item: item, range(100), 3)
        next(going)
        going.close()  # type: ignore[attr-defined]
        assert (torch.get_num_threads(), threading.active_count()) == (before, threads)


@dataclass
class Named:
    """What is asked of a source."""

    kind: str = "video"
    length: int | None = None


class TestHowMany:
    def test_one_a_core_where_frames_wait(self) -> None:
        most = min(cores(), MOST)
        config = PipelineConfig(device="cpu")
        for sources, wanted in (
            ([Named()], most),
            ([Named(length=1)], 1),
            ([Named(length=1), Named(length=40)], most),
            ([Named(kind="camera")], 1),
            ([Named(), Named(kind="camera")], 1),
        ):
            assert frames_at_once(0, config, cast("list[Source]", sources)) == wanted
        limited = PipelineConfig(device="cpu", deadline_ms=50)
        assert frames_at_once(0, limited, cast("list[Source]", [Named()])) == 1
        assert frames_at_once(3, config, cast("list[Source]", [Named(kind="camera")])) == 3

    def test_not_with_a_deadline_and_not_none(self) -> None:
        with pytest.raises(UsageError, match="without a deadline"):
            Pipeline(PipelineConfig(device="cpu", deadline_ms=50), at_once=2)
        with pytest.raises(UsageError, match="1 or more"):
            Pipeline(PipelineConfig(device="cpu"), at_once=0)


class TestSamePeople:
    @pytest.mark.parametrize("backend", ["auto", OPENVINO])
    def test_as_one_frame_after_another(self, backend: Backend) -> None:
        """Three frames in the line at once give the people, identities and velocities of one."""
        scenes = list(demo_clip(frames=8, size=(320, 240)))
        camera = scenes[0].camera
        config = PipelineConfig(device="cpu", backend=backend, second_look="off")

        def people(at_once: int) -> list[list[Person]]:
            pipeline = Pipeline(config, at_once=at_once)

            def look(index: int) -> Looked:
                return pipeline.look(scenes[index].image, camera, index / 15, index)

            frames = []
            for index, looked in work_ahead(look, range(len(scenes)), at_once):
                result = pipeline.follow(looked(), camera)
                assert result.frame == index
                assert {"detect", "track"} <= set(result.timings)
                frames.append(result.people)
            return frames

        alone, together = people(1), people(3)
        assert any(alone)
        for one, other in zip(alone, together, strict=True):
            assert [p.track_id for p in one] == [p.track_id for p in other]
            for a, b in zip(one, other):
                np.testing.assert_allclose(a.joints, b.joints, atol=1e-4)
                assert (a.velocity is None) == (b.velocity is None)
                if a.velocity is not None:
                    np.testing.assert_allclose(a.velocity, b.velocity, atol=1e-3)
