"""One person seen through two boxes is one person; two people stay two."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mpmesh_core.camera import Camera
from mpmesh_core.crop import CropCameras, look_at
from mpmesh_core.doubles import coincidence, distinct, shared
from mpmesh_core.types import Skeletons

CAMERA = Camera.from_fov(640, 480)


def skeletons(pixels: Tensor) -> Skeletons:
    """Skeletons with these crop pixels (N, 29, 2), all equally certain."""
    n = len(pixels)
    return Skeletons(
        points3d=torch.zeros(n, 29, 3),
        points2d=pixels,
        confidence=torch.full((n, 29), 0.5),
        twist=torch.zeros(n, 23, 2),
        betas=torch.zeros(n, 10),
        features=torch.zeros(n, 4, 8, 8),
        heatmaps=torch.zeros(n, 24, 8, 8),
    )


def seen_through(boxes: Tensor, picture: Tensor) -> tuple[Tensor, Skeletons, CropCameras]:
    """People at picture pixels (N, 29, 2), each in the crop of its own box."""
    crops = look_at(boxes, CAMERA)
    K = torch.from_numpy(CAMERA.K.copy()).float()
    rays = torch.cat((picture, torch.ones_like(picture[..., :1])), -1) @ torch.linalg.inv(K).mT
    turned = rays @ crops.R_crop_cam.mT @ crops.K.mT
    found = skeletons(turned[..., :2] / turned[..., 2:])
    return boxes, found, crops


def person(seed: int = 0) -> Tensor:
    """(29, 2) points around pixel (320, 240), spread by about 60 px."""
    return 320 + 60 * torch.from_numpy(np.random.default_rng(seed).normal(size=(29, 2))).float()


BOXES = torch.tensor([[200.0, 100, 420, 400], [190.0, 130, 410, 420], [210.0, 90, 500, 380]])


def test_three_boxes_one_person() -> None:
    points = person()
    people = torch.stack((points, points + 3, points - 3))
    assert distinct(*seen_through(BOXES, people)).tolist() == [True, False, False]


def test_neighbours_stay() -> None:
    points = person()
    apart = torch.tensor([60.0, 0])
    people = torch.stack((points, points + apart, points - apart))
    assert distinct(*seen_through(BOXES, people)).tolist() == [True, True, True]


def test_same_skeleton_in_boxes_that_hardly_overlap_stays() -> None:
    """Somebody behind, on whom the network mistook the one in front."""
    points = person()
    boxes = torch.tensor([[200.0, 100, 420, 400], [340.0, 100, 560, 400]])
    people = torch.stack((points, points))
    assert distinct(*seen_through(boxes, people)).tolist() == [True, True]


def test_shared_area() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [2.0, 0, 4, 2], [10.0, 0, 12, 2]])
    assert shared(boxes).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_a_place_that_nobody_takes_is_nobodys_double() -> None:
    points = person()
    boxes = torch.cat((BOXES[:1], torch.full((2, 4), torch.nan)))
    people = torch.stack((points, points, points))
    assert distinct(*seen_through(boxes, people)).tolist() == [True, True, True]


def test_distance_does_not_depend_on_the_boxes_or_the_scale() -> None:
    people = torch.stack((person(), person() + 20))
    far = 320 + (people - 320) / 4
    near = coincidence(*seen_through(BOXES[:2], people)[1:])[0, 1]
    small = coincidence(*seen_through(BOXES[:2], far)[1:])[0, 1]
    same_box = coincidence(*seen_through(BOXES[[0, 0]], people)[1:])[0, 1]
    torch.testing.assert_close(near, same_box, atol=1e-3, rtol=0)
    torch.testing.assert_close(near, small, atol=0.02, rtol=0)


def test_a_lost_person_takes_nobody_along() -> None:
    points = person()
    people = torch.stack((torch.full_like(points, torch.nan), points, points))
    assert distinct(*seen_through(BOXES, people)).tolist() == [True, True, False]


def test_nobody() -> None:
    assert len(distinct(*seen_through(BOXES[:0], torch.zeros(0, 29, 2)))) == 0
