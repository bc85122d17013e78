"""Speed and exactness of the line on a GPU: `python benchmarks/gpu.py --output DIR`.

Parts: `parity` (FP16 on the GPU against FP32 on the CPU, shipped weights), `latency` (camera bytes
in to joints and parameters out on the host, 1920x1080, 1 to 32 people, both variants; the paper's
variant has random weights), `copies` (host-device copies and kernels a frame, from the profiler),
`networks` (time, FLOPs and share of the measured peak of each network). The number of people is
forced, see `mpmesh_core.evaluation.latency`. A part that fails prints its traceback, and the next
one begins. Writes DIR/gpu.json after every part and prints a table last.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from mpmesh_core.camera import Camera
from mpmesh_core.evaluation.latency import (
    count_copies,
    fix_people,
    spread_boxes,
    time_frames,
    write_random_weights,
)
from mpmesh_core.pipeline import Pipeline, PipelineConfig
from mpmesh_core.training.synthetic.demo_clip import demo_clip

WIDTH, HEIGHT = 1920, 1080
PEOPLE = (1, 2, 4, 8, 10, 16, 32)
VARIANTS = ("light", "paper")
RUNS, MAIN_RUNS, MAIN_PEOPLE = 40, 200, 10


class Bench:
    """What the parts share: pictures, pipelines and the figures found so far."""

    def __init__(self, folder: Path, limit: float) -> None:
        self.end = time.monotonic() + limit
        self.folder = folder
        self.figures: dict = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
        self.camera = Camera.from_fov(WIDTH, HEIGHT)
        self.pictures = [scene.image for scene in demo_clip(frames=3, size=(WIDTH, HEIGHT))]
        self._weights = Path(tempfile.mkdtemp())

    def pipeline(self, variant: str, **options: object) -> Pipeline:
        """A pipeline on the GPU unless `options` say otherwise."""
        weights = None
        if variant == "paper":
            weights = self._weights / variant
            if not weights.is_dir():
                write_random_weights(weights, variant)
        values = {"backend": "torch", "device": "cuda", "track": False, **options}
        return Pipeline(PipelineConfig(variant=variant, weights=weights, **values))

    def forced(self, variant: str) -> tuple[Pipeline, Callable[[int], None]]:
        """A pipeline, and a function that sets how many people it finds."""
        pipeline = self.pipeline(variant)
        detector = pipeline.detector

        def force(people: int) -> None:
            pipeline.detector = fix_people(detector, spread_boxes(people, WIDTH, HEIGHT))
            pipeline._line = pipeline._load_line()

        return pipeline, force

    def run(self, name: str, part: Callable[[Bench], object]) -> None:
        """One part, whose failure is printed and not passed on."""
        start = time.monotonic()
        if start > self.end:
            print(f"{name}: left out, time is up")
            return
        try:
            self.figures[name] = part(self)
        except Exception:
            traceback.print_exc()
            self.figures[name] = {"failed": traceback.format_exc().splitlines()[-1]}
        print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)
        (self.folder / "gpu.json").write_text(json.dumps(self.figures, indent=1))


def parity(bench: Bench) -> object:
    """Largest and mean differences of joints and vertices [mm], the same boxes on both sides."""
    gpu = bench.pipeline("light", mesh=True)
    cpu = bench.pipeline("light", mesh=True, device="cpu")
    found = []
    for picture in bench.pictures:
        own = cpu.detector.detect(picture)
        other = gpu.detector.detect(picture)
        same = len(own.scores) == len(other.scores)
        box = float(np.abs(own.boxes - other.boxes).max()) if same and len(own.scores) else None
        given = fix_people(cpu.detector, own.boxes)
        detector, cpu.detector = cpu.detector, given
        expected = cpu(picture, bench.camera).people
        cpu.detector, gpu.detector, on_device = detector, given, gpu.detector
        results = [gpu(picture, bench.camera).people for _ in range(3)]  # plain, recorded, replayed
        gpu.detector = on_device
        for run, people in enumerate(results):
            row = {"run": run, "people": (len(expected), len(people)), "box_px": box}
            if len(people) == len(expected) and people:
                row |= _differences(expected, people)
            found.append(row)
    return found


def _differences(expected: list, people: list) -> dict[str, float]:
    row = {}
    for name in ("joints", "vertices"):
        a, b = (
            np.stack([getattr(p, name) - p.position for p in side]) for side in (expected, people)
        )
        apart = 1e3 * np.linalg.norm(a - b, axis=-1)
        row |= {f"{name}_max_mm": float(apart.max()), f"{name}_mean_mm": float(apart.mean())}
    a, b = (np.stack([p.position for p in side]) for side in (expected, people))
    moved = np.linalg.norm(a - b, axis=-1)
    return row | {"position_max_share": float((moved / np.linalg.norm(a, axis=-1)).max())}


def latency(bench: Bench) -> object:
    """Percentiles and stages for every variant and number of people."""
    rows: dict = {}
    for variant in VARIANTS:
        pipeline, force = bench.forced(variant)
        for people in PEOPLE:
            torch.cuda.reset_peak_memory_stats()
            start = time.monotonic()
            force(people)
            runs = MAIN_RUNS if people == MAIN_PEOPLE else RUNS
            row = asdict(time_frames(pipeline, bench.pictures[0], bench.camera, runs))
            row["memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
            row["seconds"] = time.monotonic() - start
            rows[f"{variant} {people}"] = row
    return rows


def copies(bench: Bench) -> object:
    """Copies and kernels of a frame with ten people."""
    rows = {}
    for variant in VARIANTS:
        pipeline, force = bench.forced(variant)
        force(MAIN_PEOPLE)
        rows[variant] = count_copies(pipeline, bench.pictures[0], bench.camera)
    return rows


def networks(bench: Bench) -> object:
    """Time of each network as a graph, against the peak of a large half-precision product."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.float16)
    peak = 2 * 8192**3 / _graph_ms(lambda: a @ a) / 1e9  # TFLOP/s
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    bandwidth = 2 * 2**30 / _graph_ms(lambda: target.copy_(source)) / 1e9  # TB/s
    rows: dict = {"peak_tflops": peak, "copy_tb_s": bandwidth}
    for variant in VARIANTS:
        pipeline = bench.pipeline(variant)
        for engine in (pipeline.detector.engine, pipeline.skeleton, pipeline.refiner):
            for batch in (1, 16):
                if engine.name == "detector" and (batch > 1 or variant != "light"):
                    continue
                example = engine._network.example_inputs(batch)
                inputs = {name: value.cuda() for name, value in example.items()}
                with FlopCounterMode(display=False) as counter:
                    engine.run(inputs)
                flops = counter.get_total_flops()
                ms = _graph_ms(lambda: engine.run(inputs))  # noqa: B023
                share = flops / ms / 1e9 / peak
                row = {"ms": ms, "gflop": flops / 1e9, "share_of_peak": share}
                rows[f"{variant} {engine.name} {batch}"] = row
    return rows


