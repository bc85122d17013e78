"""warp: the pictures of all crop cameras at once, where the image already lies on a device.

In   the image (H, W, 3) uint8 RGB as a tensor, its camera, N crop cameras
Out  pictures (N, 3, size, size) float32, 0..255, whole numbers, black where the image ends

The same picture as `crop.crop_images` makes with native code on the CPU: the same pyramid, the same
levels, lens and crop in one warp. No loop over people and no step that waits for the device, so a
CUDA graph can hold it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mpmesh_core.camera import Camera
from mpmesh_core.checks import check_shapes
from mpmesh_core.constants import constant
from mpmesh_core.crop import CropCameras, crop_rays, deepest_level, pyramid_levels

_LENS_STEP = 8  # [crop px] between the points that go through a lens model exactly
_FAR = 3e4  # [px], outside any image
_FRACTIONS = 32  # of a pixel: OpenCV samples in these steps
_OUTSIDE = 3.0  # likewise, in units of half the image


def warp_crops(picture: Tensor, camera: Camera, crops: CropCameras) -> Tensor:
    """The picture that each crop camera sees.

    Args:
        picture: (H, W, 3) uint8 RGB on the crops' device.
        camera: of the picture.
        crops: N crop cameras; one that is not ok gives a black picture.

    Returns:
        (N, 3, size, size) float32.
    """
    check_shapes(picture=(picture, (camera.height, camera.width, 3)))
    level = torch.where(crops.ok, pyramid_levels(camera, crops), -1.0).float().view(-1, 1, 1, 1)
    grid = _on_level(_image_points(camera, crops), level, camera)
    source = picture.permute(2, 0, 1).float()[None]
    warped = grid.new_zeros(())
    for depth in range(deepest_level(camera) + 1):
        if depth:
            source = (F.avg_pool2d(source, 2) + 0.5).floor()  # as OpenCV rounds
        there = torch.where(level == depth, grid, _OUTSIDE).flatten(0, 1)[None]
        warped = warped + F.grid_sample(source, there, align_corners=False)
    return warped[0].unflatten(1, (len(crops), crops.size)).transpose(0, 1).round()


def _on_level(points: Tensor, level: Tensor, camera: Camera) -> Tensor:
    """Image pixels (N, S, S, 2) in -1..1 of their level (N, 1, 1, 1), in OpenCV's steps."""
    scale = torch.exp2(-level)
    sides = constant((float(camera.width), float(camera.height)), points.dtype, points.device)
    sides = (sides * scale).floor()  # of the level
    steps = (points * (scale * _FRACTIONS) + (scale - 1) * (_FRACTIONS / 2)).round()
    return steps * (2 / _FRACTIONS / sides) + (1 / sides - 1)


def _image_points(camera: Camera, crops: CropCameras) -> Tensor:
    """Where each pixel of each crop lies in the image: (N, size, size, 2) [px]."""
    if camera.model == "none":
        return _through_lens(camera, crops, crops.size, 1, 0.0)
    cells = -(-crops.size // _LENS_STEP) + 2  # one more at each end, so that all between is inside
    coarse = _through_lens(camera, crops, cells, _LENS_STEP, -_LENS_STEP / 2 - 0.5)
    fine = F.interpolate(
        coarse.permute(0, 3, 1, 2), scale_factor=float(_LENS_STEP), mode="bilinear"
    )
    keep = slice(_LENS_STEP, _LENS_STEP + crops.size)
    return fine[..., keep, keep].permute(0, 2, 3, 1)


def _through_lens(
    camera: Camera, crops: CropCameras, cells: int, step: int, start: float
) -> Tensor:
    """Image pixels (N, cells, cells, 2) of every `step`-th crop pixel from `start` on.

    Far away where the lens model ends.
    """
    at = start + step * torch.arange(cells, dtype=crops.K.dtype, device=crops.K.device)
    points = torch.stack(torch.meshgrid(at, at, indexing="xy"), dim=-1).flatten(0, 1)
    rays = crop_rays(points[None], crops)
    px = camera.project(rays).clamp(-_FAR, _FAR)
    if camera.model != "none":  # what is behind a camera without lens lies far outside anyway
        px = torch.where(camera.in_view(rays)[..., None], px, -_FAR)
    return px.unflatten(1, (cells, cells))
