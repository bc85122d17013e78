"""People behind others: read again without the one in front, and left alone where nobody hides."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mpmesh_core.crop import CropCameras
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
BOXES = torch.tensor([[80.0, 30, 156, 230], [84.0, 30, 190, 230]])


def picture(bodies: dict[tuple[float, ...], Tensor]) -> Tensor:
    """(3, S, S): bodies drawn one over the other, and a green mark on the left."""
    canvas = np.full((SIZE, SIZE, 3), 90, np.float32)
    for colour, points in bodies.items():
        for point, parent in enumerate(POINT_PARENTS[1:], 1):
            ends = [tuple(map(int, points[end].tolist())) for end in (point, parent)]
            cv2.line(canvas, *ends, colour, 5)
    canvas[:4, :4] = GREEN
    return torch.from_numpy(canvas).permute(2, 0, 1)


class Eye:
    """An engine that sees the red body where there is one, else the blue one."""

    def __init__(self, of_hidden: float = 0.28) -> None:
        self.of_hidden, self.calls = of_hidden, 0

    def run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        self.calls += 1
        parts = [self._one(picture) for picture in inputs["image"]]
        return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}

    def _one(self, shown: Tensor) -> dict[str, Tensor]:
        mirrored = bool(shown[1, 0, 0] < 200)
        red, blue = ((shown[at] > 200) & (shown[1] < 60) for at in (0, 2))
        points, confidence = (FRONT, 0.3) if red.sum() > 60 else (BEHIND, self.of_hidden)
        if not red.sum() > 60 and not blue.sum() > 60:
            points, confidence = FRONT + 30, 0.05
        if mirrored:
            points = points[list(POINT_FLIP)] * torch.tensor([-1.0, 1]) + torch.tensor([255.0, 0])
        return skeleton(points, confidence)


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
    parts = [skeleton(*row) for row in rows]
    return Skeletons(**{name: torch.stack([part[name] for part in parts]) for name in parts[0]})


def cameras(count: int) -> CropCameras:
    K = torch.tensor([[300.0, 0, 127.5], [0, 300, 127.5], [0, 0, 1]]).repeat(count, 1, 1)
    return CropCameras(K, torch.eye(3).repeat(count, 1, 1), SIZE, torch.ones(count) > 0)


def look(
    shown: Tensor, skeletons: Skeletons, boxes: Tensor = BOXES, eye: Eye | None = None, **kind: bool
) -> Skeletons:
    def see(crops: CropCameras) -> Tensor:
        return shown.expand(len(crops), -1, -1, -1)

    return look_behind(eye or Eye(), boxes, cameras(len(boxes)), skeletons, see, **kind)  # type: ignore[arg-type]


BOTH = picture({BLUE: BEHIND, RED: FRONT})
MISTAKEN = people((FRONT, 0.6), (FRONT, 0.3))


class TestLookBehind:
    @pytest.mark.parametrize("everybody", [False, True])
    def test_who_is_behind_is_found(self, everybody: bool) -> None:
        found = look(BOTH, MISTAKEN, everybody=everybody)
        torch.testing.assert_close(found.points2d[1], BEHIND, atol=1e-3, rtol=0)
        torch.testing.assert_close(found.points2d[0], FRONT)
        assert found.confidence[0].mean() == MISTAKEN.confidence[0].mean()

    def test_two_boxes_of_one_person_stay_as_they_are(self) -> None:
        found = look(picture({RED: FRONT}), MISTAKEN)
        torch.testing.assert_close(found.points2d, MISTAKEN.points2d)

    def test_a_much_less_sure_reading_does_not_count(self) -> None:
        found = look(BOTH, MISTAKEN, eye=Eye(of_hidden=0.2))
        torch.testing.assert_close(found.points2d, MISTAKEN.points2d)

    @pytest.mark.parametrize(
        ("skeletons", "boxes"),
        [
            (people((FRONT, 0.5), (FRONT, 0.45)), BOXES),  # as sure as the other
            (people((FRONT, 0.6), (BEHIND + 60, 0.3)), BOXES),  # elsewhere
            (MISTAKEN, BOXES + torch.tensor([[0.0], [300.0]])),  # boxes apart
        ],
    )
    def test_nobody_else_is_read_again(self, skeletons: Skeletons, boxes: Tensor) -> None:
        eye = Eye()
        assert look(BOTH, skeletons, boxes, eye) is skeletons
        assert eye.calls == 0

    def test_a_broken_skeleton_hides_nobody(self) -> None:
        broken = people((FRONT, 0.6), (FRONT, 0.3), (FRONT * torch.nan, 0.9))
        boxes = torch.cat((BOXES, BOXES[:1]))
        other, hidden = in_front(boxes, broken, cameras(3))
        assert hidden.tolist() == [False, True, False] and other[1] == 0
        found = look(BOTH, broken, boxes)
        torch.testing.assert_close(found.points2d[1], BEHIND, atol=1e-3, rtol=0)


class TestPaintOver:
    def test_the_body_is_gone_and_the_rest_is_there(self) -> None:
        painted = paint_over(BOTH[None], FRONT[None])[0]
        red, blue = ((painted[at] > 200) & (painted[1] < 60) for at in (0, 2))
        assert red.sum() == 0 and blue.sum() > 300
        torch.testing.assert_close(painted[..., 200:], BOTH[..., 200:], rtol=0, atol=0)

    @settings(deadline=None, max_examples=20)
    @given(st.integers(0, 1000), st.floats(20, 230), st.floats(-200, 400))
    def test_colours_come_from_around_alone(self, seed: int, grey: float, x: float) -> None:
        random = torch.Generator().manual_seed(seed)
        points = FRONT + torch.tensor([x - 118, 0]) + 20 * torch.randn(29, 2, generator=random)
        flat = torch.full((1, 3, SIZE, SIZE), grey)
        torch.testing.assert_close(paint_over(flat, points[None]), flat, rtol=0, atol=1e-2)

    def test_nothing_is_left_of_a_picture_that_is_all_body(self) -> None:
        near = (FRONT - 128) * 12 + 128
        painted = paint_over(BOTH[None], near[None])
        assert painted.isfinite().all()

    def test_crops_do_not_depend_on_one_another(self) -> None:
        pictures = torch.stack((BOTH, BOTH.flip(1), picture({RED: BEHIND})))
        points = torch.stack((FRONT, BEHIND, upright(60.0)))
        together = paint_over(pictures, points)
        for row in range(3):
            alone = paint_over(pictures[row : row + 1], points[row : row + 1])
            torch.testing.assert_close(together[row : row + 1], alone)
