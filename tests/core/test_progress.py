"""Runs over sources: what is shown, counted and written when frames fail or somebody stops it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from people_samples import result_of, standing_person
from rich.console import Console

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.camera import Camera
from mpmesh_core.errors import InputError, NumericalError
from mpmesh_core.outputs import read_results
from mpmesh_core.pipeline import Looked, Pipeline
from mpmesh_core.progress import run_with_progress, summary_table
from mpmesh_core.run_outputs import RunConfig
from mpmesh_core.runner import RunSummary
from mpmesh_core.samples import Samples
from mpmesh_core.showcase import best_frame, draw_showcase, write_showcase
from mpmesh_core.sources import BadFrame, Frame, open_source
from mpmesh_core.types import Array, FrameResult

CAMERA = Camera.from_fov(64, 48, 70.0)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("open")


class FakePipeline:
    """Finds one person who walks along; fails or is interrupted where told."""

    backend, device = "fake", "cpu"

    def __init__(
        self,
        body: BodyModel,
        fail: set[int] | None = None,
        stop: int = -1,
        at_once: int = 1,
    ) -> None:
        self.body, self.faces, self.at_once = body, body.faces.numpy(), at_once
        self.fail, self.stop, self.starts = fail or set(), stop, 0

    def start(self, sequence: bool = True) -> None:
        self.starts += 1

    def look(
        self, image: Array, camera: Camera, stamp: float = 0.0, frame: int = 0, source: str = ""
    ) -> Looked:
        if frame == self.stop:
            raise KeyboardInterrupt
        if frame in self.fail:
            raise NumericalError(f"frame {frame} went wrong")
        people = [standing_person(self.body, camera, 0.1 * frame, 3.0)]
        timings = {"detect": 1.0 + frame, "skeleton": 2.0}
        seen_by = camera.width, camera.height, camera.K, camera.D
        return Looked(FrameResult(frame, stamp, source, *seen_by, people, timings), 1)

    def follow(self, looked: Looked, camera: Camera) -> FrameResult:
        return looked.result


class Pictures:
    """A source of plain pictures, some of them broken."""

    name, kind, sequence = "pictures", "video", True

    def __init__(self, count: int, broken: set[int] | None = None) -> None:
        self.length, self.fps, self.broken = count, 10.0, broken or set()

    def __iter__(self) -> Iterator[Frame | BadFrame]:
        for index in range(self.length):
            if index in self.broken:
                yield BadFrame(index, self.name, f"picture {index} is broken")
            else:
                image = np.full((48, 64, 3), 90, np.uint8)
                yield Frame(index, index / 10, self.name, image, CAMERA)


def run(source: Any, pipeline: Any, folder: Path, **options: Any) -> tuple[RunSummary, str]:
    shown = io.StringIO()
    config = RunConfig(folder=folder, **options)
    console = Console(file=shown, width=100)
    try:
        summary = run_with_progress([source], cast(Pipeline, pipeline), config, console=console)
    except KeyboardInterrupt:
        summary = RunSummary()
    return summary, shown.getvalue()


class TestRun:
    @pytest.mark.parametrize("at_once", [1, 3])
    def test_bad_frames_are_counted_and_the_run_goes_on(
        self, body: BodyModel, tmp_path: Path, at_once: int
    ) -> None:
        pipeline = FakePipeline(body, fail={4}, at_once=at_once)
        summary, shown = run(Pictures(6, broken={1}), pipeline, tmp_path)
        assert (summary.frames, summary.bad_frames, len(summary.bad)) == (4, 2, 2)
        assert [result.frame for result in read_results(tmp_path)] == [0, 2, 3, 5]
        assert "picture 1 is broken" in shown and "frame 4 went wrong" in shown
        assert len(list(open_source(str(tmp_path / "overlay.mp4")))) == 4

    @pytest.mark.parametrize("at_once", [1, 3])
    def test_interrupted(self, body: BodyModel, tmp_path: Path, at_once: int) -> None:
        _, shown = run(Pictures(9), FakePipeline(body, stop=3, at_once=at_once), tmp_path)
        assert "stopped" in shown and "frames" in shown
        assert [result.frame for result in read_results(tmp_path)] == [0, 1, 2]
        assert len(list(open_source(str(tmp_path / "overlay.mp4")))) == 3

    def test_why_an_interrupted_run_had_only_bad_frames(
        self, body: BodyModel, tmp_path: Path
    ) -> None:
        """As of a camera with a calibration of another size, which never ends by itself."""
        pipeline = FakePipeline(body, stop=20)
        _, shown = run(Pictures(30, broken=set(range(20))), pipeline, tmp_path)
        assert "stopped" in shown and "picture 9 is broken" in shown
        assert "picture 10 " not in shown and "and 10 more bad frames" in shown

    def test_only_bad_frames_is_an_error(self, body: BodyModel, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no frame could be used: picture 0 is broken"):
            run(Pictures(2, broken={0, 1}), FakePipeline(body), tmp_path)

    def test_no_pictures_where_none_are_wanted(self, body: BodyModel, tmp_path: Path) -> None:
        run(Pictures(2), FakePipeline(body), tmp_path, overlay=False)
        assert [path.name for path in tmp_path.iterdir()] == ["results.jsonl"]

    def test_same_input_same_bytes(self, body: BodyModel, tmp_path: Path) -> None:
        for name in "ab":
            run(Pictures(3), FakePipeline(body), tmp_path / name, overlay=False)
        first, second = ((tmp_path / name / "results.jsonl").read_bytes() for name in "ab")
        assert first == second

    @pytest.mark.parametrize("stop", [-1, 3])
    def test_recorded_as_messages_up_to_an_interruption(
        self, body: BodyModel, tmp_path: Path, stop: int
    ) -> None:
        pytest.importorskip("mcap", reason="the optional package mcap isn't installed")
        from mpmesh_core.evaluation.observed import observed_in_bag

        path = tmp_path / "people.mcap"
        run(Pictures(5), FakePipeline(body, stop=stop), tmp_path, overlay=False, mcap=path)
        frames = observed_in_bag(path, "/mpmesh/people")
        stamps = [round(1e8 * index) for index in range(5 if stop < 0 else stop)]
        assert [frame.stamp_ns for frame in frames] == stamps
        for frame, result in zip(frames, read_results(tmp_path)):
            np.testing.assert_allclose(frame.joints, [result.people[0].joints], atol=1e-5)


class TestSummaryTable:
    def test_percentiles_and_rate(self) -> None:
        summary = RunSummary(
            frames=4, people=10, timings={"detect": Samples([1.0, 2.0, 3.0, 100.0])}
        )
        shown = io.StringIO()
        Console(file=shown, width=80).print(summary_table(summary, 2.0, "torch on cpu"))
        text = shown.getvalue()
        for part in ("2.5 / 85.4 ms", "2.0 FPS", "10, 2.5 a frame", "torch on cpu"):
            assert part in text


class TestShowcase:
    def test_best_frame_has_most_people(self, body: BodyModel) -> None:
        camera = Camera.from_fov(640, 480, 70.0)
        people = [standing_person(body, camera, x, 4.0, i) for i, x in enumerate((-1.0, 0.0, 1.0))]
        results = [result_of(camera, people[:count]) for count in (1, 3, 2)]
        assert best_frame(results) == 1
        assert best_frame([result_of(camera, [])]) is None
        assert best_frame([]) is None

    def test_small_pictures_are_enlarged(self, body: BodyModel, tmp_path: Path) -> None:
        camera = Camera.from_fov(320, 240, 70.0)
        result = result_of(camera, [standing_person(body, camera, 0.0, 3.0)])
        image = np.full((240, 320, 3), 128, np.uint8)
        assert draw_showcase(image, result, body, camera).shape[0] == 960
        path = write_showcase(tmp_path / "new" / "a.jpg", [image], [result], body, camera)
        assert path is not None and path.stat().st_size > 1000
