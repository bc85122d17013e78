"""Speed and exactness of the line on a GPU: `python benchmarks/gpu.py --output DIR`.

Parts: `parity` (FP16 on the GPU against FP32 on the CPU, shipped weights), `latency` (camera bytes
in to joints and parameters out on the host, 1920x1080, 1 to 32 people, both variants; the paper's
variant has random weights), `copies` (host-device copies and kernels a frame, from the profiler),
`roofline` (every stage against the device's ceilings, see `roofline.py`). The number of people is
forced, see `mpmesh_core.evaluation.latency`. A part that fails prints its traceback, and the next
one begins; the exit code is 1 then, and where nothing was measured. Writes DIR/gpu.json after every
row and prints a table last. Memory is that of torch; what was loaded for earlier rows counts.

With `--fuse on` the steps are compiled first, side by side, for at most half of the time; what was
not compiled by then is not timed. Photos then stand on canvases of one size, and those with more
people than places for ten are left out, since other sizes would be compiled anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, partial
from itertools import islice, product
from pathlib import Path

import cv2
import numpy as np
import torch
from arguments import errors_in_one_line, positive, positives, python_option
from fuse_ahead import Size, compile_ahead
from roofline import against_roof, count_stages, measure_ceilings

from mpmesh_core.camera import Camera
from mpmesh_core.device_line import padded
from mpmesh_core.errors import DeviceError
from mpmesh_core.evaluation.latency import (
    FixedPeople,
    count_copies,
    spread_boxes,
    time_frames,
    write_random_weights,
)
from mpmesh_core.evaluation.parity import compare
from mpmesh_core.fusing import Options
from mpmesh_core.outputs import prepare_folder, refuse_folder, write_file
from mpmesh_core.pipeline import Pipeline, PipelineConfig
from mpmesh_core.sources import Frame, open_source
from mpmesh_core.training.synthetic.demo_clip import demo_clip
from mpmesh_core.types import Array

WIDTH, HEIGHT = 1920, 1080
PEOPLE = (10, 1, 32, 4, 16, 2, 8)  # what matters most comes first: a new size takes seconds
VARIANTS = ("light", "paper")
RUNS, MAIN_RUNS, MAIN_PEOPLE = 30, 200, 10
PHOTOS = 20  # at the most
Pictures = list[tuple[Array, Camera]]
Forced = tuple[Pipeline, Callable[[int], None]]


class Bench:
    """What the parts share: pictures, pipelines and the figures found so far."""

    def __init__(
        self, folder: Path, limit: float, eager: bool, fuse: str, photos: Path | None
    ) -> None:
        self.eager, self.fuse, self.photo_folder = eager, fuse, photos
        self.end = time.monotonic() + limit
        self.folder = folder
        self.figures: dict = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
        self.figures |= {"fuse": fuse, "eager": eager}
        self.failed = False
        self.people = PEOPLE
        self.inductor: Options = {}  # options that differ from ours
        self.camera = Camera.from_fov(WIDTH, HEIGHT)
        self.pictures = [scene.image for scene in demo_clip(frames=2, size=(WIDTH, HEIGHT))]
        self.compiled: list[Size] | None = None  # None: nothing has to be
        self._weights = Path(tempfile.mkdtemp())
        self._forced: dict[str, Forced] = {}

    def pipeline(self, variant: str, **options: object) -> Pipeline:
        """A pipeline on the GPU unless `options` say otherwise."""
        weights = None
        if variant == "paper":
            weights = self._weights / variant
            if not weights.is_dir():
                write_random_weights(weights, variant)
        values = {"backend": "torch", "device": "cuda", "track": False, "fuse": self.fuse}
        pipeline = Pipeline(PipelineConfig(variant=variant, weights=weights, **(values | options)))
        if pipeline._fuser is not None:
            pipeline._fuser.options = self.inductor
        return pipeline

    def photos(self) -> dict[str, Pictures]:
        """Pictures with cameras: a folder's, where one was given, and rendered ones."""
        found: dict[str, Pictures] = {}
        if self.photo_folder is not None:
            frames = islice(open_source(str(self.photo_folder)), PHOTOS)
            images = [frame.image for frame in frames if isinstance(frame, Frame)]
            if self.fuse == "on":
                images = [_on_canvas(image) for image in images]
            found["photos"] = [(x, Camera.from_fov(x.shape[1], x.shape[0])) for x in images]
        found["rendered"] = [(picture, self.camera) for picture in self.pictures]
        return found

    def forced(self, variant: str) -> Forced:
        """A pipeline, and a function that sets how many people it finds."""
        if variant in self._forced:  # what was traced stays
            return self._forced[variant]
        pipeline = self.pipeline(variant)
        fixed = FixedPeople(pipeline, np.empty((0, 4), np.float32))

        def force(people: int) -> None:
            fixed.give(spread_boxes(people, WIDTH, HEIGHT))
            line = pipeline._line = pipeline._load_line()
            line._seen.append(people)  # no frame with fewer places first
            if self.eager:
                line._graphs.run = lambda key, function: function()

        self._forced[variant] = pipeline, force
        return pipeline, force

    def ready(self, variant: str, people: int) -> bool:
        """Whether what so many people need was compiled, where it has to be."""
        if self.compiled is None or size_of(variant, people) in self.compiled:
            return True
        print(f"{variant} {people}: left out, not compiled in time")
        return False

    def row(self, part: str, name: str, measure: Callable[[], dict]) -> None:
        """One row of a part; a failure is printed and not passed on."""
        start = time.monotonic()
        if start > self.end:
            print(f"{part} {name}: left out, time is up")
            return
        try:
            row = measure()
        except Exception:
            traceback.print_exc()
            self.failed = True
            row = {"failed": traceback.format_exc().splitlines()[-1]}
        row["seconds"] = time.monotonic() - start
        self.figures.setdefault(part, {})[name] = row
        print(f"{part} {name}: {_short(row)}", flush=True)
        write_file(self.folder / "gpu.json", json.dumps(self.figures, indent=1).encode())


