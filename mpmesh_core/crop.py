"""crop: one real camera per person, and its picture.

In   boxes (N, 4) [px], the image (H, W, 3) uint8 RGB and its camera
Out  CropCameras: a pinhole camera per person that stands where the camera stands, turned to look
     at the box's centre and zoomed so that the box with a margin fills the picture; and the
     pictures (N, 3, size, size) uint8
x_crop = R_crop_cam @ x_cam. Principal point in the middle of the crop, (size - 1) / 2, so a crop
covers -0.5 .. size - 0.5 px. Lens distortion and crop are one warp; shrinking takes a level of an
area-averaged pyramid (built once per frame), so it does not alias. What the image does not show
is black. Resampling works on the stored values, without gamma.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from mpmesh_core.camera import Camera
from mpmesh_core.checks import check_shapes
from mpmesh_core.constants import constant
from mpmesh_core.errors import ShapeError

Array = np.ndarray

_WIDEST = 3.0  # tan of the widest half angle that a crop may see: 71.6 degrees
_FARTHEST_BOX = 1e9  # [px]; corners farther off are no box, and their squares would overflow
_SMALLEST_BOX = 2.0  # [px]; smaller boxes, also empty ones, are taken as this large
_SHARPNESS = 0.3  # [levels] sharper than the nearest: least error to exact area averages
_FAR = 3e4  # [px], outside any image
_DEEPEST = 6  # levels of the pyramid: crops of boxes up to 16,000 px
_NINE = tuple((x, y) for x in (0, -1, 1) for y in (0, -1, 1))  # centre and outline of a box
_GRID_STEP = 8  # [crop px] between the points of the warp that go through the lens model exactly


@dataclass(frozen=True)
class CropCameras:
    """Pinhole cameras of N crops.

    Attributes:
        K: (N, 3, 3) float32 [crop px].
        R_crop_cam: (N, 3, 3) float32, camera frame to crop frame.
        size: width and height of every crop [px].
        ok: (N,) bool, False where the box was not finite or beyond 1e9 px; such a crop looks
            straight ahead at the whole image and its picture is black.
    """

    K: Tensor
    R_crop_cam: Tensor
    size: int
    ok: Tensor

    def __len__(self) -> int:
        return self.K.shape[0]

    def take(self, index: Tensor) -> CropCameras:
        """These rows."""
        return CropCameras(self.K[index], self.R_crop_cam[index], self.size, self.ok[index])

    def to(self, device: torch.device | str) -> CropCameras:
        """The same cameras on another device."""
        return CropCameras(
            self.K.to(device), self.R_crop_cam.to(device), self.size, self.ok.to(device)
        )


def look_at(
    boxes_px: Array | Tensor, camera: Camera, size: int = 256, margin: float = 1.25
) -> CropCameras:
    """Point one crop camera at each box.

    The crop's x axis stays parallel to the camera's x-z plane, so what is upright for a level
    camera is upright in the crop. The zoom puts the box's outermost corner or side (taken as
    rays through the lens) at 1 / margin of the half picture: for a box in the middle of a
    pinhole image that is its longer side times margin over the whole crop.

    Args:
        boxes_px: (N, 4) x1, y1, x2, y2 [px]; may lie partly or wholly outside the image.
        camera: of the image.
        size: of the crops [px].
        margin: crop side over the box's longer side.

    Returns:
        Cameras on the boxes' device, computed in float64.
    """
    check_shapes(boxes_px=(boxes_px, ("N", 4)))
    if isinstance(boxes_px, Tensor):
        boxes = boxes_px.to(torch.float64)
    else:  # a copy: torch takes neither strides below zero nor the other byte order
        boxes = torch.from_numpy(np.array(boxes_px, np.float64))
    ok = (boxes.abs() <= _FARTHEST_BOX).all(-1)  # not so for NaN
    sides = (0.0, 0.0, camera.width - 1.0, camera.height - 1.0)
    whole = constant(sides, boxes.dtype, boxes.device)
    boxes = torch.where(ok[:, None], boxes, whole)
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).abs() / 2
    nine = constant(_NINE, boxes.dtype, boxes.device)
    px = centre[:, None] + nine * half.clamp(min=_SMALLEST_BOX / 2)[:, None]  # (N, 9, 2)
    directions = camera.directions(px)
    R = _look_rotation(directions[:, 0])  # (N, 3, 3)
    rays = directions[:, 1:] @ R.mT
    tangents = rays[..., :2] / rays[..., 2:].clamp(min=1e-3)
    extent = tangents.abs().amax((-1, -2)).clamp(max=_WIDEST / margin)  # (N,)
    focal = size / 2 / (margin * extent)
    diagonal = torch.stack((focal, focal, torch.ones_like(focal)), dim=-1)
    middle = (size - 1) / 2
    centred = ((0.0, 0.0, middle), (0.0, 0.0, middle), (0.0, 0.0, 0.0))
    K = torch.diag_embed(diagonal) + constant(centred, R.dtype, R.device)
    return CropCameras(K.float(), R.float(), size, ok)


def crop_images(image: Array, camera: Camera, crops: CropCameras) -> Tensor:
    """The picture that each crop camera sees.

    Args:
        image: (H, W, 3) uint8 RGB.
        camera: of the image.
        crops: N crop cameras.

    Returns:
        (N, 3, size, size) uint8 RGB on the CPU, black where the image or the lens model ends.
    """
    check_shapes(image=(image, (camera.height, camera.width, 3)))
    if image.dtype != np.uint8:
        raise ShapeError(f"image must be uint8, got {image.dtype}")
    size = crops.size
    pictures = np.zeros((len(crops), 3, size, size), np.uint8)
    pyramid = [np.ascontiguousarray(image)]
    rays_of_px = (crops.R_crop_cam.double().mT @ torch.linalg.inv(crops.K.double())).cpu().numpy()
    levels = pyramid_levels(camera, crops).int().tolist()
    flat = _is_homography(camera, rays_of_px, size)
    maps = None if all(flat) else _coarse_maps(camera, rays_of_px, size)
    for i in np.flatnonzero(crops.ok.cpu().numpy()):  # each is one native warp
        while len(pyramid) <= levels[i]:
            pyramid.append(_halved(pyramid[-1]))
        source, scale = pyramid[levels[i]], 0.5 ** levels[i]
        if maps is None or flat[i]:
            picture = _warp_homography(source, scale, camera.K @ rays_of_px[i], size)
        else:
            picture = _warp_map(source, scale, maps[0][i], maps[1][i], size)
        cv2.split(picture, list(pictures[i]))  # writes into the result
    return torch.from_numpy(pictures)


def crop_to_camera(points: Tensor, crops: CropCameras) -> Tensor:
    """Points (N, J, 3) from the crops' frames to the camera frame; x_cam = R^T x_crop."""
    return points @ crops.R_crop_cam.to(points.dtype)