@torch.inference_mode()
def _graph_ms(work: Callable[[], object], runs: int = 30) -> float:
    """Median time of a recorded function on the device [ms]."""
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    times = []
    for _ in range(runs):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        graph.replay()
        last.record()
        last.synchronize()
        times.append(first.elapsed_time(last))
    return float(np.median(times))


PARTS: dict[str, Callable[[Bench], object]] = {
    "latency": latency,
    "copies": copies,
    "parity": parity,
    "networks": networks,
}


def print_table(figures: dict) -> None:
    """What the parts found, shortest form."""
    print(figures["device"], "torch", figures["torch"])
    for name, row in figures.get("latency", {}).items():
        if name == "failed":
            continue
        stages = " ".join(f"{stage} {ms:.2f}" for stage, ms in row["stages"].items())
        print(
            f"{name:9} p50 {row['p50']:.2f} p95 {row['p95']:.2f} p99 {row['p99']:.2f} ms "
            f"({row['people']:.0f} people, {row['memory_mb']:.0f} MB): {stages}"
        )
    for part in ("copies", "networks"):
        for name, row in figures.get(part, {}).items():
            print(part, name, _short(row))
    for row in figures.get("parity", []):
        print("parity", _short(row))


def _short(row: object) -> str:
    if isinstance(row, dict):
        return " ".join(f"{name} {_short(value)}" for name, value in row.items())
    return f"{row:.3g}" if isinstance(row, float) else str(row)


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, required=True, help="folder for gpu.json")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of " + ",".join(PARTS))
    parser.add_argument("--seconds", type=float, default=75.0, help="no part begins after this")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.output, options.seconds)
    for name in options.parts.split(","):
        bench.run(name, PARTS[name])
    print_table(bench.figures)


if __name__ == "__main__":
    main()
