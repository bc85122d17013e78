"""camera: intrinsics and lens of the camera that took the image.

In   points (..., 3) [m, camera optical frame: x right, y down, z forward]
Out  pixels (..., 2), the centre of the first pixel at (0, 0); and back to rays
Reads ROS CameraInfo YAML. NumPy arrays and torch tensors both work and come back as what they
were. Never moves the camera: crops and their rotations are `crop`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import yaml
from torch import Tensor

from mpmesh_core.checks import check_shapes
from mpmesh_core.constants import constant
from mpmesh_core.errors import InputError, MissingFileError
from mpmesh_core.lens import MODELS, Lens, distort, make_lens, undistort
from mpmesh_core.paths import expanded

Array = np.ndarray
ArrayOrTensor = TypeVar("ArrayOrTensor", Array, Tensor)

_COUNTS = {"none": (0,), "plumb_bob": (4, 5), "rational_polynomial": (8,), "equidistant": (0, 4)}
_ALIASES = {"": "none", "fisheye": "equidistant"}
_SHORTEST_FOCAL = 0.02  # of the width or height: 175 degrees through a pinhole have 0.022
_STEEPEST = math.tan(math.radians(89.0))  # of a ray x/z, y/z


@dataclass(frozen=True, eq=False)
class Camera:
    """Intrinsics of one camera; checked once, here.

    Attributes:
        K: (3, 3) float64 [px]. `u = K (x/z, y/z, 1)` for a lens without distortion.
        D: (n,) float64 coefficients in ROS order: 0 for `none`, 4 or 5 for `plumb_bob`, 8 for
            `rational_polynomial`, 4 for `equidistant`. Zeros after those are dropped: OpenCV gives
            14 coefficients for the rational model.
        model: `none`, `plumb_bob`, `rational_polynomial` or `equidistant`.
        width, height: image size [px].

    Example:
        >>> camera = Camera.from_fov(640, 480, 60.0)
        >>> camera.project(np.array([0.0, 0.0, 2.0])).tolist()
        [319.5, 239.5]
    """

    K: Array
    D: Array
    model: str
    width: int
    height: int
    lens: Lens = field(init=False, repr=False)

    def __post_init__(self) -> None:
        K = np.array(self.K, dtype=np.float64)  # a copy that nobody else can change
        D = np.array(self.D, dtype=np.float64).reshape(-1)
        model = _ALIASES.get(self.model, self.model)
        if not D.any() and model in ("none", "plumb_bob", "rational_polynomial"):
            model, D = "none", np.zeros(0)
        most = max(_COUNTS.get(model, (0,)))
        if not D[most:].any():
            D = D[:most]
        _check(K, D, model, self.width, self.height)
        for array in (K, D):
            array.flags.writeable = False
        for name, value in (("K", K), ("D", D), ("model", model), ("lens", make_lens(model, D))):
            object.__setattr__(self, name, value)

    @classmethod
    def from_fov(cls, width: int, height: int, fov_deg: float = 60.0) -> Camera:
        """A camera without distortion that sees `fov_deg` along the image's longer side."""
        if not 1.0 <= fov_deg <= 175.0:
            raise InputError(f"field of view must be 1 to 175 degrees, got {fov_deg}")
        f = 0.5 * max(width, height) / math.tan(math.radians(fov_deg) / 2)
        K = np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1]])
        return cls(K, np.zeros(0), "none", width, height)

    @classmethod
    def from_file(cls, path: str | Path) -> Camera:
        """Read a CameraInfo YAML as camera_calibration writes it or as the message prints.

        ROI and binning of the message are applied: the result describes the images as published.

        Raises:
            MissingFileError: no such file.
            InputError: not a CameraInfo, or values that describe no camera.
        """
        path = expanded(path)
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise MissingFileError(f"camera file {path} {what}; give a CameraInfo YAML")
        try:
            info = next(iter(yaml.safe_load_all(path.read_text(encoding="utf-8"))), None)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"camera file {path} is not valid YAML: {reason}") from None
        if not isinstance(info, dict):
            raise InputError(f"camera file {path} holds no CameraInfo (keys image_width, ... or k)")
        try:
            return _from_info(cls, info)
        except InputError as error:
            raise InputError(f"camera file {path}: {error}") from None

    @classmethod
    def from_info(cls, info: dict[str, Any]) -> Camera:
        """Camera from the fields of a CameraInfo, as `from_file` reads them.

        Raises:
            InputError: values that describe no camera.
        """
        return _from_info(cls, info)

    def scaled(self, width: int, height: int) -> Camera:
        """The same camera for the image resized to (width, height) [px]."""
        sx, sy = width / self.width, height / self.height
        S = np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1]])
        return Camera(S @ self.K, self.D, self.model, width, height)

    def cropped(self, x: int, y: int, width: int, height: int) -> Camera:
        """The same camera for the part of the image whose first pixel is (x, y) [px]."""
        K = self.K - np.array([[0, 0, x], [0, 0, y], [0, 0, 0]])
        return Camera(K, self.D, self.model, width, height)

    def project(self, points: ArrayOrTensor) -> ArrayOrTensor:
        """Points (..., 3) [m] to pixels (..., 2).

        Finite points give finite pixels: what lies behind a perspective camera lands far outside
        the image on its own side; past the lens model's range the radius goes on with slope 1.
        """
        check_shapes(points=(points, (..., 3)))
        d = distort(self.lens, self._ideal(_tensor(points)))
        x, y = d.unbind(-1)
        (fx, skew, cx), (_, fy, cy) = self.K[0].tolist(), self.K[1].tolist()
        return _like(torch.stack((fx * x + skew * y + cx, fy * y + cy), dim=-1), points)

    def unproject(self, px: ArrayOrTensor) -> ArrayOrTensor:
        """Pixels (..., 2) to rays (x/z, y/z, 1), (..., 3); at most 89 degrees from the axis."""
        w = self._undistorted(px)
        if self.lens.angular:
            angle = torch.linalg.vector_norm(w, dim=-1, keepdim=True)
            steep = torch.tan(angle.clamp(max=math.radians(89.0)))
            w = w * torch.where(angle > 1e-8, steep / torch.where(angle > 1e-8, angle, 1.0), 1.0)
        else:
            w = w.clamp(-_STEEPEST, _STEEPEST)
        return _like(torch.cat((w, torch.ones_like(w[..., :1])), dim=-1), px)

    def directions(self, px: ArrayOrTensor) -> ArrayOrTensor:
        """Pixels (..., 2) to unit vectors (..., 3), also past 90 degrees from the axis."""
        w = self._undistorted(px)
        if self.lens.angular:
            angle = torch.linalg.vector_norm(w, dim=-1, keepdim=True)
            w, angle = w * (math.pi / angle.clamp(min=math.pi)), angle.clamp(max=math.pi)
            d = torch.cat((w * torch.sinc(angle / math.pi), torch.cos(angle)), dim=-1)
        else:
            d = torch.cat((w, torch.ones_like(w[..., :1])), dim=-1)
        return _like(torch.nn.functional.normalize(d, dim=-1), px)

    def in_view(self, points: ArrayOrTensor) -> ArrayOrTensor:
        """Whether points (..., 3) lie where the lens model holds (not: inside the image); (...)."""
        p = _tensor(points)
        w = self._ideal(p)
        seen = (w * w).sum(-1) <= self.lens.limit**2
        return _like(seen if self.lens.angular else seen & (p[..., 2] > 0), points)

    def _ideal(self, p: Tensor) -> Tensor:
        xy, z = p[..., :2], p[..., 2:]
        if not self.lens.angular:
            side = xy.abs().sum(-1, keepdim=True)
            return xy / torch.maximum(z, 1e-3 * side).clamp(min=1e-9)
        axial = (xy * xy).sum(-1, keepdim=True) <= 1e-14 * z * z
        aside = torch.where(axial, constant((1.0, 0.0), p.dtype, p.device), xy)
        radius = torch.linalg.vector_norm(aside, dim=-1, keepdim=True)
        w = aside * (torch.atan2(radius, z) / radius)
        behind = constant((math.pi, 0.0), p.dtype, p.device)
        ahead = xy / torch.where(axial & (z > 0), z, 1.0)
        return torch.where(axial, torch.where(z < 0, behind, ahead), w)

    def _undistorted(self, px: Array | Tensor) -> Tensor:
        check_shapes(px=(px, (..., 2)))
        u, v = _tensor(px).unbind(-1)
        (fx, skew, cx), (_, fy, cy) = self.K[0].tolist(), self.K[1].tolist()
        y = (v - cy) / fy
        return undistort(self.lens, torch.stack(((u - cx - skew * y) / fx, y), dim=-1))


