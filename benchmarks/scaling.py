"""Time of the line against people, pixels and cores: `python benchmarks/scaling.py --output DIR`.

Each curve changes one thing and keeps the others (640x480, 4 people, all cores). Writes
DIR/scaling.json and prints a table; the numbers of people are forced, see
`mpmesh_core.evaluation.latency`. Cores are torch's threads: ONNX Runtime takes all that there are,
so that curve uses the torch backend.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

import torch

from mpmesh_core.camera import Camera
from mpmesh_core.evaluation.latency import FixedPeople, Latency, spread_boxes, time_frames
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


def curves(backend: str, device: str, runs: int) -> dict[str, dict[str, Latency]]:
    """People, pixels and, on the CPU, cores."""
    config = PipelineConfig(backend=backend, device=device, track=False)
    pipeline = Pipeline(config)
    found = {
        "people": {str(n): measure(pipeline, USUAL_SIZE, n, runs) for n in PEOPLE},
        "pixels": {f"{w}x{h}": measure(pipeline, (w, h), USUAL_PEOPLE, runs) for w, h in SIZES},
    }
    if pipeline.device.type == "cpu":
        on_torch = Pipeline(config.model_copy(update={"backend": "torch"}))
        found["cores"] = {}
        for cores in range(1, (os.cpu_count() or 1) + 1):
            torch.set_num_threads(cores)
            found["cores"][str(cores)] = measure(on_torch, USUAL_SIZE, USUAL_PEOPLE, runs)
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, required=True, help="folder for scaling.json")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", type=int, default=30)
    options = parser.parse_args()
    found = curves(options.backend, options.device, options.runs)
    options.output.mkdir(parents=True, exist_ok=True)
    figures = {
        curve: {at: asdict(row) for at, row in rows.items()} for curve, rows in found.items()
    }
    (options.output / "scaling.json").write_text(json.dumps(figures, indent=1))
    for curve, rows in found.items():
        for at, row in rows.items():
            print(
                f"{curve:7} {at:>10}  p50 {row.p50:8.1f} ms  p95 {row.p95:8.1f}  {row.fps:6.1f} FPS"
            )


if __name__ == "__main__":
    main()
