"""Losses of equations 7 to 15: by hand, their derivatives, and what is unknown."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mpmesh_core.training import equations as eq


def points(*rows: tuple[float, ...]) -> Tensor:
    """One person's points, (1, J, D)."""
    return torch.tensor([rows], dtype=torch.float64)


ONE = torch.ones(1, 2, dtype=torch.float64)
ZERO = points((0, 0, 0), (0, 0, 0))


class TestByHand:
    def test_absolute_points(self) -> None:
        found = points((1, -2, 0), (0, 0, 3))
        assert eq.absolute_loss(found, ZERO, ONE, "paper") == pytest.approx(3)  # (3 + 3) / 2
        # robust: no coordinate counts more than 2 m
        assert eq.absolute_loss(found, ZERO, ONE, "robust") == pytest.approx(2.5)

    def test_robust_depth_counts_less_beyond_ten_metres(self) -> None:
        truth = points((0, 0, 20), (0, 0, 20))
        found = truth + torch.tensor([1.0, 0, 1.0])
        assert eq.absolute_loss(found, truth, ONE, "paper") == pytest.approx(2)
        assert eq.absolute_loss(found, truth, ONE, "robust") == pytest.approx(1.5)

    def test_relative_points(self) -> None:
        found = points((9, 9, 9), (9, 9, 13))  # two metres about their mean on z
        assert eq.relative_loss(found, ZERO, ONE) == pytest.approx(2)

    def test_image_points(self) -> None:
        found = points((3, -4), (0, 1))
        assert eq.image_loss(found, ZERO[..., :2], ONE) == pytest.approx(4)

    def test_projection_finds_scale_and_shift(self) -> None:
        found = points((-1, 0, 5), (1, 0, 7))
        assert eq.projection_loss(found, points((90, 20), (110, 20)), ONE) == pytest.approx(0)
        # the best scale for a bone that should be upright is none; at least 1 px a metre is kept
        assert eq.projection_loss(found, points((100, 10), (100, 30)), ONE) == pytest.approx(11)

    def test_twist_angles(self) -> None:
        truth = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
        found = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
        assert eq.angle_loss(found, truth, torch.ones(1, 2)) == pytest.approx(2**0.5 / 2, abs=1e-5)

    def test_shape(self) -> None:
        found, truth = torch.zeros(2, 10), torch.zeros(2, 10)
        found[0, :2] = torch.tensor([3.0, 4.0])
        assert eq.shape_loss(found, truth, torch.ones(2)) == pytest.approx(2.5, abs=1e-5)

    def test_pose(self) -> None:
        found = torch.eye(3).expand(1, 24, 3, 3).clone()
        truth = found.clone()
        found[0, :4, 0, 0] += 1.0
        one = torch.ones(1)
        assert eq.pose_loss(found, truth, one, "paper") == pytest.approx(2, abs=1e-5)  # sqrt 4
        assert eq.pose_loss(found, truth, one, "robust") == pytest.approx(4 / 24, abs=1e-4)

    def test_points(self) -> None:
        found = points((3, 4), (0, 0))
        assert eq.points_loss(found, ZERO[..., :2], ONE, "paper") == pytest.approx(12.5)
        assert eq.points_loss(found, ZERO[..., :2], ONE, "robust") == pytest.approx(2.5, abs=1e-5)

    def test_orthographic_camera(self) -> None:
        uv = eq.orthographic(
            points((-0.2, 0.4, 9), (1.8, 2.4, 0)), torch.tensor([[0.5, 0.2, -0.4]]), 256
        )
        torch.testing.assert_close(uv, points((127.5, 127.5), (255.5, 255.5)), check_dtype=False)

    def test_discriminators_and_who_deceives_them(self) -> None:
        pose, shape = torch.full((3, 4), 0.5), torch.full((3, 1), 0.2)
        real = torch.ones(3, 4), torch.ones(3, 1)
        # eq. 14: real scores are perfect; the others are 0.5 (four of them) and 0.2 off from 0
        found = eq.discriminator_loss(real, (pose, shape), "paper")
        assert found == pytest.approx(1.0 + 0.2, abs=1e-4)
        assert eq.discriminator_loss(real, (pose, shape), "robust") == pytest.approx(1.0 + 0.04)
        # eq. 15: 0.5 and 0.8 off from 1
        assert eq.deceiving_loss((pose, shape), "paper") == pytest.approx(1.0 + 0.8, abs=1e-4)
        assert eq.deceiving_loss((pose, shape), "robust") == pytest.approx(1.0 + 0.64)


