"""Foreshortening: bone lengths come true along the line of sight, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from ik_people import pose, random_rotations, rest_skeleton
from torch import Tensor

from mpmesh_core.errors import ShapeError
from mpmesh_core.foreshorten import RESIZED, foreshorten, relative_size
from mpmesh_core.ik import solve_ik
from mpmesh_core.joints import POINT_PARENTS

PARENTS = list(POINT_PARENTS[1:])


def standing(people: int = 6, distance: float = 4.0) -> tuple[Tensor, Tensor, Tensor]:
    """Skeletons in front of a camera, their rest points and full confidence."""
    rest = rest_skeleton()
    points = pose(random_rotations(people, 1.5), rest)
    away = torch.tensor([0.3, -0.2, distance], dtype=points.dtype)
    points = (points - points[:, :1] + away).float()
    return points, rest.float().expand(people, 29, 3), torch.ones(people, 29)


def lengths(points: Tensor) -> Tensor:
    return (points[..., 1:, :] - points[..., PARENTS, :]).norm(dim=-1)


def pixels(points: Tensor) -> Tensor:
    return points[..., :2] / points[..., 2:]


class TestForeshorten:
    def test_an_exact_skeleton_stays(self) -> None:
        points, rest, confidence = standing()
        moved = foreshorten(points, rest, confidence)
        torch.testing.assert_close(moved, points, rtol=0, atol=1e-5)

    def test_inverse_kinematics_of_flat_skeletons_lands_where_the_picture_says(self) -> None:
        """Depth at 60 % of the truth, as unsure networks give it, image points exact."""
        points, rest, confidence = standing(200)
        root = points[:, :1]
        depth = root[..., 2] + 0.6 * (points - root)[..., 2]
        flat = points * (depth / points[..., 2]).unsqueeze(-1)  # along the same lines of sight
        moved = foreshorten(flat, rest, confidence)
        size = relative_size(flat, rest, confidence)
        limbs = [bone for bone in range(28) if bone + 1 not in (15, 24)]  # the head just follows
        assert (lengths(moved) - lengths(rest))[:, limbs].abs().mean() < 0.003
        head, neck = [15, 24], [12]
        resized = (flat[:, head] - flat[:, neck]) * size**-RESIZED
        torch.testing.assert_close(moved[:, head] - moved[:, neck], resized)
        assert (pixels(moved) - pixels(points)).norm(dim=-1).mean() < 0.003  # 12 mm at 4 m
        twist = torch.tensor([1.0, 0.0]).expand(200, 23, 2)

        def off(targets: Tensor) -> float:
            landed = solve_ik(targets, rest, twist).points
            return float((pixels(landed) - pixels(points))[:, :24].norm(dim=-1).mean())

        def depth_error(found: Tensor) -> float:
            return float(((found - found[:, :1]) - (points - root)).norm(dim=-1).mean())

        assert off(moved) < 0.75 * off(flat)
        assert depth_error(moved) < depth_error(flat)

    @pytest.mark.parametrize("size", [0.85, 1.15])
    def test_people_of_another_size_bend_less_than_lengths_alone_would_bend_them(
        self, size: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        points, rest, confidence = standing(100)
        small = points * size  # the same picture, nearer or farther

        def turned() -> float:
            bones = foreshorten(small, rest, confidence)
            bones = bones[..., 1:, :] - bones[..., PARENTS, :]
            true = points[..., 1:, :] - points[..., PARENTS, :]
            return float(1 - torch.cosine_similarity(bones, true, dim=-1).mean())

        with_size = turned()
        monkeypatch.setattr("mpmesh_core.foreshorten.RESIZED", 0.0)
        assert with_size < 0.6 * turned()

    def test_relative_size_counts_sure_bones(self) -> None:
        points, rest, confidence = standing(20)
        size = relative_size(points * 0.8, rest, confidence)
        torch.testing.assert_close(size, torch.full((20, 1, 1), 0.8), atol=1e-3, rtol=0)
        points[:, [20, 22, 25]] += 5.0  # a lost arm, of which nothing is sure
        confidence[:, [20, 22, 25]] = 0.0
        size = relative_size(points, rest, confidence)
        torch.testing.assert_close(size, torch.ones(20, 1, 1), atol=1e-3, rtol=0)
        assert relative_size(points * 0, rest, confidence).eq(0.5).all()

    def test_unsure_points_give_way(self) -> None:
        points, rest, confidence = standing(50)
        wrist, elbow = 20, 18
        points[:, wrist] += torch.tensor([0.2, 0.0, 0.0])
        confidence[:, wrist] = 0.1
        moved = (foreshorten(points, rest, confidence) - points).norm(dim=-1).mean(0)
        assert moved[wrist] > 3 * moved[elbow]

    def test_one_person_does_not_depend_on_the_others(self) -> None:
        points, rest, confidence = standing()
        points[1:] += 0.05 * torch.randn_like(points[1:])
        alone = foreshorten(points[2:3], rest[2:3], confidence[2:3])
        together = foreshorten(points, rest, confidence)
        torch.testing.assert_close(together[2:3], alone, rtol=0, atol=1e-5)
        points[0] = torch.nan
        spoiled = foreshorten(points, rest, confidence)
        torch.testing.assert_close(spoiled[1:], together[1:], rtol=0, atol=0)
        assert spoiled[0].isnan().all()

    def test_collapsed_skeletons_and_nobody(self) -> None:
        points, rest, confidence = standing()
        assert foreshorten(points * 0, rest, confidence).isfinite().all()
        assert foreshorten(points[:, :1].expand(-1, 29, 3), rest, confidence).isfinite().all()
        assert foreshorten(points[:0], rest[:0], confidence[:0]).shape == (0, 29, 3)

    def test_unbatched_and_double(self) -> None:
        points, rest, confidence = standing()
        single = foreshorten(points[0].double(), rest[0].double(), confidence[0].double())
        assert single.dtype == torch.float64
        torch.testing.assert_close(
            single.float(), foreshorten(points, rest, confidence)[0], rtol=0, atol=1e-4
        )

    def test_gradient(self) -> None:
        points, rest, confidence = (x[:1].double() for x in standing())
        points = (points + 0.03 * torch.randn_like(points)).requires_grad_()
        assert torch.autograd.gradcheck(
            lambda p: foreshorten(p, rest, confidence, passes=2), points, atol=1e-4
        )

    def test_wrong_shapes(self) -> None:
        points, rest, confidence = standing()
        with pytest.raises(ShapeError, match="points"):
            foreshorten(points[:, :24], rest, confidence)