def _tensor(value: Array | Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value if value.is_floating_point() else value.float()
    return torch.as_tensor(np.array(value, dtype=np.float64))


def _like(value: Tensor, model: ArrayOrTensor) -> ArrayOrTensor:
    return value if isinstance(model, Tensor) else value.numpy()


def _check(K: Array, D: Array, model: str, width: int, height: int) -> None:
    if model not in MODELS:
        raise InputError(f"distortion model must be one of {', '.join(MODELS)}, got {model!r}")
    if K.shape != (3, 3):
        raise InputError(f"camera matrix K must be 3x3, got shape {K.shape}")
    if not (np.isfinite(K).all() and np.isfinite(D).all()):
        raise InputError("camera matrix K and distortion D must be finite; calibrate the camera")
    if K[0, 0] <= 0 or K[1, 1] <= 0:
        raise InputError(
            f"focal lengths K[0], K[4] must be positive, got {K[0, 0]:g} and {K[1, 1]:g}; "
            "the camera is not calibrated"
        )
    if K[1, 0] != 0 or not np.array_equal(K[2], (0.0, 0.0, 1.0)):
        raise InputError("camera matrix K must be upper triangular with last row 0 0 1")
    if len(D) not in _COUNTS[model]:
        counts = " or ".join(map(str, _COUNTS[model]))
        raise InputError(f"{model} takes {counts} distortion coefficients, got {len(D)}")
    if width < 1 or height < 1:
        raise InputError(f"image size must be positive, got {width}x{height}")
    if K[0, 0] < _SHORTEST_FOCAL * width or K[1, 1] < _SHORTEST_FOCAL * height:
        raise InputError(
            f"focal lengths K[0], K[4] must be in pixels, got {K[0, 0]:g} and {K[1, 1]:g} for a "
            f"picture of {width}x{height}"
        )


def _first(info: dict[str, Any], *keys: str) -> Any:
    """The first of these keys, from either style; matrices may be `{rows, cols, data}`."""
    for key in keys:
        if key in info:
            value = info[key]
            if isinstance(value, dict) and "data" not in value:
                raise InputError(f"{key} has no `data`")
            return value["data"] if isinstance(value, dict) else value
    return None


def _from_info(cls: type[Camera], info: dict[str, Any]) -> Camera:
    k = _first(info, "camera_matrix", "k", "K")
    d = _first(info, "distortion_coefficients", "d", "D")
    size = _first(info, "image_width", "width"), _first(info, "image_height", "height")
    if k is None or None in size:
        raise InputError("needs image_width, image_height and camera_matrix (or width, height, k)")
    try:
        K, D = np.array(k, dtype=np.float64), np.array(d or [], dtype=np.float64).reshape(-1)
        width, height = int(size[0]), int(size[1])
        roi = info.get("roi") or {}
        x, y, w, h = (int(roi.get(n, 0)) for n in ("x_offset", "y_offset", "width", "height"))
        bins = [max(int(info.get(n, 1)), 1) for n in ("binning_x", "binning_y")]
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"values that are not numbers ({error})") from None
    if K.size != 9:
        raise InputError(f"camera matrix K must hold 9 numbers, got {K.size}")
    model = str(info.get("distortion_model") or ("plumb_bob" if D.size else "none"))
    camera = cls(K.reshape(3, 3), D, model, width, height)
    if w and h:
        camera = camera.cropped(x, y, w, h)
    if bins != [1, 1]:
        camera = camera.scaled(camera.width // bins[0], camera.height // bins[1])
    return camera
