"""Parity: a pipeline does not differ from itself, a spoiled one is told, the command fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from optional_backends import OPENVINO
from torch import Tensor
from typer.testing import CliRunner

from mpmesh_core.cli.engine import app
from mpmesh_core.engines import Engine, onnx_cache
from mpmesh_core.engines.plan_cache import (
    PlanKey,
    StoredPlan,
    plan_folder,
    plan_path,
    write_plan,
)
from mpmesh_core.engines.tensorrt_loading import PRECISION
from mpmesh_core.errors import DeviceError, InputError, NumericalError
from mpmesh_core.evaluation import parity
from mpmesh_core.evaluation.parity import LIMITS, Difference, compare
from mpmesh_core.pipeline import Pipeline, PipelineConfig
from mpmesh_core.training.synthetic.demo_clip import demo_clip
from mpmesh_core.types import Array, Detections

SCENE = next(iter(demo_clip(frames=1)))
PICTURES = [(SCENE.image, SCENE.camera)]


BACKENDS = ["onnxruntime", OPENVINO]
CPU = ("--backend", "onnxruntime", "--device", "cpu")


def write_png(path: Path, image: Array) -> None:
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


class Shifted:
    """An engine whose points lie 5 mm off."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs = dict(self.engine.run(inputs))
        outputs["points3d"] = outputs["points3d"] + torch.tensor([0.0, 0.005, 0.0])
        return outputs


class Nobody:
    """A detector that finds nobody."""

    def detect(self, image: Array) -> Detections:
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


def pipeline(backend: str = "onnxruntime") -> Pipeline:
    config = PipelineConfig(
        device="cpu", backend=backend, track=False, mesh=True, second_look="off"
    )
    return Pipeline(config)


