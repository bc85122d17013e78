"""Time of the line against people, pixels and cores: `python benchmarks/scaling.py --output DIR`.

Each curve changes one thing and keeps the others (640x480, 4 people, all cores). Writes
DIR/scaling.json and prints a line after each measurement; the numbers of people are forced, see
`mpmesh_core.evaluation.latency`, and nobody is looked at twice. Cores are torch's threads: ONNX
Runtime takes all that there are, so that curve uses the torch backend.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from arguments import errors_in_one_line, positive

from mpmesh_core.ahead import cores
from mpmesh_core.camera import Camera
from mpmesh_core.cli.options import pipeline_config
from mpmesh_core.evaluation.latency import FixedPeople, Latency, spread_boxes, time_frames
from mpmesh_core.outputs import prepare_folder, refuse_folder, write_file
from mpmesh_core.pipeline import Pipeline, PipelineConfig
from mpmesh_core.training.synthetic.demo_clip import demo_clip

PEOPLE = (1, 2, 4, 8, 16, 32)
SIZES = ((320, 240), (640, 480), (1280, 720), (1920, 1080), (3840, 2160))
USUAL_PEOPLE, USUAL_SIZE = 4, (640, 480)


def measure(pipeline: Pipeline, size: tuple[int, int], people: int, runs: int) -> Latency:
    """The line on one rendered picture with so many people forced."""
    fixed = FixedPeople(pipeline, spread_boxes(people, *size))
    image = next(iter(demo_clip(frames=1, size=size))).image
    try:
        return time_frames(pipeline, [image], Camera.from_fov(*size), runs)
    finally:
        fixed.free()


def curves(config: PipelineConfig, runs: int) -> Iterator[tuple[str, str, Latency]]:
    """People, pixels and, on the CPU, cores: the curve, where on it, and what was measured."""
    pipeline = Pipeline(config)
    for people in PEOPLE:
        yield "people", str(people), measure(pipeline, USUAL_SIZE, people, runs)
    for size in SIZES:
        yield "pixels", "x".join(map(str, size)), measure(pipeline, size, USUAL_PEOPLE, runs)
    if pipeline.device.type == "cpu":
        on_torch = Pipeline(config.model_copy(update={"backend": "torch"}))
        for threads in range(1, cores() + 1):
            torch.set_num_threads(threads)
            yield "cores", str(threads), measure(on_torch, USUAL_SIZE, USUAL_PEOPLE, runs)


@errors_in_one_line()
def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, required=True, help="folder for scaling.json")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", type=positive, default=30)
    options = parser.parse_args()
    chosen = {"backend": options.backend, "device": options.device}
    config = pipeline_config(track=False, second_look="off", **chosen)
    path = prepare_folder(options.output) / "scaling.json"
    refuse_folder(path)
    figures: dict[str, dict[str, dict]] = {}
    for curve, at, row in curves(config, options.runs):
        figures.setdefault(curve, {})[at] = asdict(row)
        write_file(path, json.dumps(figures, indent=1).encode())
        times = f"p50 {row.p50:8.1f} ms  p95 {row.p95:8.1f}  {row.fps:6.1f} FPS"
        print(f"{curve:7} {at:>10}  {times}", flush=True)


if __name__ == "__main__":
    main()
