"""shading: the colour of every pixel of a rasterised scene (numba kernel).

In   Buffers of the rasteriser, per-vertex normals, rest positions and garment fields, materials
Out  (H, W, 4) uint8 sRGB and coverage

A garment is a field over the vertices: positive inside, interpolated in the triangle, so hems are
crisp whatever the mesh. The topmost garment with a positive field gives the pixel its material.
Light is one sun with a shadow map and second-order spherical harmonics all around.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from mpmesh_core.training.synthetic.textures import (
    ANGLE,
    BLOTCHES,
    BUMP,
    BUMP_SCALE,
    CENTRE_Y,
    CHECKS,
    DOTS,
    DUTY,
    EYE_X,
    EYE_Y,
    EYE_Z,
    GLOSS,
    GRAPHIC,
    IRIS,
    MOTTLE,
    MOUTH_Y,
    NOISE,
    PATCH,
    PATCH_INDEX,
    PATTERN,
    PICTURE,
    RED,
    SCALE,
    SHADE,
    SHINE,
    SKIN,
    SOLID,
    STRIPES,
)  # fmt: skip

Array = np.ndarray
LAYERS = 8  # skin and seven garments, inner to outer
GAMMA_STEPS = 2048
GAMMA = (255 * (np.arange(GAMMA_STEPS + 1) / GAMMA_STEPS) ** (1 / 2.2)).astype(np.uint8)


@njit(cache=True, fastmath=True, error_model="numpy")
def shade(
    buffers: tuple[Array, Array, Array],
    mesh: tuple[Array, Array, Array, Array, Array],
    looks: tuple[Array, Array, Array, Array],
    light: tuple[Array, Array, Array, Array, Array],
    lens: Array,
    gamma: Array,
    picture: Array,
) -> None:
    """Fill `picture` (H, W, 4) with premultiplied colour and coverage from buffers twice its size.

    The four samples of a pixel are shaded apart only where they see different garments, people or
    background; elsewhere one stands for all, since nothing but the colour of smooth cloth differs.

    Args:
        buffers: 1/depth (2H, 2W), face (2H, 2W), barycentric (2H, 2W, 2).
        mesh: faces (F, 3), piece of each face (F,), normals (V, 3) in the camera frame, rest
            positions (V, 3), fields (V, 7) of the garments above the skin.
        looks: material rows (M, 24), material of each piece's layers (pieces, 8), patches, noise.
        light: sun direction (3,) towards it, sun colour (3,), harmonics (9, 3), shadow map (S, S),
            its projection (3, 4) from the camera frame.
        lens: fx, fy, cx, cy of the buffers.
        gamma: (2049,) display value of linear light.
        picture: written.
    """
    face, bary = buffers[1], buffers[2]
    layers = looks[1]
    sure = _sure_looks(mesh, layers)
    colour, total = np.zeros(3, np.float32), np.zeros(3, np.float32)
    looks_of = np.zeros(4, np.int64)
    for v in range(picture.shape[0]):
        for u in range(picture.shape[1]):
            seen, alike = 0, True
            for s in range(4):
                row, column = 2 * v + s // 2, 2 * u + s % 2
                f = face[row, column]
                looks_of[s] = -1
                if f >= 0:
                    looks_of[s] = sure[f]
                    if sure[f] < 0:
                        layer = _top_layer(f, bary[row, column, 0], bary[row, column, 1], mesh)
                        looks_of[s] = layers[mesh[1][f], layer]
                    seen += 1
                alike = alike and looks_of[s] == looks_of[0]
            if seen == 0:
                continue
            total[:] = 0
            for s in range(1 if alike else 4):
                if looks_of[s] >= 0:
                    _sample(2 * v + s // 2, 2 * u + s % 2, looks_of[s], buffers, mesh, looks, light,
                            lens, colour)  # fmt: skip
                    for d in range(3):
                        level = min(max(colour[d], 0.0), 1.0)
                        total[d] += gamma[int(level * GAMMA_STEPS)] * (4 if alike else 1)
            for d in range(3):
                picture[v, u, d] = int(total[d] / 4 + 0.5)
            picture[v, u, 3] = int(255 * seen / 4)


@njit(cache=True, error_model="numpy")
def _sure_looks(mesh: tuple[Array, Array, Array, Array, Array], layers: Array) -> Array:
    """Material of the faces (F,) that wear the same all over, -1 where a hem runs through."""
    faces, piece, _, _, fields = mesh
    sure = np.empty(faces.shape[0], np.int64)
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        sure[f] = layers[piece[f], 0]
        for g in range(LAYERS - 2, -1, -1):
            inside = int(fields[i, g] > 0) + int(fields[j, g] > 0) + int(fields[k, g] > 0)
            if inside > 0:
                sure[f] = layers[piece[f], g + 1] if inside == 3 else -1
                break
    return sure


@njit(cache=True, fastmath=True, error_model="numpy")
def _top_layer(f: int, a: float, b: float, mesh: tuple[Array, Array, Array, Array, Array]) -> int:
    """Outermost layer with a positive field at a point of a face."""
    faces, fields = mesh[0], mesh[4]
    i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
    c = 1 - a - b
    for g in range(LAYERS - 2, -1, -1):
        if a * fields[i, g] + b * fields[j, g] + c * fields[k, g] > 0:
            return g + 1
    return 0


@njit(cache=True, fastmath=True, error_model="numpy")
def _sample(
    v: int,
    u: int,
    look: int,
    buffers: tuple[Array, Array, Array],
    mesh: tuple[Array, Array, Array, Array, Array],
    looks: tuple[Array, Array, Array, Array],
    light: tuple[Array, Array, Array, Array, Array],
    lens: Array,
    colour: Array,
) -> None:
    """Linear colour (3,) of one sample, written into `colour`."""
    inverse, face, bary = buffers
    faces, _, normals, rest, _ = mesh
    f = face[v, u]
    i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
    a, b = bary[v, u, 0], bary[v, u, 1]
    c = 1 - a - b
    row = looks[0][look]
    x = a * rest[i, 0] + b * rest[j, 0] + c * rest[k, 0]
    y = a * rest[i, 1] + b * rest[j, 1] + c * rest[k, 1]
    z = a * rest[i, 2] + b * rest[j, 2] + c * rest[k, 2]
    nx = a * normals[i, 0] + b * normals[j, 0] + c * normals[k, 0]
    ny = a * normals[i, 1] + b * normals[j, 1] + c * normals[k, 1]
    nz = a * normals[i, 2] + b * normals[j, 2] + c * normals[k, 2]
    ray_x, ray_y = (u - lens[2]) / lens[0], (v - lens[3]) / lens[1]
    bump_x, bump_y, bump_z = _noise_at(row, x, y, z, looks[3])
    bump = row[BUMP]
    nx, ny, nz = nx + bump * bump_x, ny + bump * bump_y, nz + bump * bump_z
    length = 1 / np.sqrt(nx * nx + ny * ny + nz * nz + np.float32(1e-12))
    if nx * ray_x + ny * ray_y + nz > 0:  # the far side of an open mesh
        length = -length
    _albedo(row, x, y, z, looks[2], looks[3], colour)
    for d in range(3):
        colour[d] *= 1 + row[MOTTLE] * bump_z
    _light(row, nx * length, ny * length, nz * length, ray_x, ray_y, 1 / inverse[v, u], light,
           colour)  # fmt: skip


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _tile(value: float, side: int) -> int:
    return int(np.floor(value)) & (side - 1)  # sides are powers of two


@njit(cache=True, fastmath=True, error_model="numpy")
def _noise_at(row: Array, x: float, y: float, z: float, noise: Array) -> tuple[float, float, float]:
    """Smooth noise of the material's grain at a rest position."""
    scale = NOISE / row[BUMP_SCALE]
    s, t = (x + np.float32(0.7) * z) * scale, (y + np.float32(0.3) * z) * scale
    s0, t0 = np.floor(s), np.floor(t)
    ds, dt = s - s0, t - t0
    i0, j0 = int(t0) & (NOISE - 1), int(s0) & (NOISE - 1)
    i1, j1 = (i0 + 1) & (NOISE - 1), (j0 + 1) & (NOISE - 1)
    w00, w01, w10, w11 = (1 - dt) * (1 - ds), (1 - dt) * ds, dt * (1 - ds), dt * ds
    n00, n01, n10, n11 = noise[i0, j0], noise[i0, j1], noise[i1, j0], noise[i1, j1]
    return (
        w00 * n00[0] + w01 * n01[0] + w10 * n10[0] + w11 * n11[0],
        w00 * n00[1] + w01 * n01[1] + w10 * n10[1] + w11 * n11[1],
        w00 * n00[2] + w01 * n01[2] + w10 * n10[2] + w11 * n11[2],
    )


