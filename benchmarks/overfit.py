"""One batch by heart: `python benchmarks/overfit.py STORE` with a folder of `mpmesh train people`.

Trains a new network on eight people at 256 px, without augmentation, and prints what is left of
each loss term, in percent of the first step. With `--joint` and a folder of scenes, it is skeleton
network and refiner in one run on the equations as the paper writes them. The orthographic terms
cannot reach 0 for people who are close: perspective is in their pictures.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpmesh_core.body import load_body
from mpmesh_core.networks.refiner import RefinerConfig
from mpmesh_core.networks.skeleton import SkeletonConfig
from mpmesh_core.training.augment import NO_AUGMENT
from mpmesh_core.training.joint import JointTrainer, JointTraining
from mpmesh_core.training.joint_data import in_order
from mpmesh_core.training.losses import RefinerLossWeights
from mpmesh_core.training.skeleton import SkeletonTrainer, SkeletonTraining
from mpmesh_core.training.skeleton_data import PeopleStore
from mpmesh_core.training.skeleton_losses import LossWeights

_PEOPLE, _PICTURES, _EVERY = 8, 4, 25
_SETTINGS: dict[str, Any] = {
    "batch": _PEOPLE, "augment": NO_AUGMENT, "frozen_stages": 0, "absolute_from": 0.0,
    "rate": 2e-3, "head_rate": 4e-3, "joint_rate": 2e-3, "weight_decay": 0.0, "warmup": 0.03,
}  # fmt: skip


def main() -> None:
    """Train and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="of people; of scenes with --joint")
    parser.add_argument("--joint", action="store_true", help="the refiner too, in one run")
    parser.add_argument("--steps", type=int, default=350)
    parser.add_argument("--backbone", default="mobilenetv2")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    settings = _SETTINGS | {
        "steps": options.steps,
        "threads": options.threads,
        "network": SkeletonConfig(backbone=options.backbone),
    }
    with tempfile.TemporaryDirectory() as output:
        start = _joint if options.joint else _skeleton
        trainer, batch = start(options.folder, settings | {"output": output})
        _learn(trainer, batch, options.steps)


def _skeleton(store: Path, settings: dict[str, Any]) -> tuple[SkeletonTrainer, dict[str, Tensor]]:
    """The skeleton network alone, and people from all over a store."""
    config = SkeletonTraining(
        stores={str(store): 1.0}, largest_gradient=None,
        weights=LossWeights(
            absolute=1.0, projection=1.0, twist=1.0, shape=1.0, likelihood=0.0, extra=0.0
        ),
        **settings,
    )  # fmt: skip
    people, rng = PeopleStore(store), np.random.default_rng(0)
    rows = np.linspace(0, len(people) - 1, _PEOPLE).astype(int)
    samples = [people.crop(int(row), rng, NO_AUGMENT, config.size) for row in rows]
    batch = {
        name: torch.from_numpy(np.stack([sample[name] for sample in samples]))
        for name in samples[0]
    }
    return SkeletonTrainer(config), batch


def _joint(scenes: Path, settings: dict[str, Any]) -> tuple[JointTrainer, dict[str, Tensor]]:
    """Both networks, and people of a few pictures that all their points are in."""
    config = JointTraining(
        scenes={str(scenes): 1.0},
        # After a huge gradient (through inverse kinematics) Adam creeps for hundreds of steps.
        largest_gradient=1.0,
        refiner=RefinerConfig(mask_ratio=0.0), refiner_rate=1e-3,
        weights=LossWeights(
            form="paper", absolute=1.0, projection=1.0, twist=2.0, shape=1.0, spread=1.0,
            likelihood=0.0, extra=0.0,
        ),
        # Small, so that the skeleton network hears its own terms; to Adam in the refiner it is one.
        refiner_weights=RefinerLossWeights(
            form="paper", pose=0.1, shape=0.1, points=0.1, camera=0.1, image=0.0, stay=0.0
        ),
        **settings,
    )  # fmt: skip
    for batch in in_order(str(scenes), config.refiner.max_people, load_body(), _PICTURES):
        inside = batch["points2d"][..., 2] > 0
        if len(inside) == _PEOPLE and inside.all():
            return JointTrainer(config), batch
    raise SystemExit(f"{scenes}: no {_PICTURES} pictures with {_PEOPLE} people, all points inside")


def _learn(trainer: Any, batch: dict[str, Tensor], steps: int) -> None:
    first: dict[str, Tensor] = {}
    for step in range(steps):
        terms = trainer.train_step(batch, step / steps)
        trainer.step += 1
        first = first or {name: value for name, value in terms.items() if value > 0}
        if step % _EVERY == 0 or step == steps - 1:
            left = (f"{name} {100 * terms[name] / first[name]:.1f}" for name in first)
            print(f"step {step + 1}: " + ", ".join(left), flush=True)


if __name__ == "__main__":
    main()
