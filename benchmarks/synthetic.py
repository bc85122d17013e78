"""Speed of the synthetic pictures, and whether a detector takes their people for people.

`python benchmarks/synthetic.py --data DATA [--processes 2] [--scenes 200] [--detector FILE.onnx]`

Prints pictures a second (camera effects and JPEG included, loading and compiling excluded), how
many people there are and how much of them can be seen, and, with a detector, the share of visible
people that it finds at IoU 0.5, by how hard they are to see and by the score that counts.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from mpmesh_core.detect import load_detector
from mpmesh_core.training.scene import Scene
from mpmesh_core.training.synthetic.config import SyntheticConfig
from mpmesh_core.training.synthetic.generate import make_scene
from mpmesh_core.training.synthetic.library import Library

WARM_UP = 25  # scenes before the clock starts: every kernel is compiled by then
SCORES = (0.05, 0.2, 0.3, 0.4)  # the least is what COCO's evaluation counts
CASES = (  # name, least visibility, least height [px]
    ("visibility over 0.5, taller than 48 px", 0.5, 48),
    ("visibility over 0.8, taller than 48 px", 0.8, 48),
    ("visibility over 0.8, taller than 96 px", 0.8, 96),
)


def make(config: SyntheticConfig, first: int, count: int) -> tuple[list[Scene], float, float]:
    """Scenes, the wall time and the processor time [s] that they took."""
    library = Library.load(config)
    for number in range(WARM_UP):
        make_scene(library, config, np.random.default_rng([1, number]))
    wall, processor = time.perf_counter(), time.process_time()
    numbers = range(first, first + count)
    scenes = [make_scene(library, config, np.random.default_rng([2, n])) for n in numbers]
    return scenes, time.perf_counter() - wall, time.process_time() - processor


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU (N,) of a box (4,) with boxes (N, 4)."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return shared / (areas - shared)


def print_found(scenes: list[Scene], path: Path) -> None:
    """Share of people whom a detector finds, by the score that counts as found."""
    detector = load_detector(path, max_people=100, score_threshold=SCORES[0])
    best: dict[str, list[float]] = {name: [] for name, *_ in CASES}
    for scene in scenes:
        found = detector.detect(scene.image)
        for person in scene.people:
            box = person.visible_box
            if box is None:
                continue
            scores = found.scores[overlap(box, found.boxes) >= 0.5]
            for name, least, height in CASES:
                if person.visibility > least and box[3] - box[1] > height:
                    best[name].append(float(scores.max(initial=0.0)))
    for name, scores in best.items():
        shares = [f"{np.mean(np.array(scores) >= at):.1%} from score {at}" for at in SCORES]
        print(f"{path.name} finds, of {len(scores)} people ({name}): {', '.join(shares)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="data folder; painted rooms without it")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--detector", type=Path, help="ONNX file of a detector")
    args = parser.parse_args()
    config = SyntheticConfig(data=args.data)
    share = args.scenes // args.processes
    with ProcessPoolExecutor(args.processes) as pool:
        jobs = [pool.submit(make, config, n * share, share) for n in range(args.processes)]
        parts = [job.result() for job in jobs]
    scenes = [scene for part in parts for scene in part[0]]
    wall, processor = max(part[1] for part in parts), sum(part[2] for part in parts)
    people = [person for scene in scenes for person in scene.people]
    hidden = np.mean([person.visibility < 0.9 for person in people])
    print(f"{len(scenes) / wall:.1f} pictures a second in {args.processes} processes")
    print(f"{1e3 * processor / len(scenes):.1f} ms of one core each")
    print(f"{len(people) / len(scenes):.2f} people a picture, {hidden:.0%} of them partly hidden")
    if args.detector:
        print_found(scenes, args.detector)


if __name__ == "__main__":
    main()
