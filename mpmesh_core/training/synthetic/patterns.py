"""patterns: the colour that a material has at a point, before any light falls on it (numba).

In   a material row (see `textures`) and a rest position or a point of a plane [m]
Out  linear RGB
"""

from __future__ import annotations

import numpy as np
from numba import njit

from mpmesh_core.training.synthetic.textures import (
    BLOTCHES,
    CENTRE_Y,
    CHECKS,
    COSINE,
    DOTS,
    DUTY,
    EYE_X,
    EYE_Y,
    EYE_Z,
    GRAPHIC,
    IRIS,
    MOUTH_Y,
    NOISE,
    PATCH,
    PATCH_INDEX,
    PATTERN,
    PICTURE,
    RED,
    SCALE,
    SINE,
    SKIN,
    SOLID,
    STRIPES,
)  # fmt: skip

Array = np.ndarray


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _tile(value: float, side: int) -> int:
    return int(np.floor(value)) & (side - 1)  # sides are powers of two


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def noise_at(
    scale: float, x: float, y: float, z: float, noise: Array
) -> tuple[float, float, float]:
    """Smooth noise of the material's grain at a rest position."""
    s, t = (x + 0.7 * z) * scale, (y + 0.3 * z) * scale
    s0, t0 = np.floor(s), np.floor(t)
    ds, dt = s - s0, t - t0
    i0, j0 = int(t0) & (NOISE - 1), int(s0) & (NOISE - 1)
    i1, j1 = (i0 + 1) & (NOISE - 1), (j0 + 1) & (NOISE - 1)
    w00, w01, w10, w11 = (1 - dt) * (1 - ds), (1 - dt) * ds, dt * (1 - ds), dt * ds
    return (
        w00 * noise[i0, j0, 0] + w01 * noise[i0, j1, 0] + w10 * noise[i1, j0, 0]
        + w11 * noise[i1, j1, 0],
        w00 * noise[i0, j0, 1] + w01 * noise[i0, j1, 1] + w10 * noise[i1, j0, 1]
        + w11 * noise[i1, j1, 1],
        w00 * noise[i0, j0, 2] + w01 * noise[i0, j1, 2] + w10 * noise[i1, j0, 2]
        + w11 * noise[i1, j1, 2],
    )  # fmt: skip


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def albedo(
    materials: Array, look: int, x: float, y: float, z: float, patches: Array, noise: Array
) -> tuple[float, float, float]:
    """Colour of a point on a body or thing, from its rest position."""
    pattern = int(materials[look, PATTERN])
    if pattern == GRAPHIC and z > 0:
        scale, middle = materials[look, SCALE], materials[look, CENTRE_Y]
        p, q = x / scale + 0.5, (middle - y) / scale + 0.5
        if 0 <= p < 1 and 0 <= q < 1:
            n, i, j = int(materials[look, PATCH_INDEX]), int(q * PATCH), int(p * PATCH)
            return patches[n, i, j, 0], patches[n, i, j, 1], patches[n, i, j, 2]
    # Skewed axes, so that the flanks of a body get a pattern too.
    r, g, b = pattern_colour(materials, look, x + 0.7 * z, y + 0.3 * z, patches, noise)
    if (
        pattern == SKIN
        and y > materials[look, MOUTH_Y] - 0.03
        and z > materials[look, EYE_Z] - 0.04
    ):
        return _face(materials, look, x, y, r, g, b)
    return r, g, b


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def pattern_colour(
    materials: Array, look: int, s: float, t: float, patches: Array, noise: Array
) -> tuple[float, float, float]:
    """Colour of a material at a point of a plane [m]."""
    pattern = int(materials[look, PATTERN])
    r, g, b = materials[look, RED], materials[look, RED + 1], materials[look, RED + 2]
    if pattern == SOLID or pattern == SKIN or pattern == GRAPHIC:  # noqa: SIM109, numba is faster so
        return r, g, b
    scale, duty = materials[look, SCALE], materials[look, DUTY]
    cosine, sine = materials[look, COSINE], materials[look, SINE]
    p, q = (cosine * s - sine * t) / scale, (sine * s + cosine * t) / scale
    if pattern == PICTURE:
        n = int(materials[look, PATCH_INDEX])
        i, j = _tile(-q * PATCH, PATCH), _tile(p * PATCH, PATCH)
        return patches[n, i, j, 0], patches[n, i, j, 1], patches[n, i, j, 2]
    second = 0.0
    if pattern == STRIPES:
        second = 1.0 if q - np.floor(q) < duty else 0.0
    elif pattern == CHECKS:
        second = 0.5 * (q - np.floor(q) < duty) + 0.5 * (p - np.floor(p) < duty)
    elif pattern == DOTS:
        dp, dq = p - np.floor(p) - 0.5, q - np.floor(q) - 0.5
        second = 1.0 if dp * dp + dq * dq < 0.25 * duty else 0.0
    elif pattern == BLOTCHES:
        second = 1.0 if noise[_tile(q * 20, NOISE), _tile(p * 20, NOISE), 0] > 1 - 2 * duty else 0.0
    first = 1 - second
    return (
        first * r + second * materials[look, RED + 3],
        first * g + second * materials[look, RED + 4],
        first * b + second * materials[look, RED + 5],
    )


@njit(cache=True, fastmath=True, error_model="numpy")
def _face(
    materials: Array, look: int, x: float, y: float, r: float, g: float, b: float
) -> tuple[float, float, float]:
    """Eyes, brows and lips over a skin colour, from the rest position on the head."""
    dx, dy = abs(x) - materials[look, EYE_X], y - materials[look, EYE_Y]
    oval = (dx / 0.0165) ** 2 + (dy / 0.0075) ** 2
    if oval < 1:
        if dx * dx + dy * dy < 0.0062**2:
            iris = 0.02 * materials[look, IRIS]
            return 0.04 + 3 * iris, 0.04 + 2 * iris, 0.04 + iris
        return 0.62, 0.62, 0.62
    if oval < 1.6:
        return 0.35 * r, 0.35 * g, 0.35 * b
    if abs(dx - 0.002) < 0.021 and abs(dy - 0.021 + dx * dx * 8) < 0.0042:
        return (
            0.2 * r + 0.3 * materials[look, RED + 3],
            0.2 * g + 0.3 * materials[look, RED + 4],
            0.2 * b + 0.3 * materials[look, RED + 5],
        )
    dy = y - materials[look, MOUTH_Y]
    if (x / 0.026) ** 2 + (dy / 0.0085) ** 2 < 1:
        if abs(dy) < 0.0012:
            return 0.4 * r, 0.25 * g, 0.25 * b
        return 0.85 * r, 0.55 * g, 0.58 * b
    return r, g, b
