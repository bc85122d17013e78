"""Speed of training data and of the training step: `python benchmarks/training.py -c CONFIG`.

Prints crops a second of one loading process alone, of the training step alone, and of both
together as training runs them. Loading must not be slower than the step: else add `workers`.
CONFIG is one of `mpmesh train skeleton`, settings stand behind it; the load is printed too, since
other work on it slows both.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from mpmesh_core.training.settings import read_settings
from mpmesh_core.training.skeleton import SkeletonTrainer, SkeletonTraining


def rate(crops: int, repeats: int, work: Callable[[int], object]) -> tuple[float, float]:
    """Crops a second by the wall's clock and by this process's own time; one call warms up."""
    work(0)
    _wait()
    wall, own = time.perf_counter(), time.process_time()
    for number in range(1, repeats + 1):
        work(number)
    _wait()
    wall, own = time.perf_counter() - wall, time.process_time() - own
    return crops * repeats / wall, crops * repeats / own


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-c", "--config", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("settings", nargs="*", help="key=value, later than the file's")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = read_settings(SkeletonTraining, options.config, options.settings)
        config = replace(config, output=folder, devices=1, validation=())
        trainer = SkeletonTrainer(config)
        batches = trainer._batches
        batch = batches[0]
        busy = os.getloadavg()[0]
        print(f"load {busy:.1f} on {os.cpu_count()} cores, torch {torch.__version__}")
        print(f"batch {config.batch}, {config.threads} threads, {config.precision}")
        loading = rate(config.batch, options.repeats, lambda step: batches[step])
        step = rate(config.batch, options.repeats, lambda _: trainer.train_step(batch, 0.5))
        stream = iter(trainer.batches(0))
        both = rate(config.batch, options.repeats, lambda _: trainer.train_step(next(stream), 0.5))
        print(f"{'':30}{'by the clock':>14}{'own CPU time':>14}  [crops/s]")
        rows = {"loading, one process": loading, "step alone": step}
        rows[f"step with {config.workers} loading processes"] = both
        for name, speeds in rows.items():
            print(f"{name:30}" + "".join(f"{speed:14.1f}" for speed in speeds))


if __name__ == "__main__":
    main()
