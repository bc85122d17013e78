"""Engines: choice of the backend, both backends agree, unusable files are named."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from mpmesh_core.engines import Backend, choose_backend, load_engine
from mpmesh_core.engines.onnxruntime import OnnxRuntimeEngine
from mpmesh_core.engines.torch import TorchEngine
from mpmesh_core.errors import DeviceError, MissingFileError, UsageError, WeightsError
from mpmesh_core.networks.checkpoint import save_checkpoint
from mpmesh_core.networks.refiner import RefinerConfig, RefinerNetwork
from mpmesh_core.weights import weights_path

CPU = torch.device("cpu")
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")


class TestChooseBackend:
    def test_cpu_takes_onnxruntime(self) -> None:
        assert choose_backend("auto", "cpu") == ("onnxruntime", CPU)

    @needs_no_gpu
    def test_auto_without_gpu(self) -> None:
        assert choose_backend() == ("onnxruntime", CPU)

    @pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
    def test_those_for_a_cpu_beside_a_gpu(
        self, backend: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        assert choose_backend(backend, "auto") == (backend, CPU)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=f"backend {backend} runs on the CPU here"):
            choose_backend(backend, "cuda")  # type: ignore[arg-type]

    @needs_no_gpu
    @pytest.mark.parametrize("backend", ["auto", "torch", "openvino"])
    def test_no_gpu(self, backend: str) -> None:
        with pytest.raises(DeviceError, match="torch sees no GPU"):
            choose_backend(backend, "cuda")  # type: ignore[arg-type]

    @pytest.mark.parametrize(("backend", "device"), [("rocm", "cpu"), ("auto", "abacus")])
    def test_unknown_words_list_what_is_possible(self, backend: str, device: str) -> None:
        with pytest.raises(UsageError, match="unknown; choose"):
            choose_backend(backend, device)  # type: ignore[arg-type]

    def test_every_backend_is_named(self) -> None:
        with pytest.raises(UsageError) as told:
            choose_backend("rocm")  # type: ignore[arg-type]
        assert all(name in str(told.value) for name in get_args(Backend))


class TestOnnxRuntimeEngine:
    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="does not exist"):
            OnnxRuntimeEngine("detector", tmp_path / "none.onnx")

    def test_not_onnx(self, tmp_path: Path) -> None:
        path = tmp_path / "text.onnx"
        path.write_bytes(b"this is no network")
        with pytest.raises(WeightsError, match="is not usable"):
            OnnxRuntimeEngine("detector", path)


def test_a_network_that_does_not_use_an_input_is_no_foreign_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listen: Callable[[str], list[str]]
) -> None:
    monkeypatch.setenv("MPMESH_CACHE_DIR", str(tmp_path))
    config = RefinerConfig(feature_channels=16, width=32, mlp=48, rearrange="linear")
    network = RefinerNetwork(config)
    path = tmp_path / "refiner-light.safetensors"
    save_checkpoint(path, network, network.config_dict())
    said = listen("mpmesh_core.engines.onnx_cache")
    engine = load_engine("refiner", path, "onnxruntime", CPU)
    assert set(engine.run(network.example_inputs(2))) == set(RefinerNetwork.OUTPUT_NAMES)
    assert not said


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("detector", {"image": (1, 3, 96, 128)}),
        ("skeleton", {"image": (2, 3, 256, 256)}),
    ],
)
def test_backends_agree_on_shipped_weights(name: str, inputs: dict[str, tuple]) -> None:
    rng = np.random.default_rng(0)
    feed = {
        key: torch.from_numpy(rng.uniform(0, 255, shape).astype(np.float32))
        for key, shape in inputs.items()
    }
    ort, torch_cpu = (
        load_engine(name, weights_path(name), backend, CPU).run(feed)
        for backend in ("onnxruntime", "torch")
    )
    assert set(ort) == set(torch_cpu)
    for key in ort:
        scale = torch_cpu[key].abs().max()
        assert (ort[key] - torch_cpu[key]).abs().max() <= 1e-3 * scale, key


def test_float32_is_no_tf32_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, *_, **__: module)
    for flags in (torch.backends.cudnn, torch.backends.cuda.matmul):
        monkeypatch.setattr(flags, "allow_tf32", True)
    TorchEngine("refiner", RefinerNetwork(RefinerConfig()), torch.device("cuda"))
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_a_checkpoint_of_another_kind_is_refused() -> None:
    with pytest.raises(WeightsError, match="holds a detector, not a skeleton"):
        load_engine("skeleton", weights_path("detector"), "torch", CPU)


def test_weights_folder_without_files(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="holds no skeleton-light"):
        weights_path("skeleton", "light", tmp_path)
