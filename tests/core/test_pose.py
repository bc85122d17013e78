"""Placed skeletons: points near the border of the field of view fade out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpmesh_core import pose
from mpmesh_core.crop import CropCameras
from mpmesh_core.placement import FIELD_OF_VIEW
from mpmesh_core.pose import RAMP, absolute_points, point_weights
from mpmesh_core.types import Skeletons

ANKLE = 7


def cut_off(off: torch.Tensor, size: int = 256) -> tuple[Skeletons, CropCameras]:
    """The same person (N times), whose left ankle lies so far [part of the crop] off the middle."""
    count, scale = len(off), size / 256
    draw = torch.Generator().manual_seed(3)
    points = torch.randn(1, 29, 3, generator=draw).repeat(count, 1, 1) * 0.3
    points[:, 0] = 0
    K = torch.tensor([[300.0, 0, 127.5], [0, 300, 127.5], [0, 0, 1]]).repeat(count, 1, 1)
    K[:, :2] *= scale
    K[:, :2, 2] = (size - 1) / 2
    seen = points + torch.tensor([0, 0, 4.0])
    pixels = (seen @ K.mT)[..., :2] / seen[..., 2:]
    pixels[:, ANKLE, 1] = (size - 1) / 2 + off * size
    nothing = torch.zeros(count, 0)
    skeletons = Skeletons(
        points3d=points,
        points2d=pixels,
        confidence=torch.full((count, 29), 0.3),
        twist=torch.zeros(count, 23, 2),
        betas=torch.zeros(count, 10),
        features=nothing,
        heatmaps=nothing,
    )
    ok = torch.ones(count, dtype=torch.bool)
    return skeletons, CropCameras(K, torch.eye(3).repeat(count, 1, 1), size, ok)


@settings(deadline=None)
@given(st.floats(0, 0.6))
def test_weights_are_0_outside_and_whole_from_the_ramp_on(off: float) -> None:
    skeletons, _ = cut_off(torch.tensor([off]))
    weight = float(point_weights(skeletons)[0, ANKLE]) / 0.09
    if off <= FIELD_OF_VIEW - RAMP - 1e-4:
        assert weight == pytest.approx(1, abs=1e-3)
    elif off >= FIELD_OF_VIEW:
        assert weight == 0
    else:
        assert weight == pytest.approx((FIELD_OF_VIEW - off) / RAMP, abs=1e-2)


def largest_step() -> float:
    """How far [m] a point moves while the ankle crosses the border by tenths of a pixel."""
    points = absolute_points(*cut_off(torch.arange(80, 120, 0.1) / 256))
    return float(points.diff(dim=0).norm(dim=-1).max())


def test_a_tenth_of_a_pixel_never_makes_a_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    assert largest_step() < 0.02
    monkeypatch.setattr(pose, "RAMP", 1e-6)
    assert largest_step() > 0.2  # without fading out


def test_crops_of_another_size_are_placed_alike() -> None:
    off = torch.linspace(0.2, 0.45, 20)
    torch.testing.assert_close(
        absolute_points(*cut_off(off, 128)), absolute_points(*cut_off(off)), atol=1e-4, rtol=1e-4
    )
