"""engines.tensorrt_build: from an ONNX file to a TensorRT engine for this GPU.

Strongly typed: TensorRT keeps to the types in the file (see `export.export_onnx`), in version 10
and in version 11, which knows nothing else. How long each way of computing a layer takes is kept in
a timing cache, so that the next engine is built faster.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mpmesh_core.errors import DeviceError, WeightsError

logger = logging.getLogger(__name__)

WORKSPACE = 2 << 30  # [bytes] that TensorRT may use while choosing

Shape = tuple[int, ...]


@dataclass(frozen=True)
class InputRange:
    """Shapes that one input may have."""

    least: Shape
    usual: Shape  # what the engine is made fastest for
    most: Shape


Profile = dict[str, InputRange]


@dataclass(frozen=True)
class Watch:
    """How a build tells what it does, and how it is stopped."""

    report: Callable[[str, float], None] = lambda phase, share: None
    """Called with the phase's name and how much of it is done, 0..1."""
    cancelled: Callable[[], bool] = lambda: False
    """Asked after every step; True ends the build."""


UNWATCHED = Watch()


def build_plan(
    onnx_path: Path, profile: Profile, timing_cache: Path, trt: ModuleType, watch: Watch = UNWATCHED
) -> bytes:
    """Build an engine on the current CUDA device; takes minutes.

    Args:
        onnx_path: types and shapes of the network; free dimensions are in `profile`.
        profile: every input with a free dimension.
        timing_cache: a file that is read where it exists, and written anew.
        trt: the bindings.
        watch: is told of the progress.

    Raises:
        WeightsError: TensorRT does not read the file.
        DeviceError: the build failed, or was cancelled.
    """
    messages = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(messages)
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, messages)
    if not parser.parse_from_file(str(onnx_path)):
        reasons = [str(parser.get_error(i).desc()) for i in range(parser.num_errors)]
        raise WeightsError(f"TensorRT cannot read {onnx_path}: {'; '.join(reasons)}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE)
    config.clear_flag(trt.BuilderFlag.TF32)  # what stays float32 means it
    config.add_optimization_profile(_profile(builder, profile))
    config.progress_monitor = monitor = _monitor(trt, watch)
    cache = config.create_timing_cache(_read(timing_cache))  # None: the file is damaged
    if cache is None or not config.set_timing_cache(cache, False):  # or of another GPU or version
        config.set_timing_cache(config.create_timing_cache(b""), False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        what = "was cancelled" if monitor.stopped else "failed: see TensorRT's messages above"
        raise DeviceError(f"building {onnx_path.stem} {what}")
    try:
        _write(timing_cache, bytes(config.get_timing_cache().serialize()))
    except OSError as error:  # the engine is worth more
        logger.warning("%s cannot be written: %s", timing_cache, error.strerror)
    return bytes(plan)


def _profile(builder: Any, profile: Profile) -> Any:
    built = builder.create_optimization_profile()
    for name, shapes in profile.items():
        built.set_shape(name, shapes.least, shapes.usual, shapes.most)
    return built


def _monitor(trt: Any, watch: Watch) -> Any:
    """TensorRT's progress as calls of `watch`."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.stopped = False

        def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
            self.steps[phase_name] = max(num_steps, 1)
            watch.report(phase_name, 0.0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            watch.report(phase_name, min((step + 1) / self.steps[phase_name], 1.0))
            self.stopped = self.stopped or watch.cancelled()
            return not self.stopped

        def phase_finish(self, phase_name: str) -> None:
            watch.report(phase_name, 1.0)

    return Monitor()


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_bytes(content)
    os.replace(scratch, path)
