"""Crops by grid sampling are those that native code makes."""

import numpy as np
import pytest
import torch

from mpmesh_core.camera import Camera
from mpmesh_core.crop import crop_images, look_at
from mpmesh_core.errors import ShapeError
from mpmesh_core.training.synthetic.demo_clip import demo_clip
from mpmesh_core.warp import warp_crops

SIZE = WIDTH, HEIGHT = 640, 480
BOXES = torch.tensor(
    [[100.0, 50, 300, 400], [-20, 10, 200, 600], [300, 200, 340, 280], [0, 0, 639, 479]]
)
LENSES = {
    "none": ([], 550.0),
    "plumb_bob": ([0.1, -0.2, 0.001, 0.002, 0.05], 550.0),
    "rational_polynomial": ([0.1, -0.2, 0.001, 0.002, 0.05, 0.1, 0.02, 0.01], 550.0),
    "equidistant": ([0.1, -0.02, 0.001, 0.002], 300.0),
}


def camera_of(model: str) -> Camera:
    D, f = LENSES[model]
    return Camera(np.array([[f, 0, 320], [0, f, 240], [0, 0, 1]]), np.array(D), model, *SIZE)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return next(iter(demo_clip(frames=1, size=SIZE))).image


@pytest.mark.parametrize("model", LENSES)
def test_as_native_code_makes_them(model: str, image: np.ndarray) -> None:
    camera = camera_of(model)
    crops = look_at(BOXES, camera)
    expected = crop_images(image, camera, crops).float()
    found = warp_crops(torch.from_numpy(image), camera, crops)
    difference = (found - expected).abs()
    assert difference.mean() < 0.02
    assert difference.max() <= 8


def test_a_box_that_is_no_box_is_black_and_changes_nobody(image: np.ndarray) -> None:
    camera, picture = camera_of("plumb_bob"), torch.from_numpy(image)
    alone = warp_crops(picture, camera, look_at(BOXES[:1], camera))
    boxes = torch.cat((torch.full((1, 4), torch.nan), BOXES[:1]))
    both = warp_crops(picture, camera, look_at(boxes, camera))
    assert not both[0].any()
    assert torch.equal(both[1], alone[0])


def test_nobody(image: np.ndarray) -> None:
    camera = camera_of("none")
    crops = look_at(BOXES[:0], camera)
    assert warp_crops(torch.from_numpy(image), camera, crops).shape == (0, 3, 256, 256)


def test_a_picture_of_another_size_is_refused(image: np.ndarray) -> None:
    camera = camera_of("none")
    with pytest.raises(ShapeError, match="picture must have shape"):
        warp_crops(torch.from_numpy(image[:100]), camera, look_at(BOXES, camera))
