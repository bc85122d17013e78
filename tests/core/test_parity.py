"""Parity: a pipeline does not differ from itself, a spoiled one is told, the command fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from mpmesh_core.cli.engine import app
from mpmesh_core.engines import Engine
from mpmesh_core.engines.plan_cache import PlanKey, StoredPlan, plan_folder, write_plan
from mpmesh_core.errors import DeviceError, NumericalError
from mpmesh_core.evaluation import parity
from mpmesh_core.evaluation.parity import LIMITS, Difference, compare
from mpmesh_core.pipeline import Pipeline, PipelineConfig
from mpmesh_core.training.synthetic.demo_clip import demo_clip
from mpmesh_core.types import Array, Detections

SCENE = next(iter(demo_clip(frames=1)))
PICTURES = [(SCENE.image, SCENE.camera)]


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
        rows = compare(same, same, PICTURES)
        assert [(row.stage, row.quantity, row.unit) for row in rows] == list(LIMITS)
        for row in rows:
            assert row.ok
            assert row.worst < 0.1  # arc cosine of almost 1
        assert isinstance(same.skeleton, type(pipeline().skeleton))  # nothing is left behind

    def test_what_differs_is_told(self) -> None:
        shifted = pipeline()
        shifted.skeleton = Shifted(shifted.skeleton)
        rows = {row.quantity: row for row in compare(pipeline(), shifted, PICTURES)}
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
        rows = compare(plain, compiled, PICTURES)
        assert all(row.ok for row in rows)

    def test_other_people_are_infinitely_different(self) -> None:
        blind = pipeline()
        blind.detector = Nobody()
        rows = {row.quantity: row for row in compare(pipeline(), blind, PICTURES)}
        assert rows["boxes"].mean == np.inf
        assert not rows["boxes"].ok
        assert rows["joints"].ok  # of the same boxes

    def test_nan_does_not_pass(self) -> None:
        assert not Difference("people", "joints", "mm", np.nan, np.nan, 2.0).ok


class TestCommand:
    @pytest.fixture
    def call(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable:
        monkeypatch.setenv("MPMESH_CACHE_DIR", str(tmp_path))
        return lambda *words: CliRunner().invoke(app, list(words))

    def test_build(self, call: Callable) -> None:
        done = call("build", "--backend", "onnxruntime", "--device", "cpu")
        assert done.exit_code == 0
        for name in ("detector", "skeleton", "refiner"):
            assert f"{name}: ready for onnxruntime on cpu" in done.output

    @pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
    def test_build_without_a_gpu(self, call: Callable) -> None:
        failed = call("build", "--backend", "tensorrt", "--device", "cpu")
        assert isinstance(failed.exception, DeviceError)
        assert "needs an NVIDIA GPU" in str(failed.exception)

    def test_info(self, call: Callable) -> None:
        assert "no TensorRT engines" in call("info").output
        key = PlanKey("skeleton", "abc", "half", "GPU (9.0)", "11.4.0", "image 1x3..8x3")
        write_plan(plan_folder() / "skeleton-1.plan", StoredPlan(key, b"plan"))
        (plan_folder() / "other.plan").write_bytes(b"something else")
        listed = call("info").output
        assert "11.4.0" in listed
        assert "not an" in listed

    def test_check(self, call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
        words = ("check", "--backend", "onnxruntime", "--device", "cpu", "--frames", "1")
        assert call(*words).exit_code == 0
        monkeypatch.setattr(parity, "LIMITS", dict.fromkeys(LIMITS, -1.0))
        failed = call(*words)
        assert isinstance(failed.exception, NumericalError)
        assert "people joints" in str(failed.exception)