@njit(cache=True, fastmath=True, error_model="numpy")
def _albedo(
    row: Array, x: float, y: float, z: float, patches: Array, noise: Array, colour: Array
) -> None:
    """Colour of a point on a body or thing, from its rest position."""
    # Skewed axes, so that the flanks of a body get a pattern too.
    pattern_colour(row, x + 0.7 * z, y + 0.3 * z, patches, noise, colour)
    pattern = int(row[PATTERN])
    if pattern == GRAPHIC and z > 0:
        p, q = x / row[SCALE] + 0.5, (row[CENTRE_Y] - y) / row[SCALE] + 0.5
        if 0 <= p < 1 and 0 <= q < 1:
            for d in range(3):
                colour[d] = patches[int(row[PATCH_INDEX]), int(q * PATCH), int(p * PATCH), d]
    elif pattern == SKIN and y > row[MOUTH_Y] - 0.03 and z > row[EYE_Z] - 0.04:
        _face(row, x, y, colour)


@njit(cache=True, fastmath=True, error_model="numpy")
def pattern_colour(
    row: Array, s: float, t: float, patches: Array, noise: Array, colour: Array
) -> None:
    """Colour of a material at a point of a plane [m]."""
    pattern = int(row[PATTERN])
    if pattern == SOLID or pattern == SKIN or pattern == GRAPHIC:
        colour[0], colour[1], colour[2] = row[RED], row[RED + 1], row[RED + 2]
        return
    cosine, sine = np.cos(row[ANGLE]), np.sin(row[ANGLE])
    p, q = (cosine * s - sine * t) / row[SCALE], (sine * s + cosine * t) / row[SCALE]
    second = 0.0
    if pattern == STRIPES:
        second = 1.0 if q - np.floor(q) < row[DUTY] else 0.0
    elif pattern == CHECKS:
        second = 0.5 * (q - np.floor(q) < row[DUTY]) + 0.5 * (p - np.floor(p) < row[DUTY])
    elif pattern == DOTS:
        dp, dq = p - np.floor(p) - 0.5, q - np.floor(q) - 0.5
        second = 1.0 if dp * dp + dq * dq < 0.25 * row[DUTY] else 0.0
    elif pattern == BLOTCHES:
        value = noise[_tile(q * 20, NOISE), _tile(p * 20, NOISE), 0]
        second = 1.0 if value > 1 - 2 * row[DUTY] else 0.0
    for d in range(3):
        if pattern == PICTURE:
            index, i, j = int(row[PATCH_INDEX]), _tile(-q * PATCH, PATCH), _tile(p * PATCH, PATCH)
            colour[d] = patches[index, i, j, d]
        else:
            colour[d] = (1 - second) * row[RED + d] + second * row[RED + 3 + d]