def camera_to_crop(points: Tensor, crops: CropCameras) -> Tensor:
    """Points (N, J, 3) from the camera frame to the crops' frames."""
    return points @ crops.R_crop_cam.to(points.dtype).mT


def covariance_to_camera(covariance: Tensor, crops: CropCameras) -> Tensor:
    """Covariances (N, 3, 3) from the crops' frames to the camera frame; R^T C R."""
    R = crops.R_crop_cam.to(covariance.dtype)
    return R.mT @ covariance @ R


def crop_rays(points_px: Tensor, crops: CropCameras) -> Tensor:
    """Rays (N, J, 3) in the camera frame of crop pixels (N, J, 2), 1 along each crop's z axis."""
    K = crops.K.to(points_px.dtype)
    focal = torch.diagonal(K, dim1=-2, dim2=-1)[:, None, :2]
    xy = (points_px - K[:, None, :2, 2]) / focal
    return crop_to_camera(torch.cat((xy, torch.ones_like(xy[..., :1])), dim=-1), crops)


def crop_to_image(points_px: Tensor, crops: CropCameras, camera: Camera) -> Tensor:
    """Crop pixels (N, J, 2) to image pixels (N, J, 2), through the lens."""
    return camera.project(crop_rays(points_px, crops))


def image_to_crop(points_px: Tensor, crops: CropCameras, camera: Camera) -> Tensor:
    """Image pixels (N, J, 2) to crop pixels (N, J, 2); finite also behind the crop camera."""
    return project_to_crop(camera.directions(points_px), crops)


def project_to_crop(points_cam: Tensor, crops: CropCameras) -> Tensor:
    """Points (N, J, 3) of the camera frame to crop pixels (N, J, 2); finite also from behind."""
    xy, z = camera_to_crop(points_cam, crops).split((2, 1), dim=-1)
    side = xy.abs().sum(-1, keepdim=True)
    K = crops.K.to(xy.dtype)
    ideal = xy / torch.maximum(z, 1e-3 * side).clamp(min=1e-9)
    return ideal * torch.diagonal(K, dim1=-2, dim2=-1)[:, None, :2] + K[:, None, :2, 2]


