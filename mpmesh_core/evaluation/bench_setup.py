"""evaluation.bench_setup: what decides the figures of a benchmark, as JSON values."""

from __future__ import annotations

import hashlib
import platform
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from mpmesh_core import __version__
from mpmesh_core.ahead import cores
from mpmesh_core.configuration import PipelineConfig
from mpmesh_core.networks import KINDS
from mpmesh_core.pipeline import Pipeline
from mpmesh_core.weights import weights_path

PRECISION = {"cpu": "float32", "cuda": "float16, float32 where needed"}
"""Of the networks, by device, which decides it."""

MEMORY = {
    "cpu": "peak of the process so far",
    "cuda": "peak of torch, without what TensorRT and the driver hold",
}
"""What a row's `memory_mb` is."""


def bench_setup(pipeline: Pipeline) -> dict[str, Any]:
    """The configuration with every `auto` decided, the machine, and what it runs."""
    decided = {
        "backend": pipeline.backend,
        "device": device_name(pipeline.device),
        "cores": cores(),
        "precision": PRECISION[pipeline.device.type],
        "memory": MEMORY[pipeline.device.type],
        "second_look": pipeline._looks(),
        "fuse": "off" if pipeline._fuser is None else "on",
    }
    libraries = dict.fromkeys(("torch", pipeline.backend))
    versions = {name: import_module(name).__version__ for name in libraries}
    settings = pipeline.config.model_dump(mode="json", exclude={"weights"})
    made_by = {"mpmesh": __version__} | versions
    return settings | decided | _weights(pipeline.config) | made_by


def device_name(device: torch.device) -> str:
    """The GPU's name, or the CPU's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # no Linux
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _weights(config: PipelineConfig) -> dict[str, str]:
    """Short for what each network's checkpoint holds, wherever it lies."""
    names = [name for name in KINDS if config.refine or name != "refiner"]
    paths = {name: weights_path(name, config.variant, config.weights) for name in names}
    return {
        f"{name}_weights": hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for name, path in paths.items()
    }
