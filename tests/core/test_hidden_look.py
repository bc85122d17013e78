"""People behind others: read again without the one in front, and left alone where nobody hides."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import roma
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mpmesh_core.crop import CropCameras, crop_rays, project_to_crop
from mpmesh_core.hidden_look import in_front, look_behind, paint_over
from mpmesh_core.joints import POINT_FLIP, POINT_PARENTS, POINTS
from mpmesh_core.types import Skeletons

SIZE = 256
RED, BLUE, GREEN = (230.0, 20.0, 20.0), (20.0, 20.0, 230.0), (20.0, 230.0, 20.0)
HEIGHTS = {
    "hip": 140, "knee": 180, "ankle": 220, "foot": 224, "toe_tip": 226, "collar": 80,
    "shoulder": 82, "elbow": 110, "wrist": 135, "hand": 142, "hand_tip": 150, "pelvis": 135,
    "spine1": 120, "spine2": 105, "spine3": 92, "neck": 76, "head": 60, "head_top": 42,
}  # fmt: skip


def upright(x: float) -> Tensor:
    """(29, 2) [px] of somebody who stands at x."""
    rows = []
    for name in POINTS:
        side, _, part = (
            name.partition("_") if name.startswith(("left", "right")) else ("", "", name)
        )
        away = {"left": 1, "right": -1}.get(side, 0)
        arm = part in ("elbow", "wrist", "hand", "hand_tip")
        rows.append((x + away * (26 if arm else 14), HEIGHTS[part]))
    return torch.tensor(rows, dtype=torch.float32)


FRONT, BEHIND = upright(118.0), upright(150.0)
BOXES = torch.tensor([[80.0, 30, 156, 230], [84.0, 30, 190, 230], [112.0, 30, 188, 230]])


def cameras(count: int) -> CropCameras:
    """Crop cameras that zoom and look a little differently."""
    K = torch.tensor([[300.0, 0, 127.5], [0, 300, 127.5], [0, 0, 1]]).repeat(count, 1, 1)
    K[:, 0, 0] -= 30.0 * torch.arange(count)
    K[:, 1, 1] -= 30.0 * torch.arange(count)
    angles = torch.zeros(count, 3)
    angles[:, 2] = 0.2 * torch.arange(count)
    R = roma.rotvec_to_rotmat(angles)
    return CropCameras(K, R, SIZE, torch.ones(count) > 0)


def seen_by(crops: CropCameras, points: Tensor) -> Tensor:
    """(N, 29, 2) [px]: points (29, 2) of the first crop in all."""
    rays = crop_rays(
        points.expand(len(crops), -1, -1), cameras(1).take(torch.zeros(len(crops)).long())
    )
    return project_to_crop(rays, crops)


class World:
    """Pictures of bodies drawn over one another; as an engine it finds the red one, else the blue.

    A mark in the corner tells which crop it is, and by its side a mirror.
    """

    def __init__(
        self, bodies: dict[tuple[float, ...], Tensor], of_hidden: float = 0.28, spoil: bool = False
    ) -> None:
        self.bodies, self.of_hidden, self.spoil, self.calls = bodies, of_hidden, spoil, 0
        self.crops = cameras(3)

    def pictures(self, crops: CropCameras) -> Tensor:
        return torch.stack(
            [self._picture(crops.take(torch.tensor([i]))) for i in range(len(crops))]
        )

    def _picture(self, crop: CropCameras) -> Tensor:
        canvas = np.full((SIZE, SIZE, 3), 90, np.float32)
        for colour, points in self.bodies.items():
            draw(canvas, seen_by(crop, points)[0], colour)
        canvas[:4, :4] = GREEN
        canvas[:4, :4, 2] = float(crop.K[0, 0, 0]) - 200  # which camera it is
        return torch.from_numpy(canvas).permute(2, 0, 1)

    def run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        self.calls += 1
        parts = [self._one(picture) for picture in inputs["image"]]
        return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}

    def _one(self, shown: Tensor) -> dict[str, Tensor]:
        mirrored = bool(shown[1, 0, 0] < 200)
        focal = float(shown[2, 0, -1 if mirrored else 0]) + 200
        own = self.crops.take(((self.crops.K[:, 0, 0] - focal).abs() < 1).nonzero()[:, 0])
        red, blue = ((shown[at, 8:] > 200) & (shown[1, 8:] < 60) for at in (0, 2))
        points, confidence = (FRONT, 0.3) if red.sum() > 60 else (BEHIND, self.of_hidden)
        if not red.sum() > 60 and not blue.sum() > 60:
            points, confidence = FRONT + 30, 0.05
        points = seen_by(own, points)[0]
        if mirrored:
            points = points[list(POINT_FLIP)] * torch.tensor([-1.0, 1]) + torch.tensor([255.0, 0])
        return skeleton(points * torch.nan if self.spoil else points, confidence)


def draw(canvas: np.ndarray, points: Tensor, colour: tuple[float, ...]) -> None:
    for point, parent in enumerate(POINT_PARENTS[1:], 1):
        ends = [tuple(map(int, points[end].tolist())) for end in (point, parent)]
        cv2.line(canvas, *ends, colour, 5)


def skeleton(points: Tensor, confidence: float) -> dict[str, Tensor]:
    return {
        "points3d": torch.zeros(29, 3),
        "points2d": points,
        "confidence": torch.full((29,), confidence),
        "twist": torch.tensor([1.0, 0]).expand(23, 2),
        "betas": torch.zeros(10),
        "features": torch.zeros(4, 8, 8),
        "heatmaps": torch.zeros(24, 8, 8),
    }


def people(*rows: tuple[Tensor, float]) -> Skeletons:
    """Somebody in each crop, given in pixels of the first one."""
    crops = cameras(len(rows))
    parts = [
        skeleton(seen_by(crops, points)[row], confidence)
        for row, (points, confidence) in enumerate(rows)
    ]
    return Skeletons(**{name: torch.stack([part[name] for part in parts]) for name in parts[0]})


def look(
    world: World, skeletons: Skeletons, boxes: Tensor | None = None, everybody: bool = False
) -> Skeletons:
    count = len(skeletons.points2d)
    boxes = BOXES[:count] if boxes is None else boxes
    given = world, boxes, cameras(count), skeletons, world.pictures, everybody
    return look_behind(*given)  # type: ignore[arg-type]


BODIES = {BLUE: BEHIND, RED: FRONT}
MISTAKEN = people((FRONT, 0.6), (FRONT + 3, 0.3))


class TestLookBehind:
    @pytest.mark.parametrize("everybody", [False, True])
    @pytest.mark.parametrize("of_hidden", [0.28, 0.9])
    def test_who_is_behind_is_found(self, everybody: bool, of_hidden: float) -> None:
        found = look(World(BODIES, of_hidden), MISTAKEN, everybody=everybody)
        behind = seen_by(cameras(2), BEHIND)[1]
        torch.testing.assert_close(found.points2d[1], behind, atol=1e-3, rtol=0)
        torch.testing.assert_close(found.points2d[0], FRONT, atol=1e-3, rtol=0)
        assert found.confidence[0].mean() == MISTAKEN.confidence[0].mean()

    def test_two_boxes_of_one_person_stay_as_they_are(self) -> None:
        found = look(World({RED: FRONT}), MISTAKEN)
        torch.testing.assert_close(found.points2d, MISTAKEN.points2d)

    @pytest.mark.parametrize("world", [World(BODIES, of_hidden=0.2), World(BODIES, spoil=True)])
    def test_a_reading_that_is_unsure_or_broken_does_not_count(self, world: World) -> None:
        found = look(world, MISTAKEN)
        torch.testing.assert_close(found.points2d, MISTAKEN.points2d)

    def test_nobody_becomes_a_double(self) -> None:
        """Who was found behind has a box of their own already."""
        three = people((FRONT, 0.6), (FRONT + 3, 0.3), (BEHIND, 0.5))
        found = look(World(BODIES), three)
        torch.testing.assert_close(found.points2d, three.points2d)

    @pytest.mark.parametrize(
        ("skeletons", "boxes"),
        [
            (people((FRONT, 0.5), (FRONT, 0.45)), BOXES[:2]),  # as sure as the other
            (people((FRONT, 0.6), (BEHIND + 60, 0.3)), BOXES[:2]),  # elsewhere
            (MISTAKEN, BOXES[:2] + torch.tensor([[0.0], [300.0]])),  # boxes apart
            (MISTAKEN, torch.tensor([[80.0, 30, 110, 230], [100.0, 30, 190, 230]])),  # just touch
            (people((FRONT, 0.3)), BOXES[:1]),
        ],
    )
    def test_nobody_else_is_read_again(self, skeletons: Skeletons, boxes: Tensor) -> None:
        world = World(BODIES)
        assert look(world, skeletons, boxes) is skeletons
        assert world.calls == 0

    @pytest.mark.parametrize("everybody", [False, True])
    def test_nobody(self, everybody: bool) -> None:
        none = MISTAKEN.take(torch.zeros(0, dtype=torch.long))
        assert look(World(BODIES), none, everybody=everybody) is none

    def test_the_nearest_is_in_front(self) -> None:
        three = people((BEHIND - 16, 0.6), (FRONT + 3, 0.3), (FRONT, 0.7))
        other, hidden = in_front(BOXES, three, cameras(3))
        assert hidden.tolist() == [False, True, False] and other[1] == 2

    def test_a_broken_skeleton_hides_nobody(self) -> None:
        broken = people((FRONT, 0.6), (FRONT + 3, 0.3), (FRONT * torch.nan, 0.9))
        other, hidden = in_front(BOXES, broken, cameras(3))
        assert hidden.tolist() == [False, True, False] and other[1] == 0
        found = look(World(BODIES), broken)
        behind = seen_by(cameras(3), BEHIND)[1]
        torch.testing.assert_close(found.points2d[1], behind, atol=1e-3, rtol=0)


BOTH = World(BODIES).pictures(cameras(1))[0]


class TestPaintOver:
    def test_the_body_is_gone_and_the_rest_is_there(self) -> None:
        painted = paint_over(BOTH[None], FRONT[None])[0]
        red, blue = ((painted[at] > 200) & (painted[1] < 60) for at in (0, 2))
        assert red.sum() == 0 and blue.sum() > 300
        torch.testing.assert_close(painted[..., 200:], BOTH[..., 200:], rtol=0, atol=0)

    @settings(deadline=None, max_examples=20)
    @given(st.integers(0, 1000), st.floats(20, 230), st.floats(-200, 400))
    def test_one_colour_stays(self, seed: int, grey: float, x: float) -> None:
        random = torch.Generator().manual_seed(seed)
        points = FRONT + torch.tensor([x - 118, 0]) + 20 * torch.randn(29, 2, generator=random)
        flat = torch.full((1, 3, SIZE, SIZE), grey)
        torch.testing.assert_close(paint_over(flat, points[None]), flat, rtol=0, atol=1e-2)

    def test_colours_are_those_nearby(self) -> None:
        halves = torch.full((1, 3, SIZE, SIZE), 30.0)
        halves[..., SIZE // 2 :, :] = 200.0
        painted = paint_over(halves, FRONT[None])[0, 0]
        head, ankle = (FRONT[POINTS.index(name)].long() for name in ("head", "left_ankle"))
        assert painted[head[1], head[0]] < 50 and painted[ankle[1], ankle[0]] > 180

    def test_nothing_is_left_of_a_picture_that_is_all_body(self) -> None:
        near = (FRONT - 128) * 12 + 128
        painted = paint_over(BOTH[None], near[None])
        assert painted.isfinite().all()

    def test_crops_do_not_depend_on_one_another(self) -> None:
        pictures = torch.stack((BOTH, BOTH.flip(1), BOTH.flip(2)))
        points = torch.stack((FRONT, BEHIND, upright(60.0)))
        together = paint_over(pictures, points)
        for row in range(3):
            alone = paint_over(pictures[row : row + 1], points[row : row + 1])
            torch.testing.assert_close(together[row : row + 1], alone)
