"""Discriminators: their layout, what they learn, and what they teach."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from lightning import Fabric

from mpmesh_core.body import load_body
from mpmesh_core.errors import MissingFileError, ShapeError, UsageError
from mpmesh_core.networks.discriminator import Discriminators
from mpmesh_core.training.adversary import Adversary, RealPeople, make_adversary
from mpmesh_core.training.losses import RefinerLossWeights
from mpmesh_core.training.mocap import Clip, read_makehuman
from mpmesh_core.training.synthetic.walk import Gait, walking

DATA = os.environ.get("MPMESH_TEST_DATA")


def walkers() -> RealPeople:
    """Real people who only walk."""
    gait = Gait()
    poses = np.stack([walking(gait, distance) for distance in np.linspace(0, 3, 40)])
    return RealPeople([Clip("walk/walk1", poses.astype(np.float32), 0.1)])


def contorted(count: int, seed: int) -> torch.Tensor:
    """Poses (count, 24, 3, 3) with every joint turned at random."""
    generator = torch.Generator().manual_seed(seed)
    return roma.rotvec_to_rotmat(torch.randn(count, 24, 3, generator=generator))


def adversary(real: RealPeople, rate: float = 3e-3) -> Adversary:
    torch.manual_seed(0)
    return Adversary(Fabric(accelerator="cpu", devices=1), real, rate, "robust")


class TestNetworks:
    def test_twenty_five_scores_and_the_layers_of_hmr(self) -> None:
        network = Discriminators()
        pose, shape = network(contorted(3, 0)[:, 1:], torch.zeros(3, 10))
        assert pose.shape == (3, 24)
        assert shape.shape == (3, 1)
        of_pose = 9 * 32 + 32 + 32 * 32 + 32 + 23 * 33 + 737 * 1024 + 1025 * 1024 + 1025
        assert sum(p.numel() for p in network.pose.parameters()) == of_pose
        assert sum(p.numel() for p in network.shape.parameters()) == 110 + 55 + 6

    def test_a_joint_has_a_score_of_its_own(self) -> None:
        torch.manual_seed(0)
        network, poses = Discriminators(), contorted(1, 1)[:, 1:]
        moved = poses.clone()
        moved[:, 7] = torch.eye(3)
        changed = (network.pose(poses) != network.pose(moved))[0].nonzero()[:, 0]
        assert changed.tolist() == [7, 23]

    def test_gradcheck(self) -> None:
        torch.manual_seed(0)
        network = Discriminators().double()
        inputs = contorted(2, 2)[:, 1:].double(), torch.randn(2, 10, dtype=torch.float64)
        inputs = tuple(x.requires_grad_() for x in inputs)
        assert torch.autograd.gradcheck(network, inputs, fast_mode=True)

    def test_root_included_is_refused(self) -> None:
        with pytest.raises(ShapeError, match="rotations"):
            Discriminators()(contorted(1, 0), torch.zeros(1, 10))


class TestRealPeople:
    def test_draws_rotations_left_and_right_alike(self) -> None:
        poses, betas = walkers().draw(200, np.random.default_rng(0))
        eye = torch.eye(3).expand_as(poses)
        torch.testing.assert_close(poses @ poses.mT, eye, atol=1e-4, rtol=0)
        assert abs(float(betas.std()) - 1) < 0.1
        left, right = poses[:, 0], poses[:, 1]  # hips
        flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
        assert (left.mean(0) - flip @ right.mean(0) @ flip).abs().max() < 0.1

    def test_same_seed_same_people(self) -> None:
        first, second = (walkers().draw(5, np.random.default_rng(3)) for _ in range(2))
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])

    def test_no_motions(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="no recorded motions"):
            RealPeople([])
        with pytest.raises(MissingFileError, match="no motion archive"):
            RealPeople.from_data(tmp_path, load_body("open"))


class TestAdversary:
    def check(self, real: RealPeople, steps: int) -> None:
        """After some steps, unseen real poses score above unseen made-up ones."""
        judge = adversary(real)
        for step in range(steps):
            judge.deceive(contorted(32, step), 3 * torch.randn(32, 10))
            judge.learn(0, step)
        poses, _ = real.draw(64, np.random.default_rng(99))
        with torch.inference_mode():
            real_scores = judge.networks.pose(poses).mean(1)
            odd_scores = judge.networks.pose(contorted(64, 999)[:, 1:]).mean(1)
        assert (real_scores > odd_scores.max()).float().mean() > 0.95
        assert real_scores.mean() > odd_scores.mean() + 0.3

    def test_tells_walking_from_contortion(self) -> None:
        self.check(walkers(), 40)

    @pytest.mark.skipif(DATA is None, reason="MPMESH_TEST_DATA is not set: no recorded poses")
    def test_tells_recorded_poses_from_contortion(self) -> None:
        rest = load_body("open").rest_points(torch.zeros(10)).numpy()
        clips = read_makehuman(Path(str(DATA)) / "mocap/makehuman-poses", rest)
        self.check(RealPeople(clips), 40)

    def test_deceiving_moves_the_pose_and_not_the_judge(self) -> None:
        judge = adversary(walkers())
        rotations = contorted(4, 0).requires_grad_()
        judge.deceive(rotations, torch.zeros(4, 10)).backward()
        assert rotations.grad is not None
        assert rotations.grad[:, 1:].abs().sum() > 0
        assert rotations.grad[:, 0].abs().sum() == 0  # which way people face is free
        assert all(p.grad is None for p in judge.networks.parameters())
        assert all(p.requires_grad for p in judge.networks.parameters())

    def test_goes_on_where_it_was(self) -> None:
        whole, parts = adversary(walkers()), adversary(walkers())

        def steps(judge: Adversary, numbers: range) -> float:
            for step in numbers:
                judge.deceive(contorted(8, step), torch.zeros(8, 10))
                loss = judge.learn(step)["discriminators"]
            return float(loss)

        expected = steps(whole, range(6))
        steps(parts, range(3))
        resumed = adversary(walkers())
        resumed.load_state_dict(parts.state_dict())
        assert steps(resumed, range(3, 6)) == pytest.approx(expected, rel=1e-6)

    def test_made_only_where_it_has_a_weight_and_poses(self) -> None:
        fabric, body = Fabric(accelerator="cpu", devices=1), load_body("open")
        assert make_adversary(fabric, RefinerLossWeights(), None, 1e-4, body) is None
        with pytest.raises(UsageError, match="needs real_poses"):
            make_adversary(fabric, RefinerLossWeights(adversarial=1.0), None, 1e-4, body)
