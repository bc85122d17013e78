"""Reading a crop and its mirror image: flips undo themselves, and the mean obeys the mirror."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mpmesh_core.engines import load_engine
from mpmesh_core.mirror import averaged, read_crops, unmirrored
from mpmesh_core.types import Skeletons
from mpmesh_core.weights import weights_path

SIZE = 256


def engine():
    return load_engine("skeleton", Path(weights_path("skeleton")), "torch", torch.device("cpu"))


def crops(count: int = 2) -> Tensor:
    torch.manual_seed(0)
    coarse = torch.rand(count, 3, 16, 16) * 255
    return torch.nn.functional.interpolate(coarse, SIZE, mode="bilinear")


def assert_same(first: Skeletons, second: Skeletons, **tolerance: float) -> None:
    for name in ("points3d", "points2d", "confidence", "twist", "betas"):
        torch.testing.assert_close(getattr(first, name), getattr(second, name), **tolerance)


def test_mirrored_twice_is_as_it_was() -> None:
    found = read_crops(engine(), crops(), mirror=False)
    assert_same(unmirrored(unmirrored(found, SIZE), SIZE), found)


def test_the_mean_of_a_mirrored_crop_is_the_mirrored_mean() -> None:
    straight, turned = (
        read_crops(engine(), pixels, mirror=True) for pixels in (crops(), crops().flip(-1))
    )
    assert_same(unmirrored(turned, SIZE), straight, atol=1e-3, rtol=1e-3)


def test_features_stay_those_of_the_crop() -> None:
    plain, mean = (read_crops(engine(), crops(), mirror=mirror) for mirror in (False, True))
    torch.testing.assert_close(mean.features, plain.features, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(mean.heatmaps, plain.heatmaps, atol=1e-4, rtol=1e-3)


def test_opposite_twists_have_a_mean_of_length_one() -> None:
    found = read_crops(engine(), crops(1), mirror=False)
    turned = Skeletons(**{**vars(found), "twist": -found.twist})
    torch.testing.assert_close(
        averaged(found, turned).twist.norm(dim=-1), torch.ones(1, 23), atol=1e-4, rtol=0
    )


def test_nobody() -> None:
    assert len(read_crops(engine(), crops()[:0], mirror=True).betas) == 0
