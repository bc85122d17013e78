"""Refined bodies keep their joints: what goes back, what stays refined."""

from __future__ import annotations

import pytest
import roma
import torch
from torch import Tensor

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.joints import SMPL_JOINTS
from mpmesh_core.limbs import HANDS_SEEN, SEEN, keep_limbs

PEOPLE = 4
BETAS = torch.zeros(PEOPLE, 10)
ANKLES = [SMPL_JOINTS.index(name) for name in ("left_ankle", "right_ankle")]
WRISTS = [SMPL_JOINTS.index(name) for name in ("left_wrist", "right_wrist")]
HANDS = [SMPL_JOINTS.index(name) for name in ("left_hand", "right_hand")]


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("open")


def _poses(scale: float, seed: int) -> Tensor:
    """(4, 24, 3, 3) random rotations, `scale` [rad] on each axis."""
    torch.manual_seed(seed)
    return roma.rotvec_to_rotmat(scale * torch.randn(PEOPLE, 24, 3))


def _joints(body: BodyModel, rotations: Tensor) -> Tensor:
    points = body(rotations, BETAS, BETAS[:, :3], vertices=False).points
    return points - points[:, :1]


def _turned(rotations: Tensor, joints: list[int], seed: int = 3) -> Tensor:
    changed = rotations.clone()
    changed[:, joints] = changed[:, joints] @ _poses(0.4, seed)[:, joints]
    return changed


class TestKeepLimbs:
    def test_without_refinement_nothing_moves(self, body: BodyModel) -> None:
        pose = _poses(0.4, 0)
        kept = keep_limbs(pose, pose, BETAS, body)
        off = (_joints(body, kept) - _joints(body, pose)).norm(dim=-1)
        assert off.max() < 1e-3

    def test_joints_go_back_to_where_they_were_seen(self, body: BodyModel) -> None:
        seen = _poses(0.3, 1)
        names = ("left_shoulder", "right_elbow", "left_hip", "right_knee")
        refined = _turned(seen, [SMPL_JOINTS.index(name) for name in names])
        before, after = _joints(body, refined), _joints(body, seen)
        kept = _joints(body, keep_limbs(refined, seen, BETAS, body))
        limbs = list(SEEN)
        assert (before - after)[:, limbs].norm(dim=-1).max() > 0.1
        assert (kept - after)[:, limbs].norm(dim=-1).max() < 1e-3

    def test_feet_point_where_the_refiner_says(self, body: BodyModel) -> None:
        seen = _poses(0.3, 2)
        refined = _turned(seen, ANKLES)
        kept = keep_limbs(refined, seen, BETAS, body)
        off = (_joints(body, kept) - _joints(body, refined)).norm(dim=-1)
        assert off.max() < 1e-3

    def test_hands_go_a_part_of_the_way_to_where_they_were_seen(self, body: BodyModel) -> None:
        seen = _poses(0.3, 2)
        refined = _turned(seen, WRISTS)
        kept = keep_limbs(refined, seen, BETAS, body)
        start, goal, end = (_joints(body, pose)[:, HANDS] for pose in (refined, seen, kept))
        way = (goal - start).norm(dim=-1)
        assert way.min() > 0.01
        assert ((end - start).norm(dim=-1) / way - HANDS_SEEN).abs().max() < 0.05

    def test_rotations_also_of_wild_poses(self, body: BodyModel) -> None:
        kept = keep_limbs(_poses(2.0, 4), _poses(2.0, 5), BETAS, body)
        identity = torch.eye(3).expand_as(kept)
        torch.testing.assert_close(kept @ kept.mT, identity, rtol=0, atol=1e-5)
        assert (torch.linalg.det(kept) > 0).all()
