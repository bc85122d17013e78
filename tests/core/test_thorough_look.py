"""Looks from many sides: brought to the same axes, and the mean that most of them agree on."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mpmesh_core.camera import Camera
from mpmesh_core.crop import CropCameras
from mpmesh_core.joints import POINT_FLIP, POINTS, TWIST_FLIP
from mpmesh_core.pipeline import Pipeline, PipelineConfig
from mpmesh_core.thorough_look import SURENESS, agreement, look_thoroughly
from mpmesh_core.types import Skeletons

PELVIS, NECK = POINTS.index("pelvis"), POINTS.index("neck")
FOCAL, SIZE, AWAY = 300.0, 256, 4.0  # [px], [px], [m]
Spoil = Callable[[Tensor, Tensor, bool], None]


def people(count: int, degrees: float = 0.0) -> Tensor:
    """(N, 29, 3) [m], pelvis-relative, camera axes; torsos lean clockwise by an angle."""
    points = torch.randn(count, 29, 3, generator=torch.Generator().manual_seed(count)) * 0.3
    angle = math.radians(degrees)
    points[:, NECK] = 0.5 * torch.tensor([math.sin(angle), -math.cos(angle), 0.2])
    points[:, PELVIS] = 0
    return points


def cameras(count: int) -> CropCameras:
    """Crop cameras along the optical axis; each has a pixel of focal length more."""
    K = torch.tensor([[FOCAL, 0, 127.5], [0, FOCAL, 127.5], [0, 0, 1]]).repeat(count, 1, 1)
    K[:, 0, 0] += torch.arange(count)
    K[:, 1, 1] += torch.arange(count)
    ok = torch.ones(count, dtype=torch.bool)
    return CropCameras(K, torch.eye(3).repeat(count, 1, 1), SIZE, ok)


class Reader:
    """An engine that knows the people and reads the camera out of the picture.

    A picture is its camera's rotation, its focal length, and a 1 by which a mirror is known.
    `spoil` may change what is read: rolls (N,) [rad], points (N, 29, 3), whether in a mirror.
    """

    def __init__(self, points: Tensor, confidence: float, spoil: Spoil | None = None) -> None:
        self.points, self.confidence, self.spoil = points, confidence, spoil
        self.readings = 0

    def pictures(self, crops: CropCameras) -> Tensor:
        focal = crops.K[:, 0, 0].view(-1, 1, 1).expand(-1, 3, 1)
        shown = torch.cat((crops.R_crop_cam, focal, torch.ones_like(focal)), -1)
        # As wide as real crops, whose width says where the mirror stands.
        return torch.nn.functional.pad(shown, (0, SIZE - 5)).unsqueeze(2)

    def run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        parts = [self._one(picture) for picture in inputs["image"]]
        return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}

    def _one(self, picture: Tensor) -> dict[str, Tensor]:
        self.readings += 1
        shown = picture.squeeze(1)
        mirrored = bool((shown[:, 4] != 1).any())
        shown = shown.flip(-1) if mirrored else shown
        R, focal = shown[:, :3], float(shown[0, 3])
        seen = self.points[round(focal - FOCAL)] @ R.T
        twist = torch.nn.functional.normalize(torch.arange(1.0, 47).view(23, 2), dim=-1)
        if self.spoil is not None:
            roll = torch.atan2(R[1, 0], R[0, 0])
            seen = seen.clone()
            self.spoil(roll, seen, mirrored)
        pixels = focal * seen[:, :2] / (seen[:, 2:] + AWAY) + 127.5
        if mirrored:
            seen = seen[list(POINT_FLIP)] * torch.tensor([-1.0, 1, 1])
            pixels = pixels[list(POINT_FLIP)] * torch.tensor([-1.0, 1]) + torch.tensor([255.0, 0])
            twist = twist[list(TWIST_FLIP)] * torch.tensor([1.0, -1])
        return {
            "points3d": seen,
            "points2d": pixels,
            "confidence": torch.full((29,), self.confidence),
            "twist": twist,
            "betas": torch.full((10,), focal),
            "features": R.reshape(9, 1, 1).expand(9, 8, 8),
            "heatmaps": torch.zeros(24, 8, 8),
        }


def look(
    points: Tensor,
    spoil: Spoil | None = None,
    everybody: bool = False,
    confidence: float = 0.5,
) -> tuple[CropCameras, Skeletons, Reader]:
    reader, crops = Reader(points, confidence, spoil), cameras(len(points))
    first = Skeletons(**reader.run({"image": reader.pictures(crops)}))
    boxes = torch.tensor([[200.0 * i, 0, 200 * i + 50, 90] for i in range(len(points))])
    found = look_thoroughly(reader, boxes, crops, first, reader.pictures, everybody)  # type: ignore[arg-type]
    return *found, reader


def in_camera(crops: CropCameras, skeletons: Skeletons) -> Tensor:
    return skeletons.points3d @ crops.R_crop_cam


class TestLookThoroughly:
    @settings(deadline=None, max_examples=20)
    @given(st.floats(-180, 180), st.booleans())
    def test_readings_that_agree_are_kept(self, degrees: float, everybody: bool) -> None:
        truth = people(3, degrees)
        crops, found, _ = look(truth, everybody=everybody)
        torch.testing.assert_close(in_camera(crops, found), truth, atol=1e-5, rtol=0)
        seen = found.points3d + torch.tensor([0, 0, AWAY])
        pixels = (seen @ crops.K.mT)[..., :2] / seen[..., 2:]
        torch.testing.assert_close(found.points2d, pixels, atol=1e-2, rtol=0)
        torch.testing.assert_close(found.betas[:, 0], crops.K[:, 0, 0])
        twist = torch.nn.functional.normalize(torch.arange(1.0, 47).view(23, 2), dim=-1)
        torch.testing.assert_close(found.twist, twist.expand(3, 23, 2), atol=1e-5, rtol=0)

    def test_features_are_those_of_the_camera_that_is_returned(self) -> None:
        crops, found, _ = look(people(2, 100.0))
        torch.testing.assert_close(found.features[:, :, 0, 0].view(2, 3, 3), crops.R_crop_cam)

    def test_a_reading_unlike_the_others_counts_little(self) -> None:
        def backwards(roll: Tensor, points: Tensor, mirrored: bool) -> None:
            if abs(roll) < 0.1 and not mirrored:  # the first look, which is not the best here
                points[:, 2] *= -1

        truth = people(2)
        crops, found, _ = look(truth, backwards)
        errors = (in_camera(crops, found) - truth).norm(dim=-1).mean()
        plain = (truth * torch.tensor([0, 0, 2.0])).norm(dim=-1).mean() / 6  # as an even mean
        assert errors < plain / 4

    def test_readings_that_are_not_finite_count_nothing(self) -> None:
        def broken(roll: Tensor, points: Tensor, mirrored: bool) -> None:
            if mirrored or roll > 0.1:
                points[3] = torch.nan

        truth = people(2, 60.0)
        crops, found, _ = look(truth, broken)
        torch.testing.assert_close(in_camera(crops, found), truth, atol=1e-5, rtol=0)

    def test_somebody_whom_nothing_reads_stays_so_and_others_stay(self) -> None:
        truth = people(3)
        truth[1] = torch.nan
        crops, found, _ = look(truth)
        assert not found.points3d[1].isfinite().any()
        for row in (0, 2):
            torch.testing.assert_close(in_camera(crops, found)[row], truth[row], atol=1e-5, rtol=0)

    def test_how_often_people_are_read(self) -> None:
        assert look(people(1, 90.0), confidence=0.7)[2].readings == 2
        assert look(people(1))[2].readings == 6
        assert look(people(1, 90.0))[2].readings == 12
        assert look(people(1), everybody=True)[2].readings == 12

    def test_nobody(self) -> None:
        crops, found, _ = look(people(1))
        none = torch.zeros(0, dtype=torch.long)
        reader = Reader(people(1), 0.5)

        class Nothing:
            def run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
                return {name: value[:0] for name, value in vars(found).items()}

        empty = look_thoroughly(
            Nothing(),  # type: ignore[arg-type]
            torch.zeros(0, 4),
            crops.take(none),
            found.take(none),
            reader.pictures,
        )
        assert empty[1].points3d.shape == (0, 29, 3)


class TestAgreement:
    @settings(deadline=None, max_examples=30)
    @given(st.integers(0, 10_000), st.integers(2, 8))
    def test_shares_of_readings(self, seed: int, count: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        points = torch.randn(count, 3, 29, 3, generator=draw)
        confidence = torch.rand(count, 3, 29, generator=draw) * 0.9 + 0.05
        known = torch.rand(count, 3, generator=draw) < 0.7
        known[0, :2] = True
        known[:, 2] = False
        weights = agreement(points, confidence, known)
        torch.testing.assert_close(weights.sum(0)[:2], torch.ones(2, 29))
        assert (weights >= 0).all() and (weights[~known] == 0).all()
        order = torch.randperm(count, generator=draw)
        again = agreement(points[order], confidence[order], known[order])
        # Ten rounds make more of what another order of summation changes.
        torch.testing.assert_close(again, weights[order], atol=2e-3, rtol=0)
        alone = agreement(points[:, :1], confidence[:, :1], known[:, :1])
        torch.testing.assert_close(alone, weights[:, :1], atol=2e-3, rtol=0)

    def test_the_surer_counts_more(self) -> None:
        points = torch.zeros(2, 1, 29, 3)
        confidence = torch.tensor([0.6, 0.5]).view(2, 1, 1).expand(2, 1, 29)
        weights = agreement(points, confidence, torch.ones(2, 1, dtype=torch.bool))
        assert float(weights[0, 0, 0] / weights[1, 0, 0]) == pytest.approx(
            1.2 * math.exp(0.1 * SURENESS)
        )

    def test_a_point_far_from_the_others_counts_less_alone(self) -> None:
        points = torch.zeros(3, 1, 29, 3)
        points[0, 0, 20, 0] = 0.4  # one wrist of one reading
        confidence = torch.full((3, 1, 29), 0.5)
        share = agreement(points, confidence, torch.ones(3, 1, dtype=torch.bool))[0, 0]
        assert share[20] < 0.5 * share[0]
        torch.testing.assert_close(share[:20], share[0].expand(20))


class TestPipeline:
    def test_single_pictures_are_looked_at_thoroughly_and_videos_are_not(self) -> None:
        config = PipelineConfig(device="cpu", backend="torch", refine=False)
        pipeline = Pipeline(config)
        assert pipeline._looks() == "on"
        pipeline.start(sequence=False)
        assert pipeline._looks() == "thorough"
        pipeline.start()
        assert pipeline._looks() == "on"
        hasty = Pipeline(config.model_copy(update={"deadline_ms": 50.0}))
        hasty.start(sequence=False)
        assert hasty._looks() == "off"

    def test_a_picture_without_people(self) -> None:
        pipeline = Pipeline(PipelineConfig(device="cpu", second_look="thorough"))
        image = np.zeros((64, 96, 3), np.uint8)
        assert not pipeline(image, Camera.from_fov(96, 64)).people
