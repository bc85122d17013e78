"""Benchmarks: people are forced, figures are in order, files compare."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from mpmesh_core import cli
from mpmesh_core.camera import Camera
from mpmesh_core.cli import bench, options
from mpmesh_core.cli.bench_sheet import print_line
from mpmesh_core.detect import DEFAULT_THRESHOLD, Detector
from mpmesh_core.engines import load_engine
from mpmesh_core.errors import InputError, MissingFileError, UsageError
from mpmesh_core.evaluation.bench_files import (
    BenchFile,
    Row,
    changes,
    check_common,
    differences,
    read_bench,
)
from mpmesh_core.evaluation.bench_setup import bench_setup
from mpmesh_core.evaluation.latency import (
    FixedPeople,
    spread_boxes,
    time_frames,
    write_random_weights,
)
from mpmesh_core.pipeline import Pipeline, PipelineConfig
from mpmesh_core.tensor_detector import TensorDetector
from mpmesh_core.weights import weights_path

IMAGE = np.full((240, 320, 3), 120, np.uint8)
CAMERA = Camera.from_fov(320, 240)


class TestLatency:
    def test_figures_are_in_order(self) -> None:
        config = PipelineConfig(device="cpu", backend="onnxruntime", refine=False, track=False)
        pipeline = Pipeline(config)
        FixedPeople(pipeline, spread_boxes(2, 320, 240))
        latency = time_frames(pipeline, [IMAGE], CAMERA, runs=6)
        assert 0 < latency.p50 <= latency.p95 <= latency.p99
        assert latency.fps > 0
        assert latency.memory_mb > 10
        assert set(latency.stages) == {"detect", "crop", "skeleton", "place", "ik", "body"}
        assert sum(latency.stages.values()) < 1.5 * latency.p99

    @pytest.mark.parametrize("on_device", [False, True])
    def test_the_detector_runs_and_the_boxes_are_given(
        self, on_device: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipeline = Pipeline(PipelineConfig(device="cpu", backend="torch", track=False))
        engine = load_engine("detector", weights_path("detector"), "torch", torch.device("cpu"))
        detector: Detector = pipeline.detector
        if on_device:
            detector = pipeline.detector = TensorDetector(engine, DEFAULT_THRESHOLD, 32)
        ran, find = [], TensorDetector.find if on_device else type(detector).detect

        def watched(*inputs: Any) -> Any:
            ran.append(None)
            return find(*inputs)

        monkeypatch.setattr(type(detector), "find" if on_device else "detect", watched)

        def found() -> np.ndarray:
            if not on_device:
                return pipeline.detector.detect(IMAGE).boxes
            places = pipeline._find(torch.from_numpy(IMAGE))
            return places.boxes[: int(places.people)].numpy()

        boxes = spread_boxes(3, 320, 240)
        fixed = FixedPeople(pipeline, boxes)
        assert np.allclose(found(), boxes)
        fixed.give(boxes[:1])
        assert np.allclose(found(), boxes[:1])
        assert len(ran) == 2
        fixed.free()
        assert len(found()) == 0

    @pytest.mark.parametrize("people", [1, 7, 32])
    def test_boxes_lie_in_the_picture_and_apart(self, people: int) -> None:
        boxes = spread_boxes(people, 1920, 1080)
        assert boxes.shape == (people, 4)
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert boxes.min() >= 0
        assert (boxes[:, 2:] <= (1920, 1080)).all()
        low, high = boxes[:, None, :2], boxes[:, None, 2:]
        sides = np.minimum(high, boxes[:, 2:]) - np.maximum(low, boxes[:, :2])
        overlap = sides.clip(0).prod(2) - np.diag((boxes[:, 2:] - boxes[:, :2]).prod(1))
        assert overlap.max() < 1

    def test_random_weights_make_a_pipeline(self, tmp_path: Path) -> None:
        folder = write_random_weights(tmp_path, "light")
        pipeline = Pipeline(PipelineConfig(device="cpu", backend="torch", weights=folder))
        assert pipeline.config.weights == folder


def test_tables_fit_into_eighty_columns() -> None:
    names = ("detect", "crop", "skeleton", "place", "ik", "refine", "body", "track")
    figures = dict.fromkeys(
        ("p50", "p95", "p99", "fps", "people", "memory_mb", "fps_at_once"), 123.4
    )
    row = Row(**figures, stages=dict.fromkeys(names, 23.4))
    console = Console(width=80, file=StringIO())
    print_line(console, BenchFile(line={"light onnxruntime cpu 640x480 people found": row}))
    text = console.file.getvalue()
    assert "…" not in text and {*names, "123.4"} <= set(text.split())


def file(setup: dict[str, Any] | None = None, **p50: float) -> BenchFile:
    line = {name: Row(p50=value) for name, value in p50.items()}
    return BenchFile(setup=setup or {}, line=line)


def write(path: Path, figures: BenchFile) -> Path:
    options.write_json(path, figures.model_dump(mode="json", exclude_none=True))
    return path


class TestFiles:
    def test_rows_of_both_and_of_one(self, tmp_path: Path) -> None:
        old = write(tmp_path / "old.json", file(a=10.0, b=4.0))
        new = write(tmp_path / "new.json", file(c=1.0, b=3.0))
        now, both, before = changes(read_bench(old), read_bench(new))
        assert (now.name, now.before, now.now, now.percent) == ("c", None, 1, None)
        assert (both.name, both.percent) == ("b", pytest.approx(-25))
        assert (before.name, before.before, before.now, before.percent) == ("a", 10, None, None)

    def test_nothing_in_common(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"old\.json .*: it has a; .* are b, c"):
            check_common(Path("old.json"), file(a=1.0), ["b", "c"])
        check_common(Path("old.json"), file(a=1.0), ["b", "a"])

    def test_what_else_differs(self) -> None:
        before = file({"refine": True, "torch": "2.10", "cores": 2})
        now = file({"refine": False, "torch": "2.13", "cores": 2, "more": 1})
        told = "measured differently: refine (True, now False), torch (2.10, now 2.13)"
        assert differences(before, now) == told
        assert differences(before, before) is None
        assert "does not say" in str(differences(before, file()))

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="mpmesh bench --output"):
            read_bench(tmp_path / "none.json")
        with pytest.raises(InputError, match="cannot be read"):
            read_bench(tmp_path)

    @pytest.mark.parametrize(
        "text",
        [
            "{",
            "[]",
            '{"line": {"a": {}}}',
            '{"line": 3}',
            '{"line": {}}',
            '{"line": {"a": "p50"}}',
            '{"line": {"a": {"p50": null}}}',
            '{"line": {"a": {"p50": 0}}}',
            '{"line": {"a": {"p50": NaN}}}',
            '{"line": {"a": {"p50": 1}}, "setup": 3}',
        ],
    )
    def test_other_files(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "other.json"
        path.write_text(text)
        with pytest.raises(InputError, match="no result of") as error:
            read_bench(path)
        assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(PipelineConfig(device="cpu", refine=False))


class TestSetup:
    def test_json_holds_what_decides_the_figures(self, pipeline: Pipeline) -> None:
        setup = bench_setup(pipeline)
        assert json.loads(json.dumps(setup)) == setup
        assert {name: setup[name] for name in ("refine", "mirror", "second_look", "fuse")} == {
            "refine": False,
            "mirror": False,
            "second_look": "on",
            "fuse": "off",
        }
        assert (setup["backend"], setup["precision"]) == ("onnxruntime", "float32")
        assert setup["torch"] == torch.__version__
        assert {"cores", "device", "mpmesh", "onnxruntime", "skeleton_weights"} <= setup.keys()
        assert "refiner_weights" not in setup

    def test_other_weights(self, pipeline: Pipeline, tmp_path: Path) -> None:
        folder = write_random_weights(tmp_path, "light")
        other = Pipeline(PipelineConfig(device="cpu", backend="torch", weights=folder))
        told = differences(
            BenchFile(setup=bench_setup(pipeline)), BenchFile(setup=bench_setup(other))
        )
        assert told is not None
        assert "skeleton_weights" in told
        assert "detector_weights" not in told  # the same file elsewhere


class TestCommand:
    @pytest.fixture
    def asked(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """What the command asks a pipeline for."""
        values: dict[str, Any] = {}

        def load(**given: object) -> Pipeline:
            values.update(given)
            return pipeline

        monkeypatch.setattr(options, "load_pipeline", load)
        return values

    @staticmethod
    def call(*words: object) -> Any:
        return CliRunner().invoke(cli.app, ["bench", *map(str, words)])

    def test_measures_and_writes(
        self, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(bench, "_frames_at_once", lambda _: None)
        path = tmp_path / "new" / "figures.json"
        words = "--size", "64x64", "--people", 1, "--runs", 5, "--no-geometry"
        assert self.call(*words, "--output", path).exit_code == 0
        found = read_bench(path)
        ((name, row),) = found.line.items()
        assert name == "light onnxruntime cpu 64x64 1 people"
        assert (row.people, row.runs) == (1, 5)
        assert asked["second_look"] == "off"  # forced boxes hold nobody who is worth it
        assert found.setup["device"]

    @pytest.mark.parametrize(
        ("words", "looks"),
        [
            (["--people", 2], "off"),
            (["--people", 2, "--second-look", "on"], "on"),
            ([], "auto"),
        ],
    )
    def test_second_looks(
        self,
        asked: dict[str, Any],
        monkeypatch: pytest.MonkeyPatch,
        words: list[object],
        looks: str,
    ) -> None:
        monkeypatch.setattr(bench, "_rows", lambda *_: iter(()))
        assert self.call(*words, "--no-geometry").exit_code == 0
        assert asked["second_look"] == looks

    @pytest.mark.parametrize(
        ("words", "most"),
        [
            ([], 32),
            (["--max-people", 16, "--people", 8], 16),
            (["--max-people", 16, "--people", 20], 20),
        ],
    )
    def test_people_that_a_kept_engine_serves(
        self,
        asked: dict[str, Any],
        monkeypatch: pytest.MonkeyPatch,
        words: list[object],
        most: int,
    ) -> None:
        monkeypatch.setattr(bench, "_rows", lambda *_: iter(()))
        assert self.call(*words, "--no-geometry").exit_code == 0
        assert asked["max_people"] == most

    @pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143)])
    def test_what_was_measured_stays(
        self,
        asked: dict[str, Any],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        stop: BaseException,
    ) -> None:
        def measured(*_: object) -> Iterator[tuple[str, Row]]:
            yield "first", Row(p50=3.0)
            raise stop

        monkeypatch.setattr(bench, "_rows", measured)
        outcome = self.call("--output", tmp_path / "figures.json")
        assert outcome.exit_code != 0
        assert "first" in outcome.output
        assert list(read_bench(tmp_path / "figures.json").line) == ["first"]

    def test_what_cannot_be_done_is_told_before_measuring(
        self, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(bench, "_measure", lambda *_: pytest.fail("measured"))
        old = write(tmp_path / "old.json", file(a=1.0))
        outcome = self.call("--output", old / "figures.json")
        assert "cannot be written" in str(outcome.exception)
        outcome = self.call("--against", old)
        assert "no row in common" in str(outcome.exception)
        assert isinstance(self.call("--size", "3x3").exception, UsageError)

    def test_read(self, tmp_path: Path) -> None:
        old = write(tmp_path / "old.json", file({"refine": True}, same=10.0, gone=2.0))
        new = write(tmp_path / "new.json", file({"refine": False}, same=5.0))
        alone = self.call("--read", new)
        assert alone.exit_code == 0
        assert "same" in alone.output and "5.0" in alone.output
        both = self.call("--read", new, "--against", old)
        for text in ("-50.0 %", "only before", "warning: measured differently: refine"):
            assert text in both.output
        refused = self.call("--read", new, "--runs", 100, "--no-geometry", "--against", old)
        assert isinstance(refused.exception, UsageError)
        assert str(refused.exception).endswith("leave out --runs, --geometry")


@pytest.mark.parametrize("text", ["640", "640x", "0x480", "-1x4", "axb", "63x64", "3x3"])
def test_sizes(text: str) -> None:
    assert options.picture_size("3840x2160") == (3840, 2160)
    assert options.picture_size("64x64") == (64, 64)
    with pytest.raises(UsageError, match="width x height"):
        options.picture_size(text)
