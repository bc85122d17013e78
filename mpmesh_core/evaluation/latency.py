"""evaluation.latency: how long one frame takes, from camera bytes to people on the host.

How many people a frame holds is chosen: the detector really runs, then its answer is replaced by
boxes spread over the picture. So networks with random weights can be timed too: their size, not
their content, takes the time. That holds without second looks only: such boxes hold background, of
which the network is unsure, so nearly everybody would be read again.
"""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mpmesh_core.ahead import work_ahead
from mpmesh_core.camera import Camera
from mpmesh_core.detect import Detector
from mpmesh_core.networks.checkpoint import save_checkpoint
from mpmesh_core.networks.refiner import RefinerConfig, RefinerNetwork
from mpmesh_core.networks.skeleton import SkeletonConfig, SkeletonNetwork
from mpmesh_core.pipeline import Looked, Pipeline
from mpmesh_core.tensor_detector import Found, TensorDetector
from mpmesh_core.types import Array, Detections
from mpmesh_core.weights import weights_path

WARM_UP = 5  # frames: kernels are chosen, graphs recorded, clocks go up


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one frame over repeated frames."""

    p50: float
    p95: float
    p99: float
    fps: float  # frames a second, by the mean
    runs: int
    people: float  # that left the line, mean
    memory_mb: float  # peak: of torch on the GPU where there is one, else of the process so far
    stages: dict[str, float]  # p50 of each stage


class FixedPeople:
    """Boxes in place of what a pipeline's detector finds; the detector works all the same.

    On a GPU the swap lies behind the detector's step, not in it: what is compiled is the detector.
    """

    def __init__(self, pipeline: Pipeline, boxes: Array) -> None:
        """Give a pipeline the boxes (N, 4) [px]."""
        self._pipeline, self._detector = pipeline, pipeline.detector
        self._on_device = isinstance(self._detector, TensorDetector)
        if self._on_device:
            most, device = pipeline.config.max_people, pipeline.device
            self._places = Found(
                boxes=torch.zeros(most, 4, device=device),
                scores=torch.linspace(0.9, 0.5, most, device=device),
                people=torch.zeros((), device=device),
                broken=torch.zeros((), device=device),
            )
            pipeline._find = self._found  # type: ignore[method-assign]
            pipeline._line = pipeline._load_line()
        self.give(boxes)

    def give(self, boxes: Array) -> None:
        """Replace the boxes; what was compiled or recorded stays."""
        if not self._on_device:
            scores = np.linspace(0.9, 0.5, len(boxes), dtype=np.float32)
            given = Detections(boxes.astype(np.float32), scores)
            self._pipeline.detector = _FixedDetections(self._detector, given)
            return
        places = np.full(self._places.boxes.shape, np.nan, np.float32)
        places[: len(boxes)] = boxes
        self._places.boxes.copy_(torch.from_numpy(places))
        self._places.people.fill_(len(boxes))

    def free(self) -> None:
        """Let the pipeline find people again."""
        if self._on_device:
            del self._pipeline._find
            self._pipeline._line = self._pipeline._load_line()
        self._pipeline.detector = self._detector

    def _found(self, picture: Tensor) -> Found:
        broken = type(self._pipeline)._find(self._pipeline, picture).broken
        return replace(self._places, broken=broken)


class _FixedDetections:
    """A detector on the host with another's work and these answers."""

    def __init__(self, detector: Detector, fixed: Detections) -> None:
        self._detector, self._fixed = detector, fixed

    def detect(self, image: Array) -> Detections:
        """See the class."""
        self._detector.detect(image)
        return self._fixed


def spread_boxes(people: int, width: int, height: int) -> Array:
    """(N, 4) upright boxes of several sizes all over a picture, hardly overlapping."""
    columns = int(np.ceil(np.sqrt(people * width / height)))
    rows = int(np.ceil(people / columns))
    cell = np.array([width / columns, height / rows])
    place = np.arange(people)
    corner = np.stack((place % columns, place // columns), 1) * cell
    size = np.minimum(cell, cell[::-1] * [0.5, 2.0]) * (0.7 + 0.3 * (place % 3)[:, None] / 2)
    return np.concatenate((corner, corner + size), 1).astype(np.float32)


def time_frames(pipeline: Pipeline, images: Sequence[Array], camera: Camera, runs: int) -> Latency:
    """Run pictures again and again, after `WARM_UP` frames that do not count."""
    on_gpu = pipeline.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(pipeline.device)
    samples, results = [], []
    for index in range(WARM_UP + runs):
        start = time.perf_counter()
        results.append(pipeline(images[index % len(images)], camera, stamp=index / 30))
        samples.append(1e3 * (time.perf_counter() - start))
    samples, results = samples[WARM_UP:], results[WARM_UP:]
    names = dict.fromkeys(name for result in results for name in result.timings)
    stages = {name: float(np.median([r.timings.get(name, 0.0) for r in results])) for name in names}
    p50, p95, p99 = (float(np.percentile(samples, q)) for q in (50, 95, 99))
    seen = [len(result.seen) for result in results]
    memory = (
        torch.cuda.max_memory_allocated(pipeline.device) / 2**20 if on_gpu else peak_memory_mb()
    )
    fps = 1e3 / float(np.mean(samples))
    return Latency(p50, p95, p99, fps, runs, float(np.mean(seen)), memory, stages)


def frame_rate(pipeline: Pipeline, images: Sequence[Array], camera: Camera, runs: int) -> float:
    """Frames a second where they wait, `pipeline.at_once` in the line; measured after a warm-up."""

    def look(index: int) -> Looked:
        return pipeline.look(images[index % len(images)], camera, stamp=index / 30, frame=index)

    seconds = 0.0
    for _ in range(2):
        pipeline.start()
        begun = time.perf_counter()
        for _, looked in work_ahead(look, range(runs), pipeline.at_once):
            pipeline.follow(looked(), camera)
        seconds = time.perf_counter() - begun
    return runs / seconds


def peak_memory_mb() -> float:
    """Largest resident size of this process so far [MB]."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def count_copies(pipeline: Pipeline, image: Array, camera: Camera, frames: int = 5) -> dict:
    """Copies between host and device and kernels of one frame, as the profiler sees them."""
    from torch.profiler import ProfilerActivity, profile

    for _ in range(WARM_UP):
        pipeline(image, camera)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(frames):
            pipeline(image, camera)
    names = [event.name for event in profiler.events() if event.device_type.name == "CUDA"]
    up = sum("Memcpy HtoD" in name for name in names)
    down = sum("Memcpy DtoH" in name for name in names)
    kernels = sum(not name.startswith(("Memcpy", "Memset")) for name in names)
    return {"up": up / frames, "down": down / frames, "kernels": kernels / frames}


def write_random_weights(folder: Path, variant: str) -> Path:
    """Checkpoints of a variant's networks before any training, beside the shipped detector."""
    torch.manual_seed(0)
    skeleton = SkeletonNetwork(SkeletonConfig(variant=variant))
    refiner = RefinerNetwork(RefinerConfig.paper() if variant == "paper" else RefinerConfig())
    folder.mkdir(parents=True, exist_ok=True)
    for name, network in (("skeleton", skeleton), ("refiner", refiner)):
        path = folder / f"{name}-{variant}.safetensors"
        save_checkpoint(path, network, network.config_dict(), half=True)
    shutil.copy(weights_path("detector"), folder)
    return folder
