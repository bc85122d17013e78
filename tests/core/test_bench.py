"""Benchmarks: people are forced, figures are in order, files compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mpmesh_core.camera import Camera
from mpmesh_core.cli.bench import _size
from mpmesh_core.detect import DEFAULT_THRESHOLD, Detector
from mpmesh_core.engines import load_engine
from mpmesh_core.errors import InputError, MissingFileError, UsageError
from mpmesh_core.evaluation.bench_files import changes, read_bench
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


def rows(**p50: float) -> dict:
    return {"line": {name: {"p50": value} for name, value in p50.items()}}


class TestFiles:
    def test_rows_that_both_have(self, tmp_path: Path) -> None:
        old, new = tmp_path / "old.json", tmp_path / "new.json"
        old.write_text(json.dumps(rows(a=10.0, b=4.0)))
        new.write_text(json.dumps(rows(c=1.0, b=3.0)))
        (change,) = changes(read_bench(old), read_bench(new))
        assert (change.name, change.percent) == ("b", pytest.approx(-25))

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="mpmesh bench --output"):
            read_bench(tmp_path / "none.json")

    @pytest.mark.parametrize("text", ["{", "[]", '{"line": {"a": {}}}', '{"line": 3}'])
    def test_other_files(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "other.json"
        path.write_text(text)
        with pytest.raises(InputError, match="no result of"):
            read_bench(path)


@pytest.mark.parametrize("text", ["640", "640x", "0x480", "-1x4", "axb"])
def test_sizes(text: str) -> None:
    assert _size("3840x2160") == (3840, 2160)
    with pytest.raises(UsageError, match="width x height"):
        _size(text)
