"""OpenVINO: what torch computes, for any shapes and from many threads; bad files are named."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from optional_backends import needs_openvino
from torch import Tensor

from mpmesh_core.camera import Camera
from mpmesh_core.engines import SHAPES_KEPT, load_engine, openvino
from mpmesh_core.engines.onnx_cache import cached_onnx
from mpmesh_core.engines.openvino import KEPT, PIECES, OpenVinoEngine, import_openvino
from mpmesh_core.errors import MissingPackageError, WeightsError
from mpmesh_core.evaluation.bench_setup import bench_setup
from mpmesh_core.evaluation.latency import FixedPeople, spread_boxes
from mpmesh_core.networks.checkpoint import load_checkpoint, save_checkpoint
from mpmesh_core.networks.refiner import RefinerConfig, RefinerNetwork
from mpmesh_core.pipeline import Pipeline, PipelineConfig
from mpmesh_core.weights import weights_path

CPU = torch.device("cpu")
EXACT = 1e-4  # of the largest value; bfloat16 is 1e-2 off


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MPMESH_CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def refiner(cache: Path, small_refiner: Path) -> OpenVinoEngine:
    return OpenVinoEngine("refiner", cached_onnx("refiner", small_refiner))


def people(small_refiner: Path, count: int) -> dict[str, Tensor]:
    """Inputs of a refiner: other numbers for every number of people."""
    torch.manual_seed(count)
    network, _ = load_checkpoint(small_refiner)
    return network.example_inputs(count)


def pictures(*shape: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    return {"image": 255 * torch.rand(shape, generator=generator)}


def counted(engine: OpenVinoEngine, monkeypatch: pytest.MonkeyPatch) -> list[openvino.Shapes]:
    """Shapes for which an engine is compiled from now on."""
    shapes: list[openvino.Shapes] = []
    compile_ = engine._compile
    monkeypatch.setattr(engine, "_compile", lambda m, s: (shapes.append(s), compile_(m, s))[1])
    return shapes


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, value in found.items():
        assert value.dtype == torch.float32
        assert value.shape == expected[name].shape
        worst = (value - expected[name]).abs().max()
        assert worst <= EXACT * expected[name].abs().max().clamp(min=1), name


@needs_openvino
class TestNumbers:
    @pytest.mark.parametrize(
        ("name", "shapes"),
        [
            ("detector", [(1, 3, 96, 128), (1, 3, 128, 96), (1, 3, 32, 416), (1, 3, 96, 128)]),
            ("skeleton", [(1, 3, 256, 256), (7, 3, 256, 256), (2, 3, 256, 256)]),
        ],
    )
    def test_those_of_torch_for_one_shape_after_another(
        self, name: str, shapes: list[tuple[int, ...]]
    ) -> None:
        engine, truth = (
            load_engine(name, weights_path(name), backend, CPU) for backend in ("openvino", "torch")
        )
        assert (engine.backend, engine.device, engine.name) == ("openvino", CPU, name)
        for shape in shapes:
            assert_same(engine.run(pictures(*shape)), truth.run(pictures(*shape)))

    def test_those_of_torch_for_people_and_context(self, cache: Path, small_refiner: Path) -> None:
        engine, truth = (
            load_engine("refiner", small_refiner, backend, CPU) for backend in ("openvino", "torch")
        )
        for count in (1, 5, 2, 9):
            inputs = people(small_refiner, count)
            assert_same(engine.run(inputs), truth.run(inputs))
            one = inputs | {"context": inputs["context"][:, :1], "valid": inputs["valid"][:, :1]}
            assert_same(engine.run(one), truth.run(one))

    def test_the_same_bytes_again_and_from_another_engine(
        self, refiner: OpenVinoEngine, small_refiner: Path
    ) -> None:
        other = load_engine("refiner", small_refiner, "openvino", CPU)
        inputs = people(small_refiner, 3)
        first = refiner.run(inputs)
        for again in (refiner.run(inputs), other.run(inputs)):
            assert all(torch.equal(again[name], value) for name, value in first.items())

    def test_inputs_stay_and_outputs_are_the_callers_own(
        self, refiner: OpenVinoEngine, small_refiner: Path
    ) -> None:
        inputs = people(small_refiner, 2)
        before = {name: value.clone() for name, value in inputs.items()}
        first = refiner.run(inputs)
        kept = {name: value.clone() for name, value in first.items()}
        refiner.run({name: value.flip(0) for name, value in inputs.items()})
        assert all(torch.equal(first[name], value) for name, value in kept.items())
        assert all(torch.equal(inputs[name], value) for name, value in before.items())
        for value in first.values():
            value.fill_(torch.nan)
        again = refiner.run(inputs)
        assert all(torch.equal(again[name], value) for name, value in kept.items())

    def test_inputs_of_other_types_and_not_contiguous(
        self, refiner: OpenVinoEngine, small_refiner: Path
    ) -> None:
        inputs = people(small_refiner, 3)
        other = {
            name: value.double() if value.is_floating_point() else value.int()
            for name, value in inputs.items()
        }
        other["features"] = other["features"].permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)
        assert not other["features"].is_contiguous()
        assert_same(refiner.run(other), refiner.run(inputs))


@needs_openvino
class TestShapes:
    def test_a_few_do_for_any_number_of_people(self, monkeypatch: pytest.MonkeyPatch) -> None:
        path = cached_onnx("skeleton", weights_path("skeleton"))
        engine = OpenVinoEngine("skeleton", path)
        compiled = counted(engine, monkeypatch)
        crops = pictures(9, 3, 256, 256)["image"]
        everybody = engine.run({"image": crops})
        for count in (7, 3, 1):
            some = engine.run({"image": crops[:count]})
            for name, value in some.items():
                assert value.shape == (count, *everybody[name].shape[1:])
                assert (value - everybody[name][:count]).abs().max() <= EXACT, name
        assert sorted(shape[0][0] for shape in compiled) == sorted(PIECES["skeleton"])

    def test_those_used_last_stay(
        self, refiner: OpenVinoEngine, small_refiner: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(openvino, "KEPT", 2)
        compiled = counted(refiner, monkeypatch)
        for count in (1, 2, 1, 3, 1, 2):  # 3 takes the place of 2, then 2 that of 3
            refiner.run(people(small_refiner, count))
            assert len(refiner._idle) <= 2
        assert [shapes[0][0] for shapes in compiled] == [1, 2, 3, 2]

    def test_no_more_stay_than_that(self, refiner: OpenVinoEngine, small_refiner: Path) -> None:
        for count in range(1, KEPT + 3):
            refiner.run(people(small_refiner, count))
        assert len(refiner._idle) == KEPT

    @pytest.mark.parametrize("count", [0, 2])
    def test_those_that_cannot_be_run_are_told_and_do_no_harm(
        self, refiner: OpenVinoEngine, small_refiner: Path, count: int
    ) -> None:
        good = people(small_refiner, 2)
        wrong = {name: value[:count] for name, value in good.items()}
        wrong["betas"] = wrong["betas"][:, :9]
        before = refiner.run(good)
        with pytest.raises(WeightsError, match="refiner network cannot be run: ") as told:
            refiner.run(wrong)
        assert "\n" not in str(told.value)
        after = refiner.run(good)
        assert all(torch.equal(after[name], value) for name, value in before.items())


@needs_openvino
class TestThreads:
    @pytest.mark.parametrize("threads", [0, 1])
    @pytest.mark.parametrize("kept", [1, KEPT])
    def test_many_that_run_at_the_same_time(
        self,
        cache: Path,
        small_refiner: Path,
        threads: int,
        kept: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Also where each drops what the others run."""
        monkeypatch.setattr(openvino, "KEPT", kept)
        engine = OpenVinoEngine("refiner", cached_onnx("refiner", small_refiner), threads)
        given = [people(small_refiner, count) for count in (1, 2, 3, 3)]
        expected = [engine.run(inputs) for inputs in given]
        together = threading.Barrier(len(given), timeout=60)

        def work(which: int) -> bool:
            together.wait()
            runs = [engine.run(given[which]) for _ in range(5)]
            truth = expected[which]
            return all(torch.equal(run[name], truth[name]) for run in runs for name in truth)

        with ThreadPoolExecutor(len(given)) as pool:
            assert all(pool.map(work, range(len(given))))

    def test_one_for_each_that_runs_at_the_same_time(
        self, refiner: OpenVinoEngine, small_refiner: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compiled = counted(refiner, monkeypatch)
        inputs = people(small_refiner, 2)
        for _ in range(3):
            refiner.run(inputs)
        assert len(compiled) == 1
        give_back, together = refiner._give_back, threading.Barrier(2, timeout=60)
        monkeypatch.setattr(refiner, "_give_back", lambda *it: (together.wait(), give_back(*it)))
        with ThreadPoolExecutor(2) as pool:
            for _ in range(2):
                list(pool.map(lambda _: refiner.run(inputs), range(2)))
        assert len(compiled) == 2

    @pytest.mark.parametrize("threads", [0, 1])
    def test_openvino_does_what_it_is_told(
        self, cache: Path, small_refiner: Path, threads: int
    ) -> None:
        engine = OpenVinoEngine("refiner", cached_onnx("refiner", small_refiner), threads)
        engine.run(people(small_refiner, 1))
        ((request,),) = engine._idle.values()
        asked = request.get_compiled_model().get_property
        assert asked("INFERENCE_PRECISION_HINT").to_string() == "f32"
        assert asked("ENABLE_CPU_PINNING") is False
        assert asked("NUM_STREAMS") == 1
        assert asked("INFERENCE_NUM_THREADS") == threads or not threads


@needs_openvino
class TestFiles:
    @pytest.mark.parametrize("content", ["text", "half", "nothing"])
    def test_no_onnx(self, cache: Path, small_refiner: Path, content: str) -> None:
        path = cache / "bad.onnx"
        good = cached_onnx("refiner", small_refiner).read_bytes()
        path.write_bytes({"text": b"no network", "half": good[: len(good) // 2]}.get(content, b""))
        with pytest.raises(WeightsError, match=str(path)) as told:
            OpenVinoEngine("refiner", path)
        assert "\n" not in str(told.value)

    def test_another_network(self, cache: Path, small_refiner: Path) -> None:
        path = cached_onnx("refiner", small_refiner)
        with pytest.raises(WeightsError, match="holds another network, not a skeleton"):
            OpenVinoEngine("skeleton", path)

    def test_a_network_that_does_not_use_an_input(
        self, cache: Path, tmp_path: Path, listen: Callable[[str], list[str]]
    ) -> None:
        config = RefinerConfig(feature_channels=16, width=32, mlp=48, rearrange="linear")
        network = RefinerNetwork(config)
        path = tmp_path / "refiner-light.safetensors"
        save_checkpoint(path, network, network.config_dict())
        said = listen("mpmesh_core.engines.onnx_cache")
        engine, truth = (load_engine("refiner", path, name, CPU) for name in ("openvino", "torch"))
        assert len(engine.input_names) < len(RefinerNetwork.INPUT_NAMES)
        inputs = network.example_inputs(2)
        assert_same(engine.run(inputs), truth.run(inputs))
        assert not said


@needs_openvino
def test_signals_are_heard_after_engines_have_gone(small_refiner: Path, cache: Path) -> None:
    """In the order in which they were made: see `_core`; only on CPUs with AMX this could fail."""
    path = str(cached_onnx("refiner", small_refiner))
    words = f"""
import signal
from pathlib import Path
from mpmesh_core.engines.openvino import OpenVinoEngine
signal.signal(signal.SIGINT, lambda *_: print("heard"))
engines = [OpenVinoEngine("refiner", Path({path!r})) for _ in range(3)]
for engine in engines:
    engine._take(((1, 16, 8, 8), (1, 24, 8, 8), (1, 24, 6), (1, 10), (1, 3), (1, 3), (1, 3)))
del engine
while engines:
    engines.pop(0)
signal.raise_signal(signal.SIGINT)
"""
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "heard\n")


class TestPackage:
    @pytest.mark.parametrize("kind", ["absent", "broken"])
    def test_one_that_cannot_be_used_is_told_before_anything_is_exported(
        self, cache: Path, small_refiner: Path, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delitem(sys.modules, "openvino", raising=False)
        reason = ""
        if kind == "absent":
            monkeypatch.setitem(sys.modules, "openvino", None)
        else:
            reason = "libopenvino.so: no such file"
            (cache / "openvino.py").write_text(f"raise ImportError('{reason}')")
            monkeypatch.syspath_prepend(cache)
        with pytest.raises(MissingPackageError, match=r"pip install 'mpmesh\[openvino\]'") as told:
            load_engine("refiner", small_refiner, "openvino", CPU)
        assert reason in str(told.value)
        assert "\n" not in str(told.value)
        assert not list(cache.rglob("*.onnx"))

    @needs_openvino
    def test_importing_it_tells_nobody(self, tmp_path: Path) -> None:
        """By a package of its own it would report to a server, and write into the home folder."""
        reporter = tmp_path / "openvino_telemetry"
        reporter.mkdir()
        (reporter / "__init__.py").write_text("raise SystemExit('a report')")
        words = "import sys; from mpmesh_core.engines.openvino import import_openvino as load; "
        words += "load().Core(); assert 'openvino_telemetry' not in sys.modules; load()"
        paths = [str(tmp_path), *sys.path]
        environment = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(paths)}
        subprocess.run([sys.executable, "-c", words], env=environment, check=True)
        assert list(tmp_path.iterdir()) == [reporter]

    @needs_openvino
    def test_what_a_program_has_imported_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first = import_openvino()
        monkeypatch.setitem(sys.modules, "openvino_telemetry", os)
        assert import_openvino() is first
        assert sys.modules["openvino_telemetry"] is os


@needs_openvino
def test_no_frame_waits_after_preparing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a first one nor one with more people, up to as many numbers as are kept."""
    monkeypatch.setitem(SHAPES_KEPT, "openvino", 3)
    pipeline = Pipeline(PipelineConfig(device="cpu", backend="openvino"))
    camera = Camera.from_fov(320, 240)
    pipeline.prepare(camera)
    engines = pipeline.detector.engine, pipeline.skeleton, pipeline.refiner  # type: ignore[attr-defined]
    compiled = [counted(engine, monkeypatch) for engine in engines]
    fixed = FixedPeople(pipeline, spread_boxes(3, 320, 240))
    for people in (3, 1, 2):
        fixed.give(spread_boxes(people, 320, 240))
        pipeline(np.full((240, 320, 3), 99, np.uint8), camera)
    assert compiled == [[], [], []]
    fixed.give(spread_boxes(4, 320, 240))
    pipeline(np.full((240, 320, 3), 99, np.uint8), camera)
    assert [len(shapes) for shapes in compiled] == [0, 1, 1]  # a piece of four, and the refiner


@needs_openvino
def test_another_camera_is_prepared_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the detector's shape depends on it."""
    monkeypatch.setitem(SHAPES_KEPT, "openvino", 1)
    pipeline = Pipeline(PipelineConfig(device="cpu", backend="openvino"))
    pipeline.prepare(Camera.from_fov(320, 240))
    compiled = counted(pipeline.detector.engine, monkeypatch)  # type: ignore[attr-defined]
    monkeypatch.setattr(pipeline, "_people", lambda *_: pytest.fail("prepared for people again"))
    pipeline.prepare(Camera.from_fov(240, 320))
    pipeline.prepare(Camera.from_fov(240, 320, 90))
    assert len(compiled) == 1


@needs_openvino
def test_a_benchmark_says_what_ran() -> None:
    setup = bench_setup(Pipeline(PipelineConfig(device="cpu", backend="openvino")))
    assert (setup["backend"], setup["precision"]) == ("openvino", "float32")
    assert setup["openvino"].startswith(version("openvino"))
