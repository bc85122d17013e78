"""undistort: a picture, its points and boxes as a camera with a perfect lens would show them.

In   a Camera with any lens, the picture (H, W, 3), pixels (..., 2)
Out  the same for the camera with the same K and no distortion
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from mpmesh_core.camera import Camera
from mpmesh_core.datasets.boxes import tight_boxes
from mpmesh_core.types import Array


def flat_camera(camera: Camera) -> Camera:
    """The same camera without distortion."""
    return Camera(camera.K, np.zeros(0), "none", camera.width, camera.height)


def flat_picture(picture: Array, camera: Camera) -> Array:
    """The picture (H, W, 3) of the flat camera; black where the lens saw nothing."""
    if camera.model == "none":
        return picture
    D = tuple(camera.D.tolist())
    u, v = _maps(tuple(camera.K.ravel().tolist()), D, camera.model, camera.width, camera.height)
    return cv2.remap(picture, u, v, cv2.INTER_LINEAR)


def flat_pixels(pixels: Array, camera: Camera) -> Array:
    """Pixels (..., 2) where the flat camera sees them."""
    if camera.model == "none":
        return pixels
    return flat_camera(camera).project(camera.unproject(pixels))


def flat_box(box: Array, camera: Camera) -> Array:
    """The box (4,) around the flat camera's view of a box."""
    if camera.model == "none":
        return box
    x1, y1, x2, y2 = (float(side) for side in box)
    along = np.linspace(0, 1, 5)
    xs, ys = x1 + (x2 - x1) * along, y1 + (y2 - y1) * along
    grid = np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2)
    moved = flat_pixels(grid, camera)
    return tight_boxes(moved).astype(np.float32)


@lru_cache(maxsize=2)
def _maps(
    K: tuple[float, ...], D: tuple[float, ...], model: str, width: int, height: int
) -> tuple[Array, Array]:
    """For each pixel of the flat picture, where the lens put it."""
    camera = Camera(np.reshape(K, (3, 3)), np.array(D), model, width, height)
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float64)
    source = camera.project(flat_camera(camera).unproject(grid)).astype(np.float32)
    return np.ascontiguousarray(source[..., 0]), np.ascontiguousarray(source[..., 1])