@njit(cache=True, fastmath=True, error_model="numpy")
def _face(row: Array, x: float, y: float, colour: Array) -> None:
    """Eyes, brows and lips, from the rest position on the head."""
    dx, dy = abs(x) - row[EYE_X], y - row[EYE_Y]
    oval = (dx / 0.0165) ** 2 + (dy / 0.0075) ** 2
    if oval < 1:
        iris = dx * dx + dy * dy < 0.0062**2
        for d in range(3):
            colour[d] = 0.04 + row[IRIS] * (0.06 - 0.02 * d) if iris else 0.62
    elif oval < 1.6:
        for d in range(3):
            colour[d] *= 0.35
    elif abs(dx - 0.002) < 0.021 and abs(dy - 0.021 + dx * dx * 8) < 0.0042:
        for d in range(3):
            colour[d] = colour[d] * 0.2 + 0.3 * row[RED + 3 + d]
    lip = (x / 0.026) ** 2 + ((y - row[MOUTH_Y]) / 0.0085) ** 2
    if lip < 1:
        middle = abs(y - row[MOUTH_Y]) < 0.0012
        colour[0] *= 0.4 if middle else 0.85
        colour[1] *= 0.25 if middle else 0.55
        colour[2] *= 0.25 if middle else 0.58


@njit(cache=True, fastmath=True, error_model="numpy")
def _light(
    row: Array,
    nx: float,
    ny: float,
    nz: float,
    ray_x: float,
    ray_y: float,
    depth: float,
    light: tuple[Array, Array, Array, Array, Array],
    colour: Array,
) -> None:
    sun, sun_colour, harmonics, shadow, projection = light
    lit = max(nx * sun[0] + ny * sun[1] + nz * sun[2], np.float32(0))
    if lit > 0:
        lit *= lit_share(shadow, projection, ray_x * depth, ray_y * depth, depth)
    highlight = np.float32(0)
    if row[SHINE] > 0:
        norm = 1 / np.sqrt(ray_x * ray_x + ray_y * ray_y + 1)
        hx, hy, hz = sun[0] - ray_x * norm, sun[1] - ray_y * norm, sun[2] - norm
        half = max((nx * hx + ny * hy + nz * hz) / np.sqrt(hx * hx + hy * hy + hz * hz + 1e-9), 0.0)
        highlight = row[SHINE] * half ** row[GLOSS] * (1.0 if lit > 0 else 0.25)
    for d in range(3):
        h = harmonics
        sky = h[0, d] + h[1, d] * ny + h[2, d] * nz + h[3, d] * nx
        sky += h[4, d] * nx * ny + h[5, d] * ny * nz + h[6, d] * (3 * nz * nz - 1)
        sky += h[7, d] * nx * nz + h[8, d] * (nx * nx - ny * ny)
        total = row[SHADE] * max(sky, np.float32(0.02)) + lit * sun_colour[d]
        colour[d] = colour[d] * total + highlight * sun_colour[d]


@njit(cache=True, fastmath=True, error_model="numpy")
def lit_share(shadow: Array, projection: Array, x: float, y: float, z: float) -> float:
    """Share of sunlight that reaches a point in the camera frame: 0..1, soft over one texel."""
    size = shadow.shape[0]
    m = projection
    u = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
    v = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
    w = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
    if not (1 <= u < size - 2 and 1 <= v < size - 2):
        return 1.0
    i, j = int(v), int(u)
    dv, du = v - i, u - j
    total = 0.0
    for a in range(2):
        for b in range(2):
            if shadow[i + a, j + b] > w - 0.03:
                total += (dv if a else 1 - dv) * (du if b else 1 - du)
    return total
