"""placement: exact on exact input, calibrated on noisy input, one person alone in every batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2
from torch import Tensor

from mpmesh_core.camera import Camera
from mpmesh_core.crop import (
    camera_to_crop,
    covariance_to_camera,
    crop_to_camera,
    image_to_crop,
    look_at,
)
from mpmesh_core.errors import ShapeError
from mpmesh_core.placement import (
    PlacementNoise,
    fit_residual,
    inside_field_of_view,
    locate,
    mix_absolute,
    place,
)

EXACT = {torch.float64: 5e-5, torch.float32: 5e-4}  # [m]


def people(
    count: int, depth: float, joints: int = 29, dtype: torch.dtype = torch.float64, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """People-sized point clouds that fill the crop: rel, px, K, root."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    rel = normal(count, joints, 3) * torch.tensor([0.2, 0.4, 0.15], dtype=dtype)
    rel[:, 0] = 0
    focal = 256 / (1.25 * 1.8) * depth
    K = torch.tensor([[focal, 0, 127.5], [0, focal, 127.5], [0, 0, 1]], dtype=dtype)
    root = normal(count, 3) * 0.05 + torch.tensor([0.0, 0.0, depth], dtype=dtype)
    px = (rel + root[:, None]) @ K.mT
    return rel, px[..., :2] / px[..., 2:], K.expand(count, 3, 3), root


def squared_mahalanobis(error: Tensor, covariance: Tensor) -> Tensor:
    return (error * torch.linalg.solve(covariance, error)).sum(-1)


