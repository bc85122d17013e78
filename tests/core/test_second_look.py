"""The second look: upright cameras for people who lean, and the surer of two readings."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mpmesh_core.crop import CropCameras
from mpmesh_core.joints import POINTS
from mpmesh_core.second_look import LEAN_DEG, lean, look_again, turn
from mpmesh_core.types import Skeletons

PELVIS, NECK = POINTS.index("pelvis"), POINTS.index("neck")
CLEARLY_MORE = LEAN_DEG + 5
FOCAL = 300.0  # [px] of the first camera; each other one has a pixel more


def cameras(count: int) -> CropCameras:
    """Crop cameras that look anywhere."""
    K = torch.tensor([[FOCAL, 0, 127.5], [0, FOCAL, 127.5], [0, 0, 1]]).repeat(count, 1, 1)
    K[:, 0, 0] += torch.arange(count)
    torch.manual_seed(1)
    R = torch.linalg.qr(torch.randn(count, 3, 3))[0]
    R = R * torch.linalg.det(R).sign()[:, None, None]
    return CropCameras(K, R, 256, torch.ones(count, dtype=torch.bool))


def skeletons(torsos: Tensor, confidence: Tensor) -> Skeletons:
    """Skeletons whose torsos (N, 3) [m] point so, all else told from the confidence (N,)."""
    count = len(torsos)
    points = torch.zeros(count, 29, 3)
    points[:, NECK] = torsos
    level = confidence.view(-1, 1, 1)
    return Skeletons(
        points3d=points,
        points2d=level.expand(count, 29, 2).clone(),
        confidence=confidence[:, None].repeat(1, 29),
        twist=level.expand(count, 23, 2).clone(),
        betas=confidence[:, None].repeat(1, 10),
        features=level[..., None].expand(count, 4, 8, 8).clone(),
        heatmaps=level[..., None].expand(count, 24, 8, 8).clone(),
    )


def leaning(*degrees: float) -> Tensor:
    """Torsos (N, 3) that lean clockwise by so much, some depth too."""
    angles = torch.tensor(degrees) * math.pi / 180
    return torch.stack((angles.sin() * 0.5, -angles.cos() * 0.5, torch.full_like(angles, 0.2)), 1)


class Reader:
    """An engine and its pictures: shows torsos (N, 3) of the camera's frame to any crop camera.

    A picture is four pixels wide: the camera's rotation, then one pixel of 1, by which the engine
    knows a mirror.
    """

    def __init__(self, torsos: Tensor, confidence: Tensor, in_mirror: Tensor) -> None:
        self.torsos, self.confidence, self.in_mirror = torsos, confidence, in_mirror
        self.rows: Tensor  # people whose pictures were asked for last
        self.read: list[str] = []

    def pictures(self, crops: CropCameras) -> Tensor:
        """Who is looked at is told by the focal length."""
        self.rows = (crops.K[:, 0, 0] - FOCAL).round().long()
        one = torch.ones(len(crops), 3, 1)
        return torch.cat((crops.R_crop_cam, one), -1).unsqueeze(2)

    def run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        pictures = inputs["image"].squeeze(2)
        mirrored = bool((pictures[:, :, 0] == 1).all())
        self.read.append(("mirrored" if mirrored else "plain") + f" {self.rows.tolist()}")
        R = pictures.flip(-1)[:, :, :3] if mirrored else pictures[:, :, :3]
        seen = (R @ self.torsos[self.rows].unsqueeze(-1)).squeeze(-1)
        if mirrored:
            seen = seen * torch.tensor([-1.0, 1.0, 1.0])
        confidence = (self.in_mirror if mirrored else self.confidence)[self.rows]
        return vars(skeletons(seen, confidence))


class TestLean:
    @settings(deadline=None)
    @given(st.floats(-179, 179))
    def test_angle_is_clockwise_from_up(self, degrees: float) -> None:
        angle, leans = lean(skeletons(leaning(degrees), torch.ones(1)))
        assert math.degrees(float(angle)) == pytest.approx(degrees, abs=1e-3)
        if abs(abs(degrees) - LEAN_DEG) > 0.01:
            assert bool(leans) == (abs(degrees) > LEAN_DEG)

    def test_a_torso_along_the_line_of_sight_leans_nowhere(self) -> None:
        angle, leans = lean(skeletons(torch.tensor([[0.05, 0.05, 0.5]]), torch.ones(1)))
        assert angle.item() == 0 and not leans.item()

    def test_nan_leans_nowhere(self) -> None:
        angle, leans = lean(skeletons(torch.full((1, 3), math.nan), torch.ones(1)))
        assert angle.item() == 0 and not leans.item()


class TestTurn:
    @settings(deadline=None)
    @given(st.floats(-180, 180))
    def test_turns_what_is_seen_and_stays_a_rotation(self, degrees: float) -> None:
        crops = cameras(2)
        angle = torch.full((2,), math.radians(degrees))
        R = turn(crops, angle).R_crop_cam
        torch.testing.assert_close(R @ R.mT, torch.eye(3).expand(2, 3, 3), atol=1e-5, rtol=0)
        assert torch.linalg.det(R).min() > 0
        up_here = crops.R_crop_cam.mT @ torch.tensor([0.0, -1.0, 0.0])
        seen = torch.einsum("nij,nj->ni", R, up_here)  # what was up now leans by the angle
        wanted = torch.tensor([math.sin(angle[0]), -math.cos(angle[0]), 0.0])
        torch.testing.assert_close(seen, wanted.expand(2, 3), atol=1e-5, rtol=0)


class TestLookAgain:
    def look(
        self,
        degrees: tuple[float, ...],
        first: Tensor,
        second: Tensor,
        everybody: bool = False,
        in_mirror: Tensor | None = None,
        mirror: bool = False,
    ) -> tuple[CropCameras, CropCameras, Skeletons, Reader]:
        crops, before = cameras(len(degrees)), skeletons(leaning(*degrees), first)
        in_camera = torch.einsum("nji,nj->ni", crops.R_crop_cam, before.points3d[:, NECK])
        reader = Reader(in_camera, second, second if in_mirror is None else in_mirror)
        boxes = torch.tensor([[100.0 * i, 0, 100 * i + 50, 90] for i in range(len(degrees))])
        boxes = boxes.view(-1, 4)
        after, found = look_again(reader, boxes, crops, before, reader.pictures, mirror, everybody)
        return crops, after, found, reader

    @settings(deadline=None)
    @given(st.floats(CLEARLY_MORE, 175), st.booleans())
    def test_the_torso_points_up_in_the_second_look(self, degrees: float, left: bool) -> None:
        degrees = -degrees if left else degrees
        _, _, found, _ = self.look((degrees,), torch.tensor([0.3]), torch.tensor([0.6]))
        wanted = torch.tensor([[0.0, -0.5, 0.2]])
        torch.testing.assert_close(found.points3d[:, NECK], wanted, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("sure", [0.4, 0.6])
    def test_points_stay_in_the_camera_frame(self, sure: float) -> None:
        _, after, found, reader = self.look((70.0,), torch.tensor([0.3]), torch.tensor([sure]))
        back = (after.R_crop_cam.mT @ found.points3d[:, NECK].unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(back, reader.torsos, atol=1e-5, rtol=0)

    def test_who_stands_and_is_clear_is_not_read_again(self) -> None:
        crops, after, _, reader = self.look((10.0, -20.0), torch.ones(2) * 0.8, torch.ones(2))
        assert not reader.read and torch.equal(after.R_crop_cam, crops.R_crop_cam)

    @pytest.mark.parametrize("everybody", [False, True])
    def test_the_surer_reading_of_each(self, everybody: bool) -> None:
        first = torch.tensor([0.65, 0.8, 0.7, 0.7])
        second = torch.tensor([0.9, 0.7, 0.9, math.nan])
        crops, after, found, reader = self.look((90.0, 90.0, 5.0, -60.0), first, second, everybody)
        again = (
            ["plain [0, 1, 2, 3]", "mirrored [0, 1, 2, 3]"] if everybody else ["plain [0, 1, 3]"]
        )
        assert reader.read == again
        expected = torch.tensor([0.9, 0.8, 0.7, 0.7])  # turned; less sure; upright; not finite
        assert_told(found, expected)
        kept = (after.R_crop_cam == crops.R_crop_cam).flatten(1).all(1)
        assert kept.tolist() == [False, True, True, True]

    @pytest.mark.parametrize("everybody", [False, True])
    def test_unsure_people_are_averaged_with_the_mirror(self, everybody: bool) -> None:
        first = torch.tensor([0.4, 0.7, 0.3, 0.2])
        in_mirror = torch.tensor([0.2, 0.0, math.nan, 0.4])
        _, _, found, reader = self.look((0.0,) * 4, first, first, everybody, in_mirror)
        assert reader.read[-1] == f"mirrored {[0, 1, 2, 3] if everybody else [0, 2, 3]}"
        torch.testing.assert_close(found.betas[:, 0], torch.tensor([0.3, 0.7, 0.3, 0.3]))
        torch.testing.assert_close(found.features[:, 0, 0, 0], first)  # the refiner's stay
        torch.testing.assert_close(found.points3d[:, NECK], leaning(0.0).expand(4, 3))

    def test_who_would_become_a_double_keeps_the_first_look(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = iter([torch.tensor([True, True, False]), torch.tensor([True, False, False])])
        monkeypatch.setattr("mpmesh_core.second_look.distinct", lambda *_: next(answers))
        first, second = torch.full((3,), 0.7), torch.full((3,), 0.9)
        crops, after, found, _ = self.look((90.0, 90.0, 90.0), first, second)
        assert_told(found, torch.tensor([0.9, 0.7, 0.9]))  # the third was a double all along
        kept = (after.R_crop_cam == crops.R_crop_cam).flatten(1).all(1)
        assert kept.tolist() == [False, True, False]

    def test_everybody_in_a_mirror_anyway(self) -> None:
        low = torch.tensor([0.2, 0.2])
        _, _, _, reader = self.look((0.0, 0.0), low, low, mirror=True)
        assert not reader.read

    def test_nobody(self) -> None:
        _, _, found, reader = self.look((), torch.ones(0), torch.ones(0), everybody=True)
        assert len(found.betas) == 0 and not reader.read


def assert_told(found: Skeletons, confidence: Tensor) -> None:
    """Each person's fields are all of the reading with that confidence (N,)."""
    for field in fields(found):
        if field.name not in ("points3d", "points2d", "twist"):
            values = getattr(found, field.name).flatten(1)
            torch.testing.assert_close(values, confidence[:, None].expand_as(values))