def size_of(variant: str, people: int) -> Size:
    """What is compiled for so many people."""
    return variant, padded(people, PipelineConfig().max_people)


@cache
def _forced(variant: str) -> tuple[Bench, Pipeline, Callable[[int], None]]:
    """Once a process that compiles."""
    bench = Bench(Path(), np.inf, eager=True, fuse="on", photos=None)
    return bench, *bench.forced(variant)


def run_frame(variant: str, people: int, give: Callable[[Pipeline], None]) -> None:
    """See `compile_ahead`."""
    bench, pipeline, force = _forced(variant)
    give(pipeline)
    force(people)
    pipeline(bench.pictures[0], bench.camera)


def _on_canvas(image: Array) -> Array:
    """A picture within black of the size that is timed."""
    height, width = image.shape[:2]
    scale = min(WIDTH / width, HEIGHT / height)
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=kind)[:HEIGHT, :WIDTH]
    canvas = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    canvas[: len(small), : small.shape[1]] = small
    return canvas


def parity(bench: Bench) -> None:
    """FP16 on the GPU against FP32 on the CPU, stage by stage, photos first."""
    if not bench.ready("light", MAIN_PEOPLE):
        return
    once = {"mesh": True, "second_look": "off"}
    gpu = bench.pipeline("light", **once)
    cpu = bench.pipeline("light", device="cpu", fuse="off", **once)
    if gpu._fuser is not None:
        gpu._line._seen.append(MAIN_PEOPLE)  # so many places were compiled
        timed, _ = bench.forced("light")
        gpu._fuser, gpu.detector = timed._fuser, timed.detector  # nothing is traced again
        step = partial(gpu._fuser, "detect", gpu.detector, gpu.detector.find)
        gpu.detector.find = step  # is asked by itself, so its step has to be fused here
    for name, pictures in bench.photos().items():
        if gpu._fuser is not None:
            pictures = [each for each in pictures if _fits(cpu, each[0])]
        bench.row("parity", name, partial(_parity, cpu, gpu, pictures))
    if gpu._fuser is not None:
        del gpu.detector.find  # the timed pipeline's detector, as it was


def _fits(cpu: Pipeline, picture: Array) -> bool:
    """Whether a picture's people have places that were compiled: others would take minutes."""
    return len(cpu.detector.detect(picture).scores) <= size_of("light", MAIN_PEOPLE)[1]


@torch.inference_mode()
def _parity(cpu: Pipeline, gpu: Pipeline, pictures: Pictures) -> dict:
    rows = compare(cpu, gpu, pictures).rows
    return {f"{row.stage} {row.quantity}": [row.mean, row.worst, row.unit, row.ok] for row in rows}


def latency(bench: Bench) -> None:
    """Percentiles and stages for every number of people and variant."""

    def measure(variant: str, people: int) -> dict:
        pipeline, force = bench.forced(variant)
        force(people)
        runs = MAIN_RUNS if people == MAIN_PEOPLE else RUNS
        row = asdict(time_frames(pipeline, bench.pictures[:1], bench.camera, runs))
        return row | {"not_fused": sorted(pipeline._fuser.failed)} if pipeline._fuser else row

    for people, variant in product(bench.people, VARIANTS):
        if not bench.ready(variant, people):
            continue
        bench.row("latency", f"{variant} {people}", partial(measure, variant, people))


