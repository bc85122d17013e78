"""Training through inverse kinematics: exact where the network is, gradients where it is not."""

from __future__ import annotations

import pytest
import roma
import torch
from torch import Tensor

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.ik import twist_from_rotations
from mpmesh_core.training.posed import pose_body, posed_losses
from mpmesh_core.training.skeleton_losses import LossWeights

PEOPLE, SIZE = 4, 256
EQUAL = LossWeights(posed=1.0, standing=1.0)


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
    known = torch.ones(PEOPLE, 29, 1)
    labels = {
        "K": K,
        "points3d": torch.cat((points, known), -1),
        "points2d": torch.cat((found["points2d"], known), -1),
    }
    return found, labels, rotations


class TestPosedLoss:
    def test_a_network_without_errors_gives_the_body_back(self, body: BodyModel) -> None:
        found, labels, rotations = exact(body)
        torch.testing.assert_close(
            pose_body(found, labels["K"], body, SIZE).rotations, rotations, atol=2e-3, rtol=0
        )
        losses = posed_losses(found, labels, body, EQUAL, SIZE)
        assert losses["posed"] < 1e-3
        assert losses["standing"] < 1e-3

    def test_a_body_is_off_by_less_than_a_skeleton_that_shrinks(self, body: BodyModel) -> None:
        found, labels, _ = exact(body)
        small = found | {"points3d": 0.8 * found["points3d"]}
        off = (small["points3d"] - found["points3d"]).norm(dim=-1).mean()
        assert posed_losses(small, labels, body, EQUAL, SIZE)["posed"] < 0.6 * off

    def test_standing_is_how_far_the_body_is_off_in_the_picture(self, body: BodyModel) -> None:
        """Where labels are 4 px beside what the network saw, the body is off by 4 px too."""
        found, labels, _ = exact(body)
        beside = labels["points2d"] + torch.tensor([4.0, 0.0, 0.0])
        losses = posed_losses(found, labels | {"points2d": beside}, body, EQUAL, SIZE)
        assert losses["standing"].item() == pytest.approx(4 * 2.2 / SIZE, rel=0.02)
        assert losses["posed"] < 1e-3

    def test_gradients_reach_points_and_shape_but_not_confidence(self, body: BodyModel) -> None:
        found, labels, _ = exact(body)
        learning = {name: value.clone().requires_grad_() for name, value in found.items()}
        noisy = learning | {
            "points3d": learning["points3d"] + 0.05 * torch.randn(PEOPLE, 29, 3),
            "twist": learning["twist"].detach(),
        }
        sum(posed_losses(noisy, labels, body, EQUAL, SIZE).values(), torch.zeros(())).backward()
        for name in ("points3d", "points2d", "betas"):
            gradient = learning[name].grad
            assert gradient is not None
            assert gradient.isfinite().all()
            assert gradient.abs().max() > 0
        assert learning["confidence"].grad is None

    def test_without_weights_there_is_nothing(self, body: BodyModel) -> None:
        found, labels, _ = exact(body)
        assert posed_losses(found, labels, body, LossWeights(), SIZE) == {}

    def test_unknown_people_cost_nothing(self, body: BodyModel) -> None:
        found, labels, _ = exact(body)
        unknown = labels | {
            "points3d": labels["points3d"] * torch.tensor([1.0, 1.0, 1.0, 0.0]),
            "points2d": labels["points2d"] * torch.tensor([1.0, 1.0, 0.0]),
        }
        wrong = found | {"points3d": -found["points3d"]}
        losses = posed_losses(wrong, unknown, body, EQUAL, SIZE)
        assert losses["posed"] == 0
        assert losses["standing"] == 0
