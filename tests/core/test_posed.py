"""Training through inverse kinematics: exact where the network is, gradients where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import roma
import torch
from torch import Tensor
from training_samples import skeleton_training, standing_scene

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.ik import twist_from_rotations
from mpmesh_core.training.augment import NO_AUGMENT
from mpmesh_core.training.posed import pose_body, posed_loss
from mpmesh_core.training.skeleton import SkeletonTrainer
from mpmesh_core.training.skeleton_data import write_people
from mpmesh_core.training.skeleton_losses import LossWeights
from mpmesh_core.training.skeleton_sources import scene_people

PEOPLE, SIZE = 4, 256


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("open")


def exact(body: BodyModel) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """What a network without errors says of some people, their labels, and their rotations."""
    torch.manual_seed(0)
    rotations = roma.rotvec_to_rotmat(0.4 * torch.randn(PEOPLE, 24, 3))
    betas, transl = torch.randn(PEOPLE, 10), torch.tensor([0.1, -0.2, 4.0]).expand(PEOPLE, 3)
    points = body(rotations, betas, transl, vertices=False).points
    K = torch.tensor([[300.0, 0, 127.5], [0, 300.0, 127.5], [0, 0, 1]]).expand(PEOPLE, 3, 3)
    pixels = points @ K[0].T
    found = {
        "points3d": points - points[:, :1],
        "points2d": pixels[..., :2] / pixels[..., 2:],
        "confidence": torch.full((PEOPLE, 29), 0.8),
        "twist": twist_from_rotations(rotations, body.rest_points(betas)),
        "betas": betas,
        "features": torch.zeros(PEOPLE, 8, 8, 8),
        "heatmaps": torch.zeros(PEOPLE, 24, 8, 8),
    }
    known = torch.cat((points, torch.ones(PEOPLE, 29, 1)), -1)
    return found, {"K": K, "points3d": known}, rotations


class TestPosedLoss:
    def test_a_network_without_errors_gives_the_body_back(self, body: BodyModel) -> None:
        found, labels, rotations = exact(body)
        torch.testing.assert_close(
            pose_body(found, labels["K"], body, SIZE).rotations, rotations, atol=2e-3, rtol=0
        )
        assert posed_loss(found, labels, body, SIZE) < 1e-3

    def test_a_body_is_off_by_less_than_a_skeleton_that_shrinks(self, body: BodyModel) -> None:
        found, labels, _ = exact(body)
        small = found | {"points3d": 0.8 * found["points3d"]}
        off = (small["points3d"] - found["points3d"]).abs().sum(-1).mean()
        assert posed_loss(small, labels, body, SIZE) < 0.5 * off

    def test_gradients_reach_points_and_shape_but_not_confidence(self, body: BodyModel) -> None:
        found, labels, _ = exact(body)
        learning = {name: value.clone().requires_grad_() for name, value in found.items()}
        noisy = learning | {
            "points3d": learning["points3d"] + 0.05 * torch.randn(PEOPLE, 29, 3),
            "twist": learning["twist"].detach(),
        }
        posed_loss(noisy, labels, body, SIZE).backward()
        for name in ("points3d", "points2d", "betas"):
            gradient = learning[name].grad
            assert gradient is not None
            assert gradient.isfinite().all()
            assert gradient.abs().max() > 0
        assert learning["confidence"].grad is None

    def test_unknown_people_cost_nothing(self, body: BodyModel) -> None:
        found, labels, _ = exact(body)
        unknown = labels["points3d"] * torch.tensor([1.0, 1.0, 1.0, 0.0])
        wrong = found | {"points3d": -found["points3d"]}
        assert posed_loss(wrong, labels | {"points3d": unknown}, body, SIZE) == 0


class TestTraining:
    def test_the_joint_head_alone_learns_bodies(self, tmp_path: Path, body: BodyModel) -> None:
        """With frozen stages and a head rate of 0 nothing else moves; the term falls."""
        scenes = [standing_scene(seed) for seed in range(4)]
        write_people(tmp_path / "people", scene_people(scenes, body, real=False))
        config = skeleton_training(
            tmp_path / "run",
            tmp_path / "people",
            steps=30,
            size=64,
            frozen_stages=99,
            head_rate=0.0,
            joint_rate=5e-3,
            norms="frozen",
            augment=NO_AUGMENT,
            weights=LossWeights(posed=1.0),
        )
        trainer = SkeletonTrainer(config)
        before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
        batches = trainer.batches(0)
        batch = next(batches)
        batches.close()  # type: ignore[attr-defined]
        losses = [float(trainer.train_step(batch, 0.3)["posed"]) for _ in range(30)]
        assert losses[-1] < 0.97 * losses[0]
        after = trainer.network.state_dict()
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved
        assert all(name.startswith("joints.") for name in moved)