class TestCompare:
    def test_a_row_for_every_limit_and_no_difference_from_itself(self) -> None:
        same = pipeline()
        compared = compare(same, same, PICTURES)
        rows = compared.rows
        found = same.detector.detect(SCENE.image)
        assert (compared.pictures, compared.people) == (1, len(found.scores))
        assert [(row.stage, row.quantity, row.unit) for row in rows] == list(LIMITS)
        for row in rows:
            assert row.ok
            assert row.worst < 0.1  # arc cosine of almost 1
        assert isinstance(same.skeleton, type(pipeline().skeleton))  # nothing is left behind

    def test_what_differs_is_told(self) -> None:
        shifted = pipeline()
        shifted.skeleton = Shifted(shifted.skeleton)
        rows = {row.quantity: row for row in compare(pipeline(), shifted, PICTURES).rows}
        assert rows["points3d"].mean == pytest.approx(5, abs=0.01)
        assert not rows["points3d"].ok
        assert rows["boxes"].ok
        assert rows["heatmaps"].ok

    def test_steps_that_do_not_call_the_engine(self) -> None:
        """As when they are compiled: what the step returns is compared all the same."""
        plain, compiled = pipeline(), pipeline()
        engine = compiled.skeleton

        def fuser(name: str, key: Any, step: Callable, *inputs: Any) -> Any:
            there, compiled.skeleton = compiled.skeleton, engine
            try:
                return step(*inputs)
            finally:
                compiled.skeleton = there

        compiled._fuser = fuser  # type: ignore[assignment]
        rows = compare(plain, compiled, PICTURES).rows
        assert all(row.ok for row in rows)

    def test_other_people_are_infinitely_different(self) -> None:
        blind = pipeline()
        blind.detector = Nobody()
        rows = {row.quantity: row for row in compare(pipeline(), blind, PICTURES).rows}
        assert rows["boxes"].mean == np.inf
        assert not rows["boxes"].ok
        assert rows["joints"].ok  # of the same boxes

    def test_nothing_to_compare_does_not_pass(self) -> None:
        blind, other = pipeline(), pipeline()
        blind.detector = Nobody()
        with pytest.raises(InputError, match="nobody was found in 2 pictures"):
            compare(blind, other, 2 * PICTURES)

    def test_people_of_whom_nothing_is_made_do_not_pass(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        same = pipeline()
        monkeypatch.setattr("mpmesh_core.pipeline.to_people", lambda *_: [])
        rows = compare(same, same, PICTURES).rows
        assert {row.stage for row in rows if not row.ok} == {"people"}

    def test_nan_does_not_pass(self) -> None:
        assert not Difference("people", "joints", "mm", np.nan, np.nan, 2.0).ok


class TestCommand:
    @pytest.fixture(scope="class")
    def cache(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("cache")

    @pytest.fixture
    def call(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Callable:
        monkeypatch.setenv("MPMESH_CACHE_DIR", str(cache))
        return lambda *words: CliRunner().invoke(app, list(words))

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_build(self, call: Callable, backend: str) -> None:
        done = call("build", "--backend", backend)
        assert done.exit_code == 0
        for name in ("detector", "skeleton", "refiner"):
            assert f"{name}: ready for {backend} on cpu" in done.output

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_build_what_is_there(
        self, call: Callable, backend: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        call("build", "--backend", backend)
        exported: list[Path] = []
        export = onnx_cache.export_onnx

        def counted(network: Any, path: Path, **options: Any) -> Path:
            exported.append(path)
            return export(network, path, **options)

        monkeypatch.setattr(onnx_cache, "export_onnx", counted)
        assert call("build", "--backend", backend).exit_code == 0
        assert not exported
        assert call("build", "--force", "--backend", backend).exit_code == 0
        assert len(exported) == 3

    def test_build_for_torch(self, call: Callable) -> None:
        assert "nothing is built" in call("build", "--backend", "torch", "--device", "cpu").output

    @pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
    def test_build_without_a_gpu(self, call: Callable) -> None:
        failed = call("build", "--backend", "tensorrt", "--device", "cpu")
        assert isinstance(failed.exception, DeviceError)
        assert "needs an NVIDIA GPU" in str(failed.exception)

    def test_info(self, call: Callable) -> None:
        assert "no TensorRT engines" in call("info").output
        gpu = "NVIDIA GeForce RTX 4090 Laptop GPU (8.9)"
        key = PlanKey("skeleton", "abc", PRECISION, gpu, "10.16.1.11", "image 3..3", 256)
        write_plan(plan_path(key), StoredPlan(key, b"plan"))
        spoiled = plan_folder() / "spoiled.plan"
        write_plan(spoiled, StoredPlan(replace(key, gpu=[1]), b"plan"))  # type: ignore[arg-type]
        (plan_folder() / "other.plan").write_bytes(b"something else")
        lines = call("info").output.splitlines()
        assert all(len(line) <= 80 for line in lines)
        listed = "\n".join(lines)
        for told in (gpu, "10.16.1.11", PRECISION, "1..256 people", plan_path(key).name):
            assert told in listed
        assert "other.plan: not usable, its file is not an engine" in listed
        assert "spoiled.plan: not usable, its file is damaged" in listed

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_check(self, call: Callable, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
        words = ("check", "--frames", "1", "--backend", backend)
        assert call(*words).exit_code == 0
        monkeypatch.setattr(parity, "LIMITS", dict.fromkeys(LIMITS, -1.0))
        failed = call(*words)
        assert isinstance(failed.exception, NumericalError)
        assert "people joints" in str(failed.exception)

    def test_check_tells_what_it_compared(self, call: Callable, tmp_path: Path) -> None:
        write_png(tmp_path / "a.png", SCENE.image)
        (tmp_path / "b.png").write_bytes(b"no picture")
        done = call("check", str(tmp_path), *CPU, "--max-people", "2")
        assert done.exit_code == 0
        assert "1 pictures, 2 people" in " ".join(done.output.split())
        assert "left out: " in done.output and "b.png" in done.output

    def test_check_of_pictures_that_cannot_be_used(self, call: Callable, tmp_path: Path) -> None:
        for name in ("a.png", "b.png"):
            (tmp_path / name).write_bytes(b"no picture")
        failed = call("check", str(tmp_path), *CPU)
        assert isinstance(failed.exception, InputError)
        assert re.match(r"no picture could be used: .*a\.png", str(failed.exception))

    def test_check_of_nobody(self, call: Callable, tmp_path: Path) -> None:
        write_png(tmp_path / "grey.png", np.full((240, 320, 3), 128, np.uint8))
        failed = call("check", str(tmp_path / "grey.png"), *CPU)
        assert isinstance(failed.exception, InputError)
        assert "nobody was found in 1 pictures" in str(failed.exception)