class TestPlace:
    @pytest.mark.parametrize("dtype", EXACT)
    @pytest.mark.parametrize("depth", [1.0, 2.0, 5.0, 10.0, 30.0])
    def test_exact_input(self, depth: float, dtype: torch.dtype) -> None:
        rel, px, K, root = people(200, depth, dtype=dtype)
        placed = place(rel, px, torch.ones_like(rel[..., 0]), K)
        assert placed.ok.all() and placed.root.dtype == dtype
        assert (placed.root - root).norm(dim=-1).max() < EXACT[dtype]

    @pytest.mark.parametrize("joints", [24, 29])
    @pytest.mark.parametrize("depth", [2.0, 5.0, 10.0])
    def test_covariance_is_calibrated(self, depth: float, joints: int) -> None:
        """1 px and 20 mm: the share of truths within each ellipsoid is what it claims, +-5 %."""
        rel, px, K, root = people(4000, depth, joints)
        torch.manual_seed(1)
        noisy_rel, noisy_px = rel + 0.02 * torch.randn_like(rel), px + torch.randn_like(px)
        placed = place(noisy_rel, noisy_px, torch.ones_like(rel[..., 0]), K)
        distance = squared_mahalanobis(placed.root - root, placed.covariance)
        for share in (0.2, 0.5, 0.6827, 0.9, 0.99):
            inside = (distance < chi2.ppf(share, 3)).double().mean().item()
            assert inside == pytest.approx(share, abs=0.05), share

    @pytest.mark.parametrize("pixel, joint", [(2.0, 0.02), (1.0, 0.04), (3.0, 0.06)])
    def test_covariance_follows_the_residuals(self, pixel: float, joint: float) -> None:
        """Noise that the prior does not know of is seen in the residuals."""
        rel, px, K, root = people(4000, 4.0)
        torch.manual_seed(1)
        rel, px = rel + joint * torch.randn_like(rel), px + pixel * torch.randn_like(px)
        placed = place(rel, px, torch.ones_like(rel[..., 0]), K)
        distance = squared_mahalanobis(placed.root - root, placed.covariance)
        assert (distance < chi2.ppf(0.6827, 3)).double().mean() == pytest.approx(0.6827, abs=0.08)

    @pytest.mark.parametrize("seen", [4, 8, 15])
    def test_few_joints_are_calibrated_too(self, seen: int) -> None:
        rel, px, K, root = people(4000, 4.0)
        torch.manual_seed(1)
        rel, px = rel + 0.02 * torch.randn_like(rel), px + torch.randn_like(px)
        weight = torch.zeros_like(rel[..., 0])
        weight[:, :seen] = 1.0
        placed = place(rel, px, weight, K)
        distance = squared_mahalanobis(placed.root - root, placed.covariance)
        near = placed.ok & inside_field_of_view(px)[:, :seen].all(-1)
        share = (distance[near] < chi2.ppf(0.6827, 3)).double().mean()
        assert share == pytest.approx(0.6827, abs=0.15)

    def test_noise_floor_on_perfect_input(self) -> None:
        rel, px, K, _ = people(50, 5.0)
        floor = place(rel, px, torch.ones_like(rel[..., 0]), K).covariance
        sigma = floor.diagonal(dim1=-2, dim2=-1).sqrt()
        assert (sigma > 5e-4).all() and (sigma[:, 2] > 5 * sigma[:, 0]).all()

    def test_scale_uncertainty_lies_along_the_ray(self) -> None:
        rel, px, K, root = people(20, 5.0)
        ones = torch.ones_like(rel[..., 0])
        plain = place(rel, px, ones, K).covariance
        wide = place(rel, px, ones, K, PlacementNoise(scale_sigma=0.05)).covariance
        expected = 0.05**2 * root[:, :, None] * root[:, None, :]
        torch.testing.assert_close(wide - plain, expected, rtol=1e-3, atol=1e-8)

    @pytest.mark.parametrize("common", [0.0, 0.03])
    def test_errors_common_to_all_points_are_calibrated_when_told(self, common: float) -> None:
        """A pelvis that is misplaced within the skeleton shows in no residual."""
        rel, px, K, root = people(4000, 4.0)
        torch.manual_seed(1)
        together = 0.03 * torch.randn_like(rel[:, :1])
        noisy = rel + together + 0.02 * torch.randn_like(rel)
        noise = PlacementNoise(common_sigma=common)
        placed = place(noisy, px + torch.randn_like(px), torch.ones_like(rel[..., 0]), K, noise)
        distance = squared_mahalanobis(placed.root - root, placed.covariance)
        share = (distance < chi2.ppf(0.6827, 3)).double().mean().item()
        assert (share == pytest.approx(0.6827, abs=0.05)) == (common > 0)

    def test_joints_outside_the_field_of_view_do_not_count(self) -> None:
        rel, px, K, root = people(100, 3.0)
        outside = ~inside_field_of_view(px)
        outside[:, :4] = True
        broken = torch.where(outside[..., None], torch.full_like(px, 250.0), px)
        placed = place(rel, broken, torch.ones_like(rel[..., 0]), K)
        assert (placed.root - root).norm(dim=-1).max() < 0.02

    def test_weights_silence_wrong_joints(self) -> None:
        rel, px, K, root = people(100, 3.0)
        weight = torch.ones_like(rel[..., 0])
        weight[:, ::3] = 0.0
        px[:, ::3] += 20.0
        error = (place(rel, px, weight, K).root - root).norm(dim=-1)
        assert error.median() < 0.005

    @pytest.mark.parametrize("dtype", EXACT)
    def test_same_bits_alone_and_in_any_batch(self, dtype: torch.dtype) -> None:
        rel, px, K, _ = people(32, 4.0, dtype=dtype)
        weight = torch.rand(32, 29, dtype=dtype)
        together = place(rel, px, weight, K)
        for i in (0, 7, 31):
            alone = place(rel[i], px[i], weight[i], K[i])
            assert torch.equal(alone.root, together.root[i])
            assert torch.equal(alone.covariance, together.covariance[i])

    @pytest.mark.parametrize(
        "spoil",
        [
            "nan_rel",
            "nan_px",
            "nan_weight",
            "inf_px",
            "huge",
            "zero_K",
            "unseen",
            "behind",
            "point",
        ],
    )
    def test_bad_person_is_flagged_and_alone(self, spoil: str) -> None:
        rel, px, K, _ = (part.clone() for part in people(5, 4.0))
        weight = torch.ones_like(rel[..., 0])
        good = place(rel, px, weight, K)
        if spoil.startswith("nan"):
            {"rel": rel, "px": px, "weight": weight}[spoil[4:]][2, 3] = torch.nan
        elif spoil == "inf_px":
            px[2, 0, 1] = torch.inf
        elif spoil == "huge":
            rel[2, 0] = 1e200
        elif spoil == "zero_K":
            K[2] = 0
        elif spoil == "unseen":
            px[2] += 400.0
        elif spoil == "behind":
            rel[2] = -rel[2]  # mirrored skeletons fit only behind the camera
        else:
            px[2] = 100.0
        placed = place(rel, px, weight, K)
        assert placed.ok.tolist() == [True, True, False, True, True]
        assert torch.isfinite(placed.root).all() and (placed.root[2, 2] > 0)
        torch.testing.assert_close(placed.covariance[2], 1e4 * torch.eye(3, dtype=rel.dtype))
        for i in (0, 1, 3, 4):
            assert torch.equal(placed.root[i], good.root[i])
            assert torch.equal(placed.covariance[i], good.covariance[i])

    def test_one_joint_is_not_enough(self) -> None:
        rel, px, K, _ = people(3, 4.0, joints=1)
        assert not place(rel, px, torch.ones(3, 1).double(), K).ok.any()

    @given(st.integers(0, 2**31), st.floats(0.0, 60.0), st.floats(0.0, 0.5))
    @settings(max_examples=60, deadline=None)
    def test_covariance_is_positive_definite(self, seed: int, pixel: float, joint: float) -> None:
        rel, px, K, _ = people(4, 5.0, seed=seed)
        rel, px = rel + joint * torch.randn_like(rel), px + pixel * torch.randn_like(px)
        placed = place(rel, px, torch.ones_like(rel[..., 0]), K)
        assert torch.isfinite(placed.root).all()
        assert (torch.linalg.eigvalsh(placed.covariance) > 0).all()
        assert (placed.covariance - placed.covariance.mT).abs().max() == 0

    def test_gradient(self) -> None:
        rel, px, K, _ = people(2, 4.0, joints=8)
        weight = torch.rand(2, 8, dtype=torch.float64) + 0.5

        def solve(rel: Tensor, px: Tensor, weight: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
            placed = place(rel, px, weight, K)
            return placed.root, placed.covariance

        inputs = [part.clone().requires_grad_() for part in (rel, px, weight, K)]
        assert torch.autograd.gradcheck(solve, inputs)

    def test_shapes(self) -> None:
        rel, px, K, _ = people(6, 4.0)
        weight = torch.ones_like(rel[..., 0])
        deep = place(*(part.unflatten(0, (2, 3)) for part in (rel, px, weight, K)))
        assert deep.root.shape == (2, 3, 3) and deep.covariance.shape == (2, 3, 3, 3)
        assert deep.ok.shape == (2, 3)
        empty = place(rel[:0], px[:0], weight[:0], K[:0])
        assert empty.root.shape == (0, 3) and empty.covariance.shape == (0, 3, 3)
        with pytest.raises(ShapeError, match="weight"):
            place(rel, px, weight[:, :5], K)


class TestLocate:
    def test_where_place_puts_them(self) -> None:
        rel, px, K, _ = people(20, 4.0, dtype=torch.float32)
        rel = rel + 0.05 * torch.randn(rel.shape, generator=torch.Generator().manual_seed(1))
        weight = torch.rand(20, 29, generator=torch.Generator().manual_seed(2))
        px[3, 5], rel[4, 6] = torch.nan, torch.inf
        root = locate(rel, px, weight, K)
        assert torch.equal(root, place(rel, px, weight, K).root)
        assert root[3].tolist() == root[4].tolist() == [0, 0, 1]

    def test_shapes(self) -> None:
        rel, px, K, _ = people(2, 4.0)
        with pytest.raises(ShapeError, match="weight"):
            locate(rel, px, torch.ones(2, 28), K)


class TestThroughTheLens:
    @pytest.mark.parametrize(
        "model, D",
        [
            ("none", []),
            ("plumb_bob", [-0.28, 0.09, 1e-3, -8e-4, 0.0]),
            ("equidistant", [-0.02, 0.008, -0.004, 0.0007]),
        ],
    )
    def test_image_to_camera_frame(self, model: str, D: list[float]) -> None:
        """People projected through a real lens, cropped, placed and turned back: < 1 mm."""
        matrix = np.array([[480.0, 0, 325.0], [0, 470.0, 236.0], [0, 0, 1]])
        camera = Camera(matrix, np.array(D), model, 640, 480)
        generator = torch.Generator().manual_seed(0)
        root = torch.tensor([[-1.5, 0.2, 3.0], [0.0, -0.3, 6.0], [4.0, 0.5, 10.0]]).double()
        body = torch.randn(3, 24, 3, generator=generator).double() * 0.25
        body[:, 0] = 0
        px = camera.project(root[:, None] + body)
        crops = look_at(torch.cat((px.amin(1), px.amax(1)), -1), camera)
        K = crops.K.double()
        placed = place(
            camera_to_crop(body, crops), image_to_crop(px, crops, camera), torch.ones(3, 24), K
        )
        found = crop_to_camera(placed.root[:, None], crops)[:, 0]
        assert placed.ok.all() and (found - root).norm(dim=-1).max() < 1e-3
        turned = covariance_to_camera(placed.covariance, crops)
        ray = root / root.norm(dim=-1, keepdim=True)
        along = torch.linalg.eigh(turned).eigenvectors[..., -1]  # the largest axis is the ray
        assert ((along * ray).sum(-1).abs() > 0.99).all()


class TestMixAbsolute:
    def test_exact_input_gives_the_truth(self) -> None:
        rel, px, K, root = people(20, 4.0)
        torch.testing.assert_close(mix_absolute(rel, px, root, K), rel + root[:, None])

    def test_inside_moves_half_way_and_outside_stays(self) -> None:
        rel, px, K, root = people(20, 4.0)
        shifted = px + torch.tensor([4.0, 0.0])
        inside = inside_field_of_view(shifted)
        moved = mix_absolute(rel, shifted, root, K) - (rel + root[:, None])
        expected = 0.5 * 4.0 * (rel + root[:, None])[..., 2] / K[:, None, 0, 0]
        torch.testing.assert_close(moved[..., 0][inside], expected[inside])
        assert (moved[~inside] == 0).all() and moved[..., 1:].abs().max() < 1e-9

    def test_each_point_has_its_share(self) -> None:
        rel, px, K, root = people(20, 4.0)
        shifted = px + torch.tensor([4.0, -2.0])
        shares = torch.rand(px.shape[:-1], dtype=px.dtype)
        none, all_ = (mix_absolute(rel, shifted, root, K, mix=mix) for mix in (0.0, 1.0))
        found = mix_absolute(rel, shifted, root, K, mix=shares)
        torch.testing.assert_close(found, none + shares.unsqueeze(-1) * (all_ - none))

    def test_behind_and_nan_stay_with_their_person(self) -> None:
        rel, px, K, root = people(3, 4.0)
        good = mix_absolute(rel, px, root, K)
        rel, root = rel.clone(), root.clone()
        rel[1] = torch.nan
        root[2, 2] = -3.0
        mixed = mix_absolute(rel, px, root, K)
        assert torch.equal(mixed[0], good[0]) and torch.isnan(mixed[1]).all()
        torch.testing.assert_close(mixed[2], rel[2] + root[2])

    def test_gradient_and_empty(self) -> None:
        rel, px, K, root = people(2, 4.0, joints=5)
        inputs = [part.clone().requires_grad_() for part in (rel, px, root, K)]
        assert torch.autograd.gradcheck(mix_absolute, inputs)
        assert mix_absolute(rel[:0], px[:0], root[:0], K[:0]).shape == (0, 5, 3)


def test_convention_field_of_view() -> None:
    """24 px of 256 on each side, symmetric about the crop's middle (127.5, 127.5)."""
    at = torch.tensor([[127.5, 127.5], [23.5, 100.0], [23.4, 100.0], [231.5, 231.5], [50, 231.6]])
    assert inside_field_of_view(at).tolist() == [True, True, False, True, False]
    assert np.array_equal(inside_field_of_view(at / 2 - 0.25, 128), inside_field_of_view(at))


class TestFitResidual:
    def test_points_where_they_are_seen_have_none(self) -> None:
        points, px, K = _seen_points()
        assert float(fit_residual(points, px, torch.ones(24), K)) == pytest.approx(0, abs=1e-6)

    def test_shifted_pixels_are_the_residual(self) -> None:
        points, px, K = _seen_points()
        residual = fit_residual(points, px + torch.tensor([3.0, 4.0]), torch.ones(24), K)
        assert float(residual * K[0, 0]) == pytest.approx(5, rel=1e-4)

    def test_small_crops_have_the_same(self) -> None:
        """A point near the border of a small crop would be in view of a large one."""
        points, px, K = _seen_points()
        px[0] = 20.0  # beyond the field of view, 23.5 to 231.5
        half = torch.tensor([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]], dtype=K.dtype) @ K
        small = fit_residual(points, px / 2 - 0.25, torch.ones(24), half, 128)
        torch.testing.assert_close(small, fit_residual(points, px, torch.ones(24), K))

    def test_nobody_counted_is_unknown(self) -> None:
        points, px, K = _seen_points()
        assert torch.isnan(fit_residual(points, px, torch.zeros(24), K))


def _seen_points() -> tuple[Tensor, Tensor, Tensor]:
    """Points (24, 3) [m] 4 m ahead, their pixels and the crop's camera."""
    points = 0.3 * torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
    points[:, 2] += 4
    K = torch.tensor([[400.0, 0, 127.5], [0, 400.0, 127.5], [0, 0, 1]])
    pixels = points @ K.T
    return points, pixels[:, :2] / pixels[:, 2:], K