def cases(form: eq.Form) -> dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]]:
    """Every loss as a function of its predictions, and their shape."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    space, plane, twist, betas, pose = (
        draw(2, 5, 3),
        draw(2, 5, 2),
        draw(2, 5, 2),
        draw(2, 10),
        draw(2, 24, 3, 3),
    )
    weight, person = draw(2, 5).abs(), draw(2).abs()
    return {
        "absolute": (lambda x: eq.absolute_loss(x, space, weight, form), (2, 5, 3)),
        "relative": (lambda x: eq.relative_loss(x, space, weight), (2, 5, 3)),
        "image": (lambda x: eq.image_loss(x, plane, weight), (2, 5, 2)),
        "angle": (lambda x: eq.angle_loss(x, twist, weight), (2, 5, 2)),
        "shape": (lambda x: eq.shape_loss(x, betas, person), (2, 10)),
        "pose": (lambda x: eq.pose_loss(x, pose, person, form), (2, 24, 3, 3)),
        "points": (lambda x: eq.points_loss(x, space, weight, form), (2, 5, 3)),
        "camera": (
            lambda x: eq.points_loss(eq.orthographic(space, x, 4), plane, weight, form), (2, 3),
        ),
        "discriminators": (
            lambda x: eq.discriminator_loss((x, x[:, :1]), (x.square(), x[:, 1:]), form), (2, 24),
        ),
        "deceiving": (lambda x: eq.deceiving_loss((x, x[:, :1]), form), (2, 24)),
    }  # fmt: skip


@pytest.mark.parametrize("form", ("paper", "robust"))
@pytest.mark.parametrize("name", cases("paper"))
class TestDerivatives:
    def test_gradcheck(self, name: str, form: eq.Form) -> None:
        loss, shape = cases(form)[name]
        generator = torch.Generator().manual_seed(7)
        found = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(loss, (found,))

    def test_finite_at_the_truth(self, name: str, form: eq.Form) -> None:
        loss, shape = cases(form)[name]
        found = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        loss(found).backward()
        assert found.grad is not None
        assert found.grad.isfinite().all()


class TestProjectionGradient:
    def test_is_that_of_the_points_under_the_fitted_camera(self) -> None:
        """The fit itself is a constant, so the gradient is the fitted scale times a sign."""
        found = points((-1, 0.1, 0), (1, 0, 0)).requires_grad_()
        truth = points((90, 20), (110, 20))
        eq.projection_loss(found, truth, ONE).backward()
        assert found.grad is not None
        assert found.grad[..., 2].abs().max() == 0  # no depth in an orthographic view
        # 20 px over about 2 m, half of the weight
        assert float(found.grad[0, 0, 1].abs()) == pytest.approx(10 / 2, rel=0.02)


class TestWeightedMean:
    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.tuples(st.floats(-9, 9), st.floats(0, 4)), min_size=1, max_size=9))
    def test_is_a_mean_and_ignores_what_has_no_weight(
        self, pairs: list[tuple[float, float]]
    ) -> None:
        values, weights = torch.tensor(pairs, dtype=torch.float64).T
        mean = float(eq.weighted_mean(values, weights))
        wild = torch.where(weights == 0, 1e6, values)
        assert float(eq.weighted_mean(wild, weights)) == pytest.approx(mean)
        if weights.sum() >= 1:
            known = values[weights > 0]
            assert float(known.min()) - 1e-9 <= mean <= float(known.max()) + 1e-9
        if weights.sum() == 0:
            assert mean == 0
