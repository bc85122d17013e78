"""engines.loading: where a network's backend is chosen, and nowhere else.

`auto` takes TensorRT where there are a CUDA GPU and bindings that can be used, else torch where
there is a CUDA GPU, else ONNX Runtime on the CPU. OpenVINO is taken only where it is named.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal, get_args

import torch

from mpmesh_core.engines.base import Engine
from mpmesh_core.engines.openvino import KEPT
from mpmesh_core.engines.tensorrt import import_tensorrt
from mpmesh_core.errors import DeviceError, MissingPackageError, UsageError, WeightsError

logger = logging.getLogger(__name__)

Backend = Literal["auto", "tensorrt", "torch", "onnxruntime", "openvino"]

CPU_ONLY = ("onnxruntime", "openvino")
"""Backends without a GPU here; they have CPU threads of their own."""

SHAPES_KEPT = {"openvino": KEPT}
"""Backends that compile a network for each shape of inputs, and how many of these they keep."""


def choose_backend(backend: Backend = "auto", device: str = "auto") -> tuple[str, torch.device]:
    """Decide what runs the networks.

    Args:
        backend: one of auto, tensorrt, torch, onnxruntime, openvino.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        Backend name (never auto) and device.

    Raises:
        UsageError: an unknown backend or device, or a pair that does not go together.
        DeviceError: a GPU asked for where there is none.
    """
    if backend not in get_args(Backend):
        raise UsageError(
            f"backend {backend!r} is unknown; choose auto, tensorrt, torch, onnxruntime or openvino"
        )
    chosen = _choose_device(device, backend)
    if backend == "auto" and chosen.type == "cuda":
        return _best_on_cuda(), chosen
    if backend == "auto":
        return "onnxruntime", chosen
    if backend in CPU_ONLY and chosen.type == "cuda":
        raise UsageError(f"backend {backend} runs on the CPU here; use --device cpu or torch")
    return backend, chosen


def _best_on_cuda() -> str:
    try:
        import_tensorrt()
    except MissingPackageError as error:
        logger.info("torch runs the networks: %s", error)
        return "torch"
    return "tensorrt"


def _choose_device(device: str, backend: str) -> torch.device:
    if device == "auto":
        wants_gpu = backend not in CPU_ONLY and torch.cuda.is_available()
        chosen = torch.device("cuda" if wants_gpu else "cpu")
    else:
        try:
            chosen = torch.device(device)
        except RuntimeError as error:
            raise UsageError(f"device {device!r} is unknown; choose cpu, cuda or cuda:N") from error
    if chosen.type not in ("cpu", "cuda"):
        raise UsageError(f"device {device!r} is not supported; choose cpu, cuda or cuda:N")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"device {device} was asked for, but torch sees no GPU; use --device cpu")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device {device} was asked for, but there are {torch.cuda.device_count()} GPUs; "
            "use cuda:0"
        )
    if backend == "tensorrt" and chosen.type == "cpu":
        raise DeviceError("backend tensorrt needs an NVIDIA GPU; use --backend onnxruntime")
    return chosen


def load_engine(
    name: str,
    checkpoint: Path,
    backend: str,
    device: torch.device,
    max_people: int = 32,
    threads: int = 0,
) -> Engine:
    """Make the engine of one network.

    Args:
        name: detector, skeleton or refiner.
        checkpoint: its .safetensors file.
        backend: as `choose_backend` returned it.
        device: likewise.
        max_people: the largest batch, for backends that have to know it.
        threads: CPU threads of one run by ONNX Runtime or OpenVINO, 0 for as many as there are
            cores.

    Raises:
        WeightsError, MissingFileError: an unusable checkpoint.
        MissingPackageError, DeviceError: a backend that cannot run here.
    """
    if backend == "onnxruntime":
        from mpmesh_core.engines.onnx_cache import open_cached
        from mpmesh_core.engines.onnxruntime import open_network

        return open_cached(name, checkpoint, lambda path: open_network(name, path, threads))
    if backend == "openvino":
        from mpmesh_core.engines.onnx_cache import open_cached
        from mpmesh_core.engines.openvino import OpenVinoEngine, import_openvino

        import_openvino()  # told before anything is exported
        return open_cached(name, checkpoint, lambda path: OpenVinoEngine(name, path, threads))
    if backend == "tensorrt":
        from mpmesh_core.engines.tensorrt_loading import load_tensorrt

        return load_tensorrt(name, checkpoint, device, max_people)
    from mpmesh_core.engines.torch import TorchEngine
    from mpmesh_core.networks.checkpoint import load_checkpoint

    network, metadata = load_checkpoint(checkpoint)
    if metadata["kind"] != name:
        raise WeightsError(f"{checkpoint} holds a {metadata['kind']}, not a {name}")
    return TorchEngine(name, network, device)
