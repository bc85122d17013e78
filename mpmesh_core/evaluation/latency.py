"""evaluation.latency: how long one frame takes, from camera bytes to people on the host.

How many people a frame holds is chosen: the detector really runs, then its answer is replaced by
boxes spread over the picture. So networks with random weights can be timed too; their size, not
their content, takes the time.
"""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
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
    memory_mb: float  # peak: of the GPU where there is one, else of the process
    stages: dict[str, float]  # p50 of each stage


class FixedPeople(TensorDetector):
    """The detector on the device, whose answer is replaced by given boxes."""

    def __init__(self, detector: TensorDetector, boxes: Array) -> None:
        super().__init__(detector.engine, detector.score_threshold, detector.max_people)
        device = detector.engine.device
        self._people = torch.zeros((), device=device)
        self._boxes = torch.zeros(detector.max_people, 4, device=device)
        self._scores = torch.linspace(0.9, 0.5, detector.max_people, device=device)
        self.give(boxes)

    def give(self, boxes: Array) -> None:
        """Replace the boxes (N, 4) [px], where they are: what was compiled or recorded stays."""
        places = np.full((self.max_people, 4), np.nan, np.float32)
        places[: len(boxes)] = boxes
        self._boxes.copy_(torch.from_numpy(places))
        self._people.fill_(len(boxes))

    def find(self, picture: Tensor) -> Found:
        """See the class."""
        found = super().find(picture)
        never = found.people < 0  # but a compiler cannot know, and leaves nothing out
        return Found(
            torch.where(never, found.boxes, self._boxes),
            torch.where(never, found.scores, self._scores),
            torch.where(never, found.people, self._people),
            found.broken,
        )


class FixedDetections:
    """The same for any detector on the host."""

    def __init__(self, detector: Detector, boxes: Array) -> None:
        self._detector = detector
        scores = np.linspace(0.9, 0.5, len(boxes), dtype=np.float32)
        self._fixed = Detections(boxes.astype(np.float32), scores)

    def detect(self, image: Array) -> Detections:
        """See the class."""
        self._detector.detect(image)
        return self._fixed


def fix_people(detector: Detector, boxes: Array) -> Detector:
    """A detector that works as hard as this one and finds these boxes (N, 4) [px]."""
    if isinstance(detector, TensorDetector):
        return FixedPeople(detector, boxes)
    return FixedDetections(detector, boxes)


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
