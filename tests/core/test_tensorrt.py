"""TensorRT: every name exists in both versions; building, caching and binding with a stand-in."""

import errno
import json
import os
import pkgutil
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import tensorrt_stand_in as stand_in
import torch
from optional_backends import OPENVINO
from typer.testing import CliRunner

from mpmesh_core import cli, steps
from mpmesh_core.camera import Camera
from mpmesh_core.detect import DEFAULT_SIZE, letterbox
from mpmesh_core.engines import choose_backend, load_engine, tensorrt_build, tensorrt_loading
from mpmesh_core.engines import tensorrt as runtime
from mpmesh_core.engines.onnx_cache import cached_onnx
from mpmesh_core.engines.tensorrt import TensorRTEngine
from mpmesh_core.engines.tensorrt_build import InputRange, Watch, build_plan
from mpmesh_core.engines.tensorrt_loading import load_tensorrt, profile_of
from mpmesh_core.engines.torch import TorchEngine
from mpmesh_core.errors import DeviceError, MissingPackageError, UsageError, WeightsError
from mpmesh_core.networks.checkpoint import load_checkpoint
from mpmesh_core.networks.refiner import RefinerNetwork
from mpmesh_core.weights import weights_path

CPU = torch.device("cpu")
SOURCES = [Path(module.__file__) for module in (runtime, tensorrt_build, tensorrt_loading)]


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The stand-in in the bindings' place, an empty cache, and CUDA calls that do nothing."""
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in)
    monkeypatch.setenv("MPMESH_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=7))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Stand-in GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    stand_in.builds.clear()
    yield tmp_path


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one GPU, as far as torch says."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.fixture(params=["absent", "broken", "old"])
def unusable(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> str:
    """Bindings that cannot be used, and what is said of them."""
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    if request.param == "absent":
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        return "pip install tensorrt"
    if request.param == "old":
        monkeypatch.setattr(stand_in, "__version__", "8.5.2.2")
        monkeypatch.setitem(sys.modules, "tensorrt", stand_in)
        return "needs TensorRT 10 or newer, this is 8.5.2.2"
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: no such file')")
    monkeypatch.syspath_prepend(tmp_path)
    return r"cannot be loaded \(libnvinfer.so.10: no such file\)"


class TestNames:
    def test_the_stand_in_has_no_other_names(self) -> None:
        for kind, names in stand_in.NAMES.items():
            found = {name for name in vars(getattr(stand_in, kind)) if not name.startswith("_")}
            found |= {"num_io_tensors"} if kind == "ICudaEngine" else set()
            assert found == names, kind

    def test_the_code_uses_no_other_names(self) -> None:
        text = "\n".join(path.read_text() for path in SOURCES)
        used = set(re.findall(r"\btrt\.([A-Za-z_]+)", text)) - {"__version__"}
        assert used <= set(stand_in.NAMES)
        for kind, name in re.findall(r"\btrt\.([A-Za-z_]+)\.([A-Z_0-9]+)\b", text):
            assert name in stand_in.NAMES[kind]

    @pytest.mark.parametrize("version", ["10.16.1", "11.4.0"])
    def test_both_versions_have_them(self, version: str) -> None:
        data = os.environ.get("MPMESH_TEST_DATA", "")
        path = Path(data).parent / "reference" / f"tensorrt-api-{version}.json"
        if not data or not path.is_file():
            pytest.skip(f"no list of the names of TensorRT {version}")
        real = json.loads(path.read_text())
        for kind, names in stand_in.NAMES.items():
            assert names <= set(real[kind]), kind


class TestLoading:
    def test_computes_what_torch_computes(self, tensorrt: Path, small_refiner: Path) -> None:
        engine = load_tensorrt("refiner", small_refiner, CPU, max_people=8)
        network, _ = load_checkpoint(small_refiner)
        assert engine.input_names == RefinerNetwork.INPUT_NAMES
        assert engine.output_names == RefinerNetwork.OUTPUT_NAMES
        for people in (1, 8, 3, 8, 1):  # graphs hold earlier runs, so shapes keep their contexts
            inputs = network.example_inputs(people)
            expected = TorchEngine("refiner", network, CPU).run(inputs)
            found = engine.run(inputs)
            for name, value in expected.items():
                assert found[name].dtype == torch.float32
                torch.testing.assert_close(found[name], value, atol=2e-2, rtol=1e-2)

    def test_more_people_than_it_was_built_for(self, tensorrt: Path, small_refiner: Path) -> None:
        engine = load_tensorrt("refiner", small_refiner, CPU, max_people=2)
        network, _ = load_checkpoint(small_refiner)
        with pytest.raises(UsageError, match=r"not built for features .*--max-people"):
            engine.run(network.example_inputs(3))

    def test_built_once(self, tensorrt: Path, small_refiner: Path) -> None:
        for _ in range(2):
            load_tensorrt("refiner", small_refiner, CPU, max_people=2)
        assert len(stand_in.builds) == 1
        load_tensorrt("refiner", small_refiner, CPU, max_people=2, force=True)
        assert len(stand_in.builds) == 2

    def test_another_version_is_built_anew_with_one_line_why(
        self,
        tensorrt: Path,
        small_refiner: Path,
        monkeypatch: pytest.MonkeyPatch,
        listen: Callable[[str], list[str]],
    ) -> None:
        load_tensorrt("refiner", small_refiner, CPU, max_people=2)
        monkeypatch.setattr(stand_in, "__version__", "11.5.0")
        said = listen("mpmesh_core.engines.tensorrt_loading")
        load_tensorrt("refiner", small_refiner, CPU, max_people=2)
        (line,) = said
        assert "built for tensorrt 11.4.0, this is 11.5.0" in line
        assert len(stand_in.builds) == 2

    def test_serves_up_to_the_people_it_was_built_for(
        self, tensorrt: Path, small_refiner: Path, listen: Callable[[str], list[str]]
    ) -> None:
        said = listen("mpmesh_core.engines.tensorrt_loading")
        for people in (2, 5, 5, 1, 2):  # the last ones are run by the engine for 5
            engine = load_tensorrt("refiner", small_refiner, CPU, max_people=people)
            network, _ = load_checkpoint(small_refiner)
            engine.run(network.example_inputs(people))
        assert len(stand_in.builds) == 2
        assert "built for max_people 2, this is 5" in said[-1]
        assert len(list(tensorrt.rglob("*.plan"))) == 1

    @pytest.mark.parametrize("backend", ["tensorrt", "onnxruntime", OPENVINO])
    @pytest.mark.parametrize("spoil", ["damaged", "foreign"])
    def test_an_onnx_file_that_does_not_serve_is_exported_anew(
        self,
        tensorrt: Path,
        small_refiner: Path,
        backend: str,
        spoil: str,
        listen: Callable[[str], list[str]],
    ) -> None:
        path = cached_onnx("refiner", small_refiner, half=backend == "tensorrt")
        good = path.read_bytes()
        path.write_bytes(good[: len(good) // 2] if spoil == "damaged" else other_network())
        said = listen("mpmesh_core.engines.onnx_cache")
        engine = load_engine("refiner", small_refiner, backend, CPU, max_people=2)
        network, _ = load_checkpoint(small_refiner)
        assert set(engine.run(network.example_inputs(2))) == set(RefinerNetwork.OUTPUT_NAMES)
        (line,) = said
        assert str(path) in line and "exported anew" in line
        assert path.read_bytes() == good

    @pytest.mark.parametrize("people", [1, 3])
    def test_every_look_at_as_many_people_as_it_was_built_for(
        self, tensorrt: Path, people: int
    ) -> None:
        engine = load_tensorrt("skeleton", weights_path("skeleton"), CPU, max_people=people)
        picture = torch.randint(0, 256, (96, 128, 3), dtype=torch.uint8)
        camera = Camera.from_fov(128, 96)
        boxes = torch.tensor([[10.0, 10, 60, 90]]) + torch.arange(people)[:, None]
        crops, pixels = steps.crop(camera, picture, boxes)
        for looks, mirror in (("off", True), ("on", True), ("thorough", False)):
            given = picture, boxes, crops, pixels
            _, skeletons = steps.read(engine, looks, mirror, camera, *given)
            assert skeletons.points3d.shape == (people, 29, 3)

    def test_profile_of_the_detector(self) -> None:
        shapes = profile_of("detector", weights_path("detector"), 32)["image"]
        wide = letterbox(np.zeros((1080, 1920, 3), np.uint8), DEFAULT_SIZE).canvas
        assert shapes.usual == (1, 3, *wide.shape[:2])
        assert (shapes.least, shapes.most) == ((1, 3, 32, 32), (1, 3, DEFAULT_SIZE, DEFAULT_SIZE))

    def test_profile_of_the_refiner(self, small_refiner: Path) -> None:
        profile = profile_of("refiner", small_refiner, 32)
        assert profile["context"] == InputRange((1, 1), (4, 3), (32, 4))
        assert profile["features"].most == (32, 16, 8, 8)

    def test_bindings_that_cannot_be_used(self, unusable: str, small_refiner: Path) -> None:
        with pytest.raises(MissingPackageError, match=unusable) as told:
            load_tensorrt("refiner", small_refiner, CPU, max_people=2)
        assert "--backend torch" in str(told.value)
        assert "\n" not in str(told.value)

    def test_a_plan_that_tensorrt_does_not_take(self, tensorrt: Path) -> None:
        with pytest.raises(DeviceError, match=r"engine build --force"):
            TensorRTEngine("refiner", b"rubbish", CPU, stand_in)


class TestBuilding:
    def build(self, path: Path, watch: Watch) -> bytes:
        profile = {"x": InputRange((1, 3), (2, 3), (4, 3))}
        return build_plan(path, profile, path.with_name("timing.cache"), stand_in, watch)

    def test_progress_and_timing_cache(self, tmp_path: Path) -> None:
        path = tmp_path / "network.onnx"
        path.write_bytes(b"network")
        seen: list[tuple[str, float]] = []
        self.build(path, Watch(report=lambda phase, share: seen.append((phase, share))))
        assert [share for _, share in seen] == [0.0, 0.5, 1.0, 1.0]
        assert (tmp_path / "timing.cache").read_bytes() == b"+"
        self.build(path, Watch())
        assert (tmp_path / "timing.cache").read_bytes() == b"++"

    @pytest.mark.parametrize("content", [b"foreign", b"damaged"])
    def test_a_timing_cache_that_does_not_serve_is_left(
        self, tmp_path: Path, content: bytes
    ) -> None:
        path = tmp_path / "network.onnx"
        path.write_bytes(b"network")
        (tmp_path / "timing.cache").write_bytes(content)
        self.build(path, Watch())
        assert (tmp_path / "timing.cache").read_bytes() == b"+"

    def test_a_full_disk_does_not_cost_the_engine(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listen: Callable[[str], list[str]]
    ) -> None:
        path = tmp_path / "network.onnx"
        path.write_bytes(b"network")

        def full(path: Path, content: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("mpmesh_core.engines.tensorrt_build._write", full)
        said = listen("mpmesh_core.engines.tensorrt_build")
        assert self.build(path, Watch())
        (line,) = said
        assert "timing.cache cannot be written: No space left" in line

    def test_cancelled(self, tmp_path: Path) -> None:
        path = tmp_path / "network.onnx"
        path.write_bytes(b"network")
        with pytest.raises(DeviceError, match="was cancelled"):
            self.build(path, Watch(cancelled=lambda: True))

    def test_a_file_that_is_not_read(self, tmp_path: Path) -> None:
        path = tmp_path / "network.onnx"
        path.write_bytes(b"unreadable")
        with pytest.raises(WeightsError, match="no such operator"):
            self.build(path, Watch())


def other_network() -> bytes:
    """An ONNX file that is fine, of none of the networks."""
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch"])
        for name in ("x", "y")
    ]
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "other", values[:1], values[1:])
    opset = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


@pytest.mark.usefixtures("tensorrt", "gpu")
def test_auto_takes_tensorrt_where_it_is() -> None:
    assert choose_backend()[0] == "tensorrt"


@pytest.mark.usefixtures("unusable", "gpu")
def test_auto_takes_torch_where_tensorrt_cannot_be_used() -> None:
    assert choose_backend()[0] == "torch"


@pytest.mark.usefixtures("tensorrt", "gpu")
@pytest.mark.parametrize(
    "moment",
    [
        "mpmesh_core.engines.onnx_cache.export_onnx",
        "tensorrt_stand_in.Builder.build_serialized_network",
        "tensorrt_stand_in.Runtime.deserialize_cuda_engine",
    ],
)
def test_stopping_a_build(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    work = pkgutil.resolve_name(moment)

    def interrupted(*given: Any, **named: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return work(*given, **named)

    monkeypatch.setattr(moment, interrupted)
    before = signal.signal(signal.SIGINT, cli._stopped)
    try:
        stopped = CliRunner().invoke(cli.app, ["engine", "build", "--backend", "tensorrt"])
        assert signal.getsignal(signal.SIGINT) is cli._stopped
    finally:
        signal.signal(signal.SIGINT, before)
    assert stopped.exit_code == 130
    assert "mpmesh: stopped by SIGINT" in stopped.output
    assert "ready" not in stopped.output
