"""The joint head on tokens worked out once: what is cached, that it alone learns, resuming."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_samples import skeleton_training, standing_scene

from mpmesh_core.body import load_body
from mpmesh_core.errors import UsageError
from mpmesh_core.networks.checkpoint import load_network, save_checkpoint
from mpmesh_core.networks.skeleton import SkeletonConfig, SkeletonNetwork
from mpmesh_core.training import head_tokens
from mpmesh_core.training.augment import NO_AUGMENT
from mpmesh_core.training.head import HeadTrainer, HeadTraining, train_head
from mpmesh_core.training.head_tokens import TokenCache, joint_tokens
from mpmesh_core.training.skeleton_batches import Batches
from mpmesh_core.training.skeleton_data import write_people
from mpmesh_core.training.skeleton_losses import LossWeights
from mpmesh_core.training.skeleton_sources import scene_people


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of a few people and a network to start from, in one folder."""
    folder = tmp_path_factory.mktemp("head")
    scenes = [standing_scene(seed) for seed in range(4)]
    write_people(folder / "people", scene_people(scenes, load_body("open"), real=False))
    torch.manual_seed(0)
    network = SkeletonNetwork(SkeletonConfig(backbone="blazepose", hidden=32, fine=8))
    save_checkpoint(folder / "start.safetensors", network, network.config_dict())
    return folder


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_tokens, "_SHARD", 64)


def training(people: Path, output: Path, **changes: object) -> HeadTraining:
    base = skeleton_training(
        output,
        people / "people",
        start=str(people / "start.safetensors"),
        size=64,
        batch=8,
        augment=NO_AUGMENT,
        joint_rate=5e-3,
        weights=LossWeights(final=0.0, posed=1.0, standing=1.0),
    )
    values = {entry.name: getattr(base, entry.name) for entry in fields(base)}
    return HeadTraining(**(values | {"tokens": 64} | changes))  # type: ignore[arg-type]


def test_from_tokens_the_network_says_what_it_says_of_the_crops(
    people: Path, tmp_path: Path
) -> None:
    config = training(people, tmp_path, precision="32-true")
    trainer = HeadTrainer(config)
    cache = TokenCache(tmp_path / "tokens")
    assert len(cache) >= 64
    crops = Batches(replace(config, batch=32))[1]
    network = load_network(people / "start.safetensors", SkeletonNetwork).eval()
    rows = np.arange(32, 64)
    with torch.inference_mode():
        whole = network(crops["image"].float())
        found = network.conclude(joint_tokens(cache[rows]))
    for name, value in found.items():
        torch.testing.assert_close(value, whole[name], atol=3e-3, rtol=3e-3)
    torch.testing.assert_close(cache[rows]["points3d"], crops["points3d"])
    assert trainer.epoch_steps() == round(len(cache) / 8)


def test_the_joint_head_alone_learns_bodies(people: Path, tmp_path: Path) -> None:
    trainer = HeadTrainer(training(people, tmp_path))
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    batch = next(trainer.batches(0))
    losses = [trainer.train_step(batch, 0.3) for _ in range(30)]
    for term in ("posed", "standing"):
        assert losses[-1][term] < 0.97 * losses[0][term]
    after = trainer.network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("joints.") for name in moved)


def test_a_stopped_run_goes_on_with_its_curve_and_its_tokens(people: Path, tmp_path: Path) -> None:
    whole = training(people, tmp_path / "whole", steps=6, save_every=3)
    train_head(whole)
    parts = training(people, tmp_path / "parts", steps=6, save_every=3)
    HeadTrainer(parts).run(stop_at=3)
    (tmp_path / "parts" / "tokens" / "crops-00000.npy").unlink()  # made again, the same
    train_head(parts)
    states = [
        load_network(tmp_path / name / "skeleton.safetensors", SkeletonNetwork).state_dict()
        for name in ("whole", "parts")
    ]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value)


def test_tokens_of_another_network_or_crops_are_refused(people: Path, tmp_path: Path) -> None:
    HeadTrainer(training(people, tmp_path))
    with pytest.raises(UsageError, match="another seed: give another output"):
        HeadTrainer(training(people, tmp_path, seed=9))


def test_a_start_is_needed(people: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="set start"):
        HeadTrainer(training(people, tmp_path, start=None))
