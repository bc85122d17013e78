"""engines.tensorrt_loading: a checkpoint's TensorRT engine, from the cache or built now."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import cast

import torch

from mpmesh_core.engines.onnx_cache import open_cached
from mpmesh_core.engines.onnxruntime import open_network
from mpmesh_core.engines.plan_cache import (
    PlanKey,
    StoredPlan,
    plan_folder,
    plan_path,
    read_plan,
    why_not,
    write_plan,
)
from mpmesh_core.engines.tensorrt import TensorRTEngine, import_tensorrt
from mpmesh_core.engines.tensorrt_build import (
    UNWATCHED,
    InputRange,
    Profile,
    Shape,
    Watch,
    build_plan,
)
from mpmesh_core.networks import Network, network_class
from mpmesh_core.networks.checkpoint import read_checkpoint

logger = logging.getLogger(__name__)

PRECISION = "float16, float32 where needed"
USUAL_PEOPLE = 4
MOST_CONTEXT = 4  # people in one refiner run
LARGEST_CANVAS = 416  # [px] longer side of the detector's input
USUAL_HEIGHT = 256  # [px] of it for 16:9 pictures; 4:3 ones are 320 high
STRIDE = 32  # its sides are multiples of this


def load_tensorrt(
    name: str,
    checkpoint: Path,
    device: torch.device,
    max_people: int,
    watch: Watch = UNWATCHED,
    force: bool = False,
) -> TensorRTEngine:
    """The engine of a checkpoint; built, and then kept, where the cache has none that serves.

    Args:
        name: detector, skeleton or refiner.
        checkpoint: its .safetensors file.
        device: a CUDA device.
        max_people: the largest batch.
        watch: is told of a build's progress.
        force: build even if the cache has one.

    Raises:
        MissingPackageError: there is no TensorRT that can be used.
        WeightsError, MissingFileError: an unusable checkpoint.
        DeviceError: the build failed or was cancelled.
    """
    trt = import_tensorrt()

    def load(onnx_path: Path) -> TensorRTEngine:
        profile = profile_of(name, checkpoint, max_people)
        key = plan_key(name, onnx_path, profile, device, trt)
        stored = read_plan(plan_path(key))
        reason = "asked for" if force else why_not(stored, key)
        if reason is None:
            return TensorRTEngine(name, cast(StoredPlan, stored).plan, device, trt)
        open_network(name, onnx_path)  # TensorRT would build another network, or say less
        logger.warning("building the %s engine, which takes minutes: %s", name, reason)
        with torch.cuda.device(device):
            plan = build_plan(onnx_path, profile, plan_folder() / "timing.cache", trt, watch)
        write_plan(plan_path(key), StoredPlan(key, plan))
        return TensorRTEngine(name, plan, device, trt)

    return open_cached(name, checkpoint, load, half=True)


def plan_key(
    name: str, onnx_path: Path, profile: Profile, device: torch.device, trt: ModuleType
) -> PlanKey:
    """What an engine of this ONNX file has to be built from and for, here."""
    major, minor = torch.cuda.get_device_capability(device)
    shapes = "; ".join(
        f"{key} {_text(shapes.least[1:])}..{_text(shapes.most[1:])}"
        for key, shapes in profile.items()
    )
    return PlanKey(
        network=name,
        onnx=hashlib.sha256(onnx_path.read_bytes()).hexdigest()[:20],
        precision=PRECISION,
        gpu=f"{torch.cuda.get_device_name(device)} ({major}.{minor})",
        tensorrt=str(trt.__version__),
        profile=shapes,
        max_people=max(each.most[0] for each in profile.values()),
    )


def profile_of(name: str, checkpoint: Path, max_people: int) -> Profile:
    """Shapes that a network's inputs may have."""
    metadata, _ = read_checkpoint(checkpoint)
    network = cast(Network, network_class(name).from_config(metadata["config"]))  # type: ignore[attr-defined]
    axes: Mapping[str, Mapping[int, str]] = getattr(network, "DYNAMIC_AXES", {})
    batch = (1, 1, 1) if name == "detector" else (1, min(USUAL_PEOPLE, max_people), max_people)
    ranges = {
        "people": (1, 3, MOST_CONTEXT),
        "height": (STRIDE, USUAL_HEIGHT, LARGEST_CANVAS),
        "width": (STRIDE, LARGEST_CANVAS, LARGEST_CANVAS),
    }

    def shapes(key: str, example: Shape) -> InputRange:
        free = {0: batch} | {axis: ranges[what] for axis, what in axes.get(key, {}).items()}
        least, usual, most = (
            tuple(free[axis][i] if axis in free else size for axis, size in enumerate(example))
            for i in range(3)
        )
        return InputRange(least, usual, most)

    examples = network.example_inputs(1)
    return {key: shapes(key, tuple(value.shape)) for key, value in examples.items()}


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))
