"""How far each stage is from what the device can do: `python benchmarks/roofline.py --output DIR`.

For every stage of the line: FLOPs, bytes, median time, the time that the device's ceilings allow,
and the share of the two.

FLOPs   of products and convolutions by torch's counter, and one for each number of any type that a
        point-wise operation writes or a sum reads; none for norms, softmax and pooling.
moved   bytes that all operations read and write, run one by one: the traffic without fusion. A view
        moves nothing; a broadcast tensor is read once; an index reads its whole table.
least   bytes of what comes from outside (weights, tables, inputs), each once, and of what goes out.
allowed the longer of FLOPs / peak and least bytes / bandwidth.

Peaks are those of a large matrix product, the bandwidth that of a large copy, best of several, on
all cores. Networks on CUDA are held against float16, all else against float32. What stays in a
cache can be faster than the bandwidth. FLOPs and bytes are those of the line as torch runs it on
tensors; times are the backend's own. So with ONNX Runtime the networks are counted as torch has
them, with norms not yet folded, and letterbox, suppression and crops, there OpenCV's and NumPy's,
as a GPU runs them. Nobody is looked at twice. On a GPU, people are padded to 1, 2, 4, 8, ...
places, and all are counted; times of its stages need torch 2.8. Writes DIR/roofline.json and prints
the table as Markdown.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import torch
from arguments import errors_in_one_line, positive
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mpmesh_core.camera import Camera
from mpmesh_core.cli.options import picture_size, pipeline_config
from mpmesh_core.deadline import Plan
from mpmesh_core.detect import DEFAULT_THRESHOLD
from mpmesh_core.device_line import padded
from mpmesh_core.evaluation.latency import (
    FixedPeople,
    spread_boxes,
    time_frames,
    write_random_weights,
)
from mpmesh_core.outputs import prepare_folder, refuse_folder, write_file
from mpmesh_core.pipeline import Pipeline, PipelineConfig
from mpmesh_core.tensor_detector import TensorDetector
from mpmesh_core.training.synthetic.demo_clip import demo_clip
from mpmesh_core.types import Array

NETWORKS = ("detect", "skeleton", "refine")  # stages with one: half precision on CUDA
MOST_PEOPLE = 256  # of a pipeline
HEAD = "| stage | GFLOP | ops | MB moved | MB least | FLOP/byte | ms | ms allowed | share | roof |"
SIDES = {"cpu": 2048, "cuda": 8192}  # of the matrices
COPIED = {"cpu": 2**28, "cuda": 2**30}  # bytes: no cache holds them
TRIES, CALLS = 20, 2  # of each ceiling; a try is so many calls, so that starting hardly counts


@dataclass(frozen=True)
class Work:
    """What a stage has to do."""

    flops: float
    ops: int  # that are no views
    moved: float  # bytes of all operations
    least: float  # bytes from outside and to outside


@dataclass(frozen=True)
class Ceilings:
    """What a device reached."""

    network_flops: float  # a second, in the networks' precision
    other_flops: float  # a second, float32
    bandwidth: float  # bytes a second, read and written


@dataclass(frozen=True)
class Row:
    """One stage against the ceilings."""

    stage: str
    gflop: float
    ops: int
    moved_mb: float
    least_mb: float
    intensity: float  # FLOPs per least byte
    ms: float  # median
    allowed_ms: float
    share: float  # allowed of measured
    roof: str  # arithmetic or memory: what allows no less


class Traffic(TorchDispatchMode):
    """Adds up what operations move and compute, products and convolutions aside."""

    def __init__(self) -> None:
        super().__init__()
        self.flops, self.ops, self.moved = 0, 0, 0
        self.outside: dict[int, int] = {}  # bytes of every memory that was there before
        self.inside: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if _is_view(func):
            return out
        read, written = list(_tensors((args, kwargs))), list(_tensors(out))
        self.ops += 1
        self.moved += sum(map(_bytes, read))
        for memory in (tensor.untyped_storage() for tensor in read):
            if memory.data_ptr() not in self.inside:
                self.outside[memory.data_ptr()] = memory.nbytes()
        if not func.name().startswith("aten::empty"):  # which writes nothing
            self.moved += sum(map(_bytes, written))
        made = {tensor.untyped_storage().data_ptr() for tensor in written}
        self.inside |= made - self.outside.keys()
        if torch.Tag.pointwise in func.tags and func is not torch.ops.aten.clone.default:
            self.flops += sum(tensor.numel() for tensor in written)
        elif getattr(torch.Tag, "reduction", None) in func.tags:  # older torch has no such tag
            self.flops += sum(tensor.numel() for tensor in read)
        return out

    def least(self, result: object) -> int:
        """Bytes from outside, and of those parts of the result that were made inside."""
        made = (x for x in _tensors(result) if x.untyped_storage().data_ptr() in self.inside)
        return sum(self.outside.values()) + sum(map(_bytes, made))


class StageMeter:
    """Stands where the line fuses its steps, and counts the work of each instead."""

    def __init__(self) -> None:
        self.work: dict[str, Work] = {}

    def __call__(self, name: str, key: Hashable, step: Callable[..., Any], *inputs: Any) -> Any:
        """What `step` returns for these inputs."""
        step(*inputs)  # makes its constants, which are no work of later frames
        with Traffic() as traffic, FlopCounterMode(display=False) as products:
            result = step(*inputs)
        flops = products.get_total_flops() + traffic.flops
        self.work[name] = Work(flops, traffic.ops, traffic.moved, traffic.least(result))
        return result


def _is_view(func: Any) -> bool:
    """Whether an operation returns memory that it was given, unchanged."""
    if func is torch.ops.aten._unsafe_view.default:  # whose schema does not say so
        return True
    returned = [value.alias_info for value in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in returned)


def _tensors(value: object) -> Iterator[Tensor]:
    """All tensors in tuples, lists, dictionaries and dataclasses."""
    if isinstance(value, Tensor):
        yield value
        return
    held = vars(value) if is_dataclass(value) else value
    if isinstance(held, Mapping):
        held = tuple(held.values())
    for part in held if isinstance(held, tuple | list) else ():
        yield from _tensors(part)


def _bytes(tensor: Tensor) -> int:
    """Bytes of a tensor's different numbers."""
    sides = zip(tensor.shape, tensor.stride())
    return math.prod(side for side, step in sides if step or not side) * tensor.element_size()


