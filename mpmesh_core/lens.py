"""lens: radial and tangential distortion, bijective over the whole plane.

In   ideal points w (..., 2): for perspective models (x/z, y/z), for `equidistant` the angle from
     the optical axis [rad] times the unit direction in the image plane
Out  distorted points (..., 2), the same before the focal length; and back
Coefficients are ROS and OpenCV order. A distortion polynomial holds only up to some radius: past
`limit`, where it stops growing, the radius goes on with slope 1. So both directions are defined,
finite and each other's inverse everywhere. Knows no focal length and no pixels: that is `camera`.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray

MODELS = ("none", "plumb_bob", "rational_polynomial", "equidistant")
_SAMPLES = 512  # of the radial function, as the start of its inverse
_LEAST_SLOPE, _MOST_SLOPE = 0.05, 1e3  # outside these the polynomial is no lens any more
_NEWTON_STEPS = 5
_WIDEST_PERSPECTIVE = np.radians(89.0)


@dataclass(frozen=True, eq=False)
class Lens:
    """One lens. `numerator` and `denominator` are polynomials in the squared radius, rising."""

    angular: bool
    identity: bool
    numerator: tuple[float, ...]
    denominator: tuple[float, ...]
    tangential: tuple[float, float]  # p1, p2
    limit: float  # largest radius (perspective) or angle [rad] where the polynomial holds
    radii: Array  # (S,) ideal radii from 0 to limit
    distorted_radii: Array  # (S,) what the lens makes of them


_TABLES: WeakKeyDictionary[Lens, dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]]] = (
    WeakKeyDictionary()
)


def make_lens(model: str, D: Array) -> Lens:
    """Build the lens of a model name and its coefficients.

    Args:
        model: one of `MODELS`.
        D: (n,) `plumb_bob` k1 k2 p1 p2 k3, `rational_polynomial` the same and k4 k5 k6,
            `equidistant` k1..k4. Missing ones at the end are 0.
    """
    k = [*map(float, D), *[0.0] * 8]
    numerator: tuple[float, ...] = (1.0,)
    denominator: tuple[float, ...] = (1.0,)
    tangential = (0.0, 0.0)
    if model == "equidistant":
        numerator = (1.0, *k[:4])
    elif model != "none":
        numerator, tangential = (1.0, k[0], k[1], k[4]), (k[2], k[3])
    if model == "rational_polynomial":
        denominator = (1.0, *k[5:8])
    angular = model == "equidistant"
    angles = np.linspace(0.0, np.pi if angular else _WIDEST_PERSPECTIVE, _SAMPLES)
    radii = angles if angular else np.tan(angles)
    limit = _valid_limit(radii, numerator, denominator)
    radii = radii * (limit / radii[-1])
    q = radii**2
    scale = np.polyval(numerator[::-1], q) / np.polyval(denominator[::-1], q)
    return Lens(
        angular, model == "none", numerator, denominator, tangential, limit, radii, radii * scale
    )


def distort(lens: Lens, w: Tensor) -> Tensor:
    """Ideal to distorted points, (..., 2) to (..., 2); any finite input gives finite output."""
    if lens.identity:
        return w
    scale, _ = _radial(lens, (w * w).sum(-1, keepdim=True))
    if lens.tangential == (0.0, 0.0):
        return w * scale
    return w * scale + _tangential(lens, _within_limit(lens, w))


def undistort(lens: Lens, d: Tensor) -> Tensor:
    """Distorted to ideal points, (..., 2) to (..., 2), by Newton's method from a table."""
    if lens.identity:
        return d
    w = _undistort_start(lens, d)
    for _ in range(_NEWTON_STEPS):
        w = _newton_step(lens, w, d)
    return w


def _valid_limit(
    radii: Array, numerator: tuple[float, ...], denominator: tuple[float, ...]
) -> float:
    """The largest sampled radius up to which r * s(r^2) grows at a sane rate."""
    q = radii**2
    n, m = np.polyval(numerator[::-1], q), np.polyval(denominator[::-1], q)
    dn = np.polyval(np.polyder(numerator[::-1]), q)
    dm = np.polyval(np.polyder(denominator[::-1]), q)
    with np.errstate(all="ignore"):
        slope = n / m + 2.0 * q * (dn * m - n * dm) / m**2
    bad = ~((slope > _LEAST_SLOPE) & (slope < _MOST_SLOPE) & (m > 0))
    return float(radii[max(int(bad.argmax()) - 1, 1)] if bad.any() else radii[-1])


