"""warp: the pictures of all crop cameras at once, where the image already lies on a device.

In   the image (H, W, 3) uint8 RGB as a tensor, its camera, N crop cameras
Out  pictures (N, 3, size, size) float32, 0..255, whole numbers, black where the image ends

The same picture as `crop.crop_images` makes with native code on the CPU: the same pyramid, the same
levels, lens and crop in one warp. No loop over people and no step that waits for the device, so a
CUDA graph can hold it.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from mpmesh_core.camera import Camera
from mpmesh_core.checks import check_shapes
from mpmesh_core.constants import constant
from mpmesh_core.crop import CropCameras, deepest_level, pyramid_levels

_LENS_STEP = 8  # [crop px] between the points that go through a lens model exactly
_FAR = 3e4  # [px], outside any image
_FRACTIONS = 32  # of a pixel: OpenCV samples in these steps


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
    level = pyramid_levels(camera, crops).float().nan_to_num().view(-1, 1, 1, 1)
    pixels, starts = _pyramid(picture, deepest_level(camera))
    start = constant(starts, torch.int32, picture.device)[level.long()].squeeze(-1)
    steps, sides = _on_level(_image_points(camera, crops), level, camera)
    corner = (steps / _FRACTIONS).floor()
    share = steps / _FRACTIONS - corner  # of the pixel after the corner
    x, y = corner.int().unbind(-1)
    width, height = torch.where(crops.ok.view(-1, 1, 1, 1), sides, 0).int().unbind(-1)
    warped = share.new_zeros(())
    for right, down in product((0, 1), repeat=2):
        u, v = x + right, y + down
        inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
        weight = (1 - share - constant((right, down), share.dtype, share.device)).abs().prod(-1)
        values = pixels[torch.where(inside, start + v * width + u, 0)].float()
        warped = warped + values * torch.where(inside, weight, 0.0)[..., None]
    return warped.round().permute(0, 3, 1, 2)


def _pyramid(picture: Tensor, deepest: int) -> tuple[Tensor, tuple[int, ...]]:
    """Pixels (T, 3) uint8 of the picture and its halves, and where each level begins."""
    levels, starts = [picture.reshape(-1, 3)], [0]
    source = picture.permute(2, 0, 1)[None].float()
    for _ in range(deepest):
        source = (F.avg_pool2d(source, 2) + 0.5).floor()  # as OpenCV rounds
        starts.append(starts[-1] + len(levels[-1]))
        levels.append(source[0].permute(1, 2, 0).reshape(-1, 3).to(torch.uint8))
    return torch.cat(levels), tuple(starts)


def _on_level(points: Tensor, level: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Image pixels (N, S, S, 2) in OpenCV's steps on a level (N, 1, 1, 1); its sides."""
    scale = torch.exp2(-level)
    sides = constant((float(camera.width), float(camera.height)), points.dtype, points.device)
    steps = (points * (scale * _FRACTIONS) + (scale - 1) * (_FRACTIONS / 2)).round()
    return steps, (sides * scale).floor()


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
    K, (right, down, ahead) = crops.K, crops.R_crop_cam[:, None].unbind(2)
    # What `crop_rays` gives, as sums: (N, cells, 3) along a row, and down a column.
    across = ((at - K[:, :1, 2]) / K[:, 0, :1])[..., None] * right + ahead
    below = ((at - K[:, 1:2, 2]) / K[:, 1, 1:2])[..., None] * down
    rays = across[:, None] + below[:, :, None]
    px = camera.project(rays).clamp(-_FAR, _FAR)
    if camera.model != "none":  # what is behind a camera without lens lies far outside anyway
        px = torch.where(camera.in_view(rays)[..., None], px, -_FAR)
    return px
