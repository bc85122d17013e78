"""One batch by heart: `python benchmarks/overfit.py STORE` with a folder of `mpmesh train people`.

Trains a new network on eight people at 256 px, without augmentation, and prints what is left of
each loss term, in percent of the first step. The orthographic term cannot reach 0 for people who
are close: perspective is in their pictures.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from mpmesh_core.networks.skeleton import SkeletonConfig
from mpmesh_core.training.augment import NO_AUGMENT
from mpmesh_core.training.skeleton import SkeletonTrainer, SkeletonTraining
from mpmesh_core.training.skeleton_data import PeopleStore
from mpmesh_core.training.skeleton_losses import LossWeights

_PEOPLE, _EVERY = 8, 25


def main() -> None:
    """Train and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("store", type=Path)
    parser.add_argument("--steps", type=int, default=350)
    parser.add_argument("--backbone", default="mobilenetv2")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = SkeletonTraining(
            output=folder, stores={str(options.store): 1.0}, steps=options.steps, batch=_PEOPLE,
            network=SkeletonConfig(backbone=options.backbone), augment=NO_AUGMENT,
            frozen_stages=0, absolute_from=0.0, rate=2e-3, head_rate=4e-3, joint_rate=2e-3,
            weight_decay=0.0, largest_gradient=None, threads=options.threads, warmup=0.03,
            weights=LossWeights(
                absolute=1.0, projection=1.0, twist=1.0, shape=1.0, likelihood=0.0, extra=0.0
            ),
        )  # fmt: skip
        trainer = SkeletonTrainer(config)
        people, rng = PeopleStore(options.store), np.random.default_rng(0)
        rows = np.linspace(0, len(people) - 1, _PEOPLE).astype(int)
        samples = [people.crop(int(row), rng, NO_AUGMENT, config.size) for row in rows]
        batch = {
            name: torch.from_numpy(np.stack([sample[name] for sample in samples]))
            for name in samples[0]
        }
        first: dict[str, float] = {}
        for step in range(options.steps):
            terms = trainer.train_step(batch, step / options.steps)
            trainer.step += 1
            first = first or {name: value for name, value in terms.items() if value > 0}
            if step % _EVERY == 0 or step == options.steps - 1:
                left = (f"{name} {100 * terms[name] / first[name]:.1f}" for name in first)
                print(f"step {step + 1}: " + ", ".join(left), flush=True)


if __name__ == "__main__":
    main()