def _horner(coefficients: tuple[float, ...], q: Tensor) -> Tensor:
    value = torch.full_like(q, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * q + coefficient
    return value


def _derivative(coefficients: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(i * c for i, c in enumerate(coefficients))[1:] or (0.0,)


def _radial(lens: Lens, q: Tensor) -> tuple[Tensor, Tensor]:
    """Scale s of the radius and 2 ds/dq, at squared radius q; both (..., 1)."""
    beyond = q > lens.limit**2
    inner = torch.where(beyond, torch.full_like(q, lens.limit**2), q)
    n, m = _horner(lens.numerator, inner), _horner(lens.denominator, inner)
    dn, dm = (
        _horner(_derivative(lens.numerator), inner),
        _horner(_derivative(lens.denominator), inner),
    )
    radius = torch.where(beyond, q, torch.ones_like(q)).sqrt()
    straight = 1.0 + (float(lens.distorted_radii[-1]) - lens.limit) / radius
    scale = torch.where(beyond, straight, n / m)
    slope = torch.where(beyond, (1.0 - straight) / radius**2, 2.0 * (dn * m - n * dm) / (m * m))
    return scale, slope


def _within_limit(lens: Lens, w: Tensor) -> Tensor:
    """Points beyond the limit pulled back to it."""
    q = (w * w).sum(-1, keepdim=True)
    beyond = q > lens.limit**2
    return torch.where(beyond, w * (lens.limit * torch.where(beyond, q, 1.0).rsqrt()), w)


def _tangential(lens: Lens, w: Tensor) -> Tensor:
    p1, p2 = lens.tangential
    x, y = w.unbind(-1)
    xy, xx, yy = x * y, x * x, y * y
    return torch.stack((2 * p1 * xy + p2 * (3 * xx + yy), p1 * (xx + 3 * yy) + 2 * p2 * xy), dim=-1)


def _undistort_start(lens: Lens, d: Tensor) -> Tensor:
    """Inverse of the radial part, interpolated in the table."""
    radii, table = _tables(lens, d.dtype, d.device)
    rd = torch.linalg.vector_norm(d, dim=-1, keepdim=True)
    i = torch.searchsorted(table, rd.contiguous()).clamp(1, table.numel() - 1)
    t = (rd - table[i - 1]) / (table[i] - table[i - 1])
    inside = radii[i - 1] + t * (radii[i] - radii[i - 1])
    radius = torch.where(rd > table[-1], lens.limit + (rd - table[-1]), inside)
    return d * torch.where(rd > 0, radius / torch.where(rd > 0, rd, 1.0), 1.0)


def _tables(lens: Lens, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """`radii` and `distorted_radii` on a device, made once and kept as long as the lens."""
    made = _TABLES.setdefault(lens, {})
    if (dtype, device) not in made:
        with torch.inference_mode(False):
            made[dtype, device] = (
                torch.as_tensor(lens.radii.copy(), dtype=dtype, device=device),
                torch.as_tensor(lens.distorted_radii.copy(), dtype=dtype, device=device),
            )
    return made[dtype, device]


def _newton_step(lens: Lens, w: Tensor, d: Tensor) -> Tensor:
    """w - J^-1 (distort(w) - d), J the derivative of `distort` at w, in closed form."""
    scale, slope = _radial(lens, (w * w).sum(-1, keepdim=True))
    residual = w * scale - d
    x, y = w.unbind(-1)
    scale, slope = scale.squeeze(-1), slope.squeeze(-1)
    a, b, c = scale + slope * x * x, slope * x * y, scale + slope * y * y
    if lens.tangential != (0.0, 0.0):
        p1, p2 = lens.tangential
        inner = _within_limit(lens, w)
        tx, ty = inner.unbind(-1)
        residual = residual + _tangential(lens, inner)
        a, b = a + 2 * p1 * ty + 6 * p2 * tx, b + 2 * p1 * tx + 2 * p2 * ty
        c = c + 6 * p1 * ty + 2 * p2 * tx
    determinant = a * c - b * b
    determinant = torch.where(determinant.abs() < 1e-9, 1e-9, determinant)
    rx, ry = residual.unbind(-1)
    return w - torch.stack((c * rx - b * ry, a * ry - b * rx), -1) / determinant.unsqueeze(-1)