def copies(bench: Bench) -> None:
    """Copies and kernels of a frame with ten people."""
    for variant in VARIANTS:
        if not bench.ready(variant, MAIN_PEOPLE):
            continue
        pipeline, force = bench.forced(variant)
        force(MAIN_PEOPLE)
        picture = bench.pictures[0]
        bench.row("copies", variant, partial(count_copies, pipeline, picture, bench.camera))


def roofline(bench: Bench) -> None:
    """Stages with ten people against the ceilings."""
    ceilings = measure_ceilings(torch.device("cuda"))
    bench.row("roofline", "ceilings", lambda: asdict(ceilings))

    def measure(variant: str) -> dict:
        pipeline, force = bench.forced(variant)
        picture, camera = bench.pictures[0], bench.camera
        work = count_stages(pipeline, picture, camera, MAIN_PEOPLE)
        force(MAIN_PEOPLE)
        times = time_frames(pipeline, [picture], camera, RUNS).stages
        rows = (
            against_roof(name, counted, times[name], ceilings) for name, counted in work.items()
        )
        return {row.stage: asdict(row) for row in rows}

    for variant in VARIANTS:
        if bench.ready(variant, MAIN_PEOPLE):
            bench.row("roofline", variant, partial(measure, variant))


PARTS: dict[str, Callable[[Bench], None]] = {
    "latency": latency,
    "copies": copies,
    "parity": parity,
    "roofline": roofline,
}


def print_table(figures: dict) -> None:
    """What the parts found, shortest form."""
    print(figures["device"], "torch", figures["torch"])
    for part in PARTS:
        for name, row in figures.get(part, {}).items():
            if "stages" not in row:
                print(f"{part} {name}: {_short(row)}")
                continue
            stages = " ".join(f"{stage} {ms:.2f}" for stage, ms in row["stages"].items())
            print(
                f"{name:9} p50 {row['p50']:.2f} p95 {row['p95']:.2f} p99 {row['p99']:.2f} ms, "
                f"{row['people']:.0f} people left, {row['memory_mb']:.0f} MB: {stages}"
            )


def _short(row: object) -> str:
    if isinstance(row, dict):
        return " ".join(f"{name} {_short(value)}" for name, value in row.items())
    if isinstance(row, list):
        return "[" + " ".join(map(_short, row)) + "]"
    return f"{row:.3g}" if isinstance(row, float) else str(row)


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}; choose of {', '.join(PARTS)}")
    return names


@errors_in_one_line()
def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, required=True, help="folder for gpu.json")
    parser.add_argument("--parts", type=_parts, default=[*PARTS], help="some of " + ",".join(PARTS))
    parser.add_argument("--seconds", type=positive, help="no part begins after this; 75, fused 420")
    parser.add_argument("--eager", action="store_true", help="without CUDA graphs")
    fuse_help = "on: fused kernels; compiles for minutes"
    parser.add_argument("--fuse", choices=("auto", "on", "off"), default="auto", help=fuse_help)
    parser.add_argument(
        "--inductor",
        type=python_option,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of torch._inductor.config, such as split_reductions=False; may be repeated",
    )
    parser.add_argument("--people", type=positives, default=PEOPLE, help="such as 10,1,32")
    parser.add_argument("--photos", type=Path, help="folder of pictures with people, for parity")
    options = parser.parse_args()
    if max(options.people) > (most := PipelineConfig().max_people):
        parser.error(f"argument --people: {most} at the most")
    if not torch.cuda.is_available():
        raise DeviceError("torch sees no GPU, and this benchmark measures one")
    if options.photos is not None:
        open_source(str(options.photos))  # a wrong folder is told at once
    refuse_folder(prepare_folder(options.output) / "gpu.json")
    fused = options.fuse == "on"
    seconds = options.seconds or (420 if fused else 75)
    bench = Bench(options.output, seconds, options.eager, options.fuse, options.photos)
    bench.people, bench.inductor = options.people, dict(options.inductor)
    bench.figures["inductor"] = bench.inductor
    if fused:
        sizes = dict.fromkeys(size_of(v, n) for n, v in product(bench.people, VARIANTS))
        bench.compiled = compile_ahead(run_frame, list(sizes), seconds / 2, bench.inductor)
    for name in options.parts:
        try:
            PARTS[name](bench)
        except Exception:
            traceback.print_exc()
            bench.failed = True
    print_table(bench.figures)
    if bench.failed or not bench.figures.keys() & PARTS:
        sys.exit(1)


if __name__ == "__main__":
    main()