def deepest_level(camera: Camera) -> int:
    """How often an image may be halved for a crop, at the most."""
    return min(int(np.log2(min(camera.width, camera.height))), _DEEPEST)


def pyramid_levels(camera: Camera, crops: CropCameras) -> Tensor:
    """(N,) float64 whole numbers: how often the image is halved before the warp to each crop."""
    middle, kind, device = (crops.size - 1) / 2, torch.float64, crops.K.device
    around = tuple(
        (middle + x, middle + y) for x, y in ((0.5, 0.0), (-0.5, 0.0), (0.0, 0.5), (0.0, -0.5))
    )
    points = constant(around, kind, device).expand(len(crops), 4, 2)
    px = camera.project(crop_rays(points, crops))
    (a, b), (c, d) = (step.unbind(-1) for step in (px[:, 0::2] - px[:, 1::2]).unbind(1))
    ratio = (a * d - b * c).abs().sqrt().clamp(min=1e-6)  # image px per crop px
    return (ratio.log2() - _SHARPNESS).round().clamp(0, deepest_level(camera))


def _look_rotation(forward: Tensor) -> Tensor:
    """Rotations (N, 3, 3) whose rows are the crop axes; forward (N, 3) is the z row."""
    axes = constant(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), forward.dtype, forward.device)
    ahead, down = axes.unbind()
    level = torch.linalg.cross(down.expand_as(forward), forward)
    across = ahead - forward * forward[:, :1]  # for looking nearly straight up or down
    steep = torch.linalg.vector_norm(level, dim=-1, keepdim=True) < 0.1
    right = normalize(torch.where(steep, across, level), dim=-1)
    return torch.stack((right, torch.linalg.cross(forward, right), forward), dim=-2)


def _halved(image: Array) -> Array:
    """Mean of 2x2 pixels; an odd last row or column is dropped."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    return cv2.resize(
        image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA
    )


def _is_homography(camera: Camera, rays_of_px: Array, size: int) -> list[bool]:
    """Per crop: no lens, and nothing in the crop is seen from behind the camera."""
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]])
    ahead = _rays(corners, rays_of_px)[..., 2] > 1e-3
    return [camera.model == "none" and bool(all_ahead) for all_ahead in np.all(ahead, -1)]


def _warp_homography(source: Array, scale: float, H: Array, size: int) -> Array:
    """Crop (size, size, 3) by the homography H from crop px to px of the full image."""
    offset = scale / 2 - 0.5
    shrink = np.array([[scale, 0, offset], [0, scale, offset], [0, 0, 1]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(source, shrink @ H, (size, size), flags=flags)


def _coarse_maps(camera: Camera, rays_of_px: Array, size: int) -> tuple[Array, Array]:
    """Image px (N, C, C, 2) of every 8th crop px and whether it is in view (N, C, C)."""
    cells = -(-size // _GRID_STEP) + 2  # one more at each end, so that all between is inside
    at = (np.arange(cells) - 0.5) * _GRID_STEP - 0.5
    u, v = np.meshgrid(at, at)
    rays = _rays(np.stack((u, v), -1).reshape(-1, 2), rays_of_px)
    px = camera.project(rays).clip(-_FAR, _FAR).astype(np.float32)
    seen = camera.in_view(rays).astype(np.float32)
    return px.reshape(-1, cells, cells, 2), seen.reshape(-1, cells, cells)


def _warp_map(source: Array, scale: float, px: Array, seen: Array, size: int) -> Array:
    """Crop (size, size, 3) by the coarse map: exact on its grid, linear between."""
    keep = slice(_GRID_STEP, _GRID_STEP + size)
    px = (px + np.float32(0.5)) * np.float32(scale) - np.float32(0.5)
    fine = cv2.resize(px, None, fx=_GRID_STEP, fy=_GRID_STEP)[keep, keep]
    if not seen.all():
        fine_seen = cv2.resize(seen, None, fx=_GRID_STEP, fy=_GRID_STEP)[keep, keep]
        fine[fine_seen < 0.5] = -_FAR
    return cv2.remap(source, fine, np.empty(0, np.float32), cv2.INTER_LINEAR)


def _rays(px: Array, rays_of_px: Array) -> Array:
    """Camera-frame rays (..., J, 3) of crop pixels (J, 2)."""
    return np.concatenate((px, np.ones((len(px), 1))), -1) @ np.swapaxes(rays_of_px, -1, -2)