@torch.inference_mode()
def count_stages(timed: Pipeline, image: Array, camera: Camera, people: int) -> dict[str, Work]:
    """Work of every stage of a pipeline without second looks, counted on the same line in torch.

    The picture is (H, W, 3) uint8 RGB; so many people are put into it.
    """
    same = {"backend": "torch", "device": str(timed.device), "fuse": "off"}
    pipeline = Pipeline(timed.config.model_copy(update=same))
    meter = StageMeter()
    pipeline._fuser = meter  # type: ignore[assignment]
    picture = torch.from_numpy(image).to(pipeline.device)
    engine, most = pipeline.detector.engine, pipeline.config.max_people  # type: ignore[attr-defined]
    meter("detect", None, TensorDetector(engine, DEFAULT_THRESHOLD, most).find, picture)
    places = padded(people, most) if picture.is_cuda else people
    boxes = torch.from_numpy(spread_boxes(places, camera.width, camera.height)).to(picture.device)
    pipeline._people(picture, boxes, camera, Plan(places, pipeline.refiner is not None, mesh=False))
    return meter.work


@torch.inference_mode()
def measure_ceilings(device: torch.device, tries: int = TRIES) -> Ceilings:
    """Peaks of matrix products and the bandwidth of a copy."""

    def product(kind: torch.dtype) -> float:
        side = SIDES[device.type]
        a = torch.randn(side, side, device=device).to(kind)
        return 2 * side**3 / _best_seconds(lambda: a @ a, device, tries)

    other = product(torch.float32)
    network = product(torch.float16) if device.type == "cuda" else other
    source = torch.ones(COPIED[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = _best_seconds(lambda: target.copy_(source), device, tries)
    return Ceilings(network, other, 2 * source.nbytes / seconds)


def _best_seconds(work: Callable[[], object], device: torch.device, tries: int) -> float:
    """Seconds of one call."""
    best = math.inf
    for _ in range(tries + 1):  # the first chooses kernels and loses
        start = time.perf_counter()
        for _ in range(CALLS):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, (time.perf_counter() - start) / CALLS)
    return best


def against_roof(stage: str, work: Work, ms: float, ceilings: Ceilings) -> Row:
    """A stage that took so long [ms], against the ceilings."""
    peak = ceilings.network_flops if stage in NETWORKS else ceilings.other_flops
    arithmetic, memory = 1e3 * work.flops / peak, 1e3 * work.least / ceilings.bandwidth
    allowed = max(arithmetic, memory)
    megabytes = work.moved / 1e6, work.least / 1e6
    roof = "arithmetic" if arithmetic > memory else "memory"
    counted = work.flops / 1e9, work.ops, *megabytes, work.flops / work.least
    return Row(stage, *counted, ms, allowed, allowed / ms, roof)


def markdown(rows: list[Row]) -> str:
    """The table, and what the stages come to together."""
    lines = [HEAD, "|---" * (HEAD.count("|") - 1) + "|"]
    for row in rows:
        work = f"{row.gflop:.2g} | {row.ops} | {row.moved_mb:.3g} | {row.least_mb:.2g}"
        ratio = f"{row.intensity:.2g}" if row.intensity < 10 else f"{row.intensity:.0f}"
        times = f"{row.ms:.2f} | {row.allowed_ms:.2g} | {100 * row.share:.2g} %"
        lines.append(f"| {row.stage} | {work} | {ratio} | {times} | {row.roof} |")
    ms, allowed = sum(row.ms for row in rows), sum(row.allowed_ms for row in rows)
    work = f"{sum(row.gflop for row in rows):.2g} | {sum(row.ops for row in rows)}"
    lines.append(
        f"| all | {work} | | | | {ms:.2f} | {allowed:.2g} | {100 * allowed / ms:.2g} % | |"
    )
    return "\n".join(lines)


def measure(config: PipelineConfig, size: tuple[int, int], people: int, runs: int) -> dict:
    """Everything that the JSON file holds."""
    pipeline = Pipeline(config)
    ceilings = measure_ceilings(pipeline.device, min(runs, TRIES))
    camera = Camera.from_fov(*size)
    image = next(iter(demo_clip(frames=1, size=size))).image
    work = count_stages(pipeline, image, camera, people)
    FixedPeople(pipeline, spread_boxes(people, *size))
    stages = time_frames(pipeline, [image], camera, runs).stages
    return {
        "backend": f"{config.variant} {pipeline.backend} {pipeline.device}",
        "size": size,
        "people": people,
        "load": round(os.getloadavg()[0], 1),
        "ceilings": asdict(ceilings),
        "stages": [
            asdict(against_roof(stage, counted, stages[stage], ceilings))
            for stage, counted in work.items()
        ],
    }


@errors_in_one_line()
def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, required=True, help="folder for roofline.json")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--variant", choices=("light", "paper"), default="light")
    parser.add_argument("--people", type=positive, default=3)
    parser.add_argument("--size", default="640x480", help="of the picture")
    parser.add_argument("--runs", type=positive, default=100)
    options = parser.parse_args()
    size, people = picture_size(options.size), options.people
    if people > MOST_PEOPLE:
        parser.error(f"--people {people}: {MOST_PEOPLE} at the most")
    path = prepare_folder(options.output) / "roofline.json"
    refuse_folder(path)
    weights = None
    if options.variant == "paper":  # none are shipped, and only their size takes time
        weights = write_random_weights(Path(tempfile.mkdtemp()), options.variant)
    chosen = {name: getattr(options, name) for name in ("backend", "device", "variant")}
    chosen |= {"weights": weights, "max_people": max(32, people)}
    config = pipeline_config(track=False, second_look="off", **chosen)
    figures = measure(config, size, people, options.runs)
    write_file(path, json.dumps(figures, indent=1).encode())
    print({name: value for name, value in figures.items() if name != "stages"})
    print(markdown([Row(**row) for row in figures["stages"]]))


if __name__ == "__main__":
    main()
