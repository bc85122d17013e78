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

from mpmesh_core.training.synthetic.patterns import albedo, noise_at
from mpmesh_core.training.synthetic.textures import (
    BUMP,
    BUMP_SCALE,
    GLOSS,
    MOTTLE,
    NOISE,
    SHADE,
    SHINE,
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
        picture: written.
    """
    # Tuples are unpacked here, once, and all that runs per sample is inlined: numba counts
    # references wherever arrays are passed on, which takes longer than the arithmetic.
    inverse, face, bary = buffers
    faces, piece, normals, rest, fields = mesh
    materials, layers, patches, noise = looks
    sun, sun_colour, harmonics, shadow, projection = light
    sure = _sure_looks(faces, piece, fields, layers)
    looks_of = np.zeros(4, np.int64)
    for v in range(picture.shape[0]):
        for u in range(picture.shape[1]):
            seen = _pixel_looks(v, u, face, bary, faces, piece, fields, layers, sure, looks_of)
            if seen == 0:
                continue
            alike = looks_of.min() == looks_of.max()
            red, green, blue = 0.0, 0.0, 0.0
            for s in range(1 if alike else 4):
                if looks_of[s] < 0:
                    continue
                y, x = 2 * v + s // 2, 2 * u + s % 2
                f = face[y, x]
                r, g, b = _sample(
                    looks_of[s], faces[f, 0], faces[f, 1], faces[f, 2], bary[y, x, 0],
                    bary[y, x, 1], (x - lens[2]) / lens[0], (y - lens[3]) / lens[1],
                    1 / inverse[y, x], normals, rest, materials, patches, noise, sun, sun_colour,
                    harmonics, shadow, projection,
                )  # fmt: skip
                red, green, blue = red + _shown(r), green + _shown(g), blue + _shown(b)
            share = 1.0 if alike else 0.25
            picture[v, u, 0], picture[v, u, 1] = int(red * share + 0.5), int(green * share + 0.5)
            picture[v, u, 2], picture[v, u, 3] = int(blue * share + 0.5), int(255 * seen / 4)


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _pixel_looks(
    v: int, u: int, face: Array, bary: Array, faces: Array, piece: Array, fields: Array,
    layers: Array, sure: Array, looks_of: Array,
) -> int:  # fmt: skip
    """Material of each of a pixel's four samples, -1 for none, and how many see anything."""
    seen = 0
    for s in range(4):
        y, x = 2 * v + s // 2, 2 * u + s % 2
        f = face[y, x]
        looks_of[s] = -1
        if f >= 0:
            seen += 1
            looks_of[s] = sure[f]
            if sure[f] < 0:
                layer = _top_layer(f, bary[y, x, 0], bary[y, x, 1], faces, fields)
                looks_of[s] = layers[piece[f], layer]
    return seen


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _shown(level: float) -> int:
    """Display value 0..255 of linear light."""
    return GAMMA[int(min(max(level, 0.0), 1.0) * GAMMA_STEPS)]


@njit(cache=True, error_model="numpy")
def _sure_looks(faces: Array, piece: Array, fields: Array, layers: Array) -> Array:
    """Material of the faces (F,) that wear the same all over, -1 where a hem runs through."""
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


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _top_layer(f: int, a: float, b: float, faces: Array, fields: Array) -> int:
    """Outermost layer with a positive field at a point of a face."""
    i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
    c = 1 - a - b
    for g in range(LAYERS - 2, -1, -1):
        if a * fields[i, g] + b * fields[j, g] + c * fields[k, g] > 0:
            return g + 1
    return 0


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _sample(
    look: int, i: int, j: int, k: int, a: float, b: float, ray_x: float, ray_y: float,
    depth: float, normals: Array, rest: Array, materials: Array, patches: Array, noise: Array,
    sun: Array, sun_colour: Array, harmonics: Array, shadow: Array, projection: Array,
) -> tuple[float, float, float]:  # fmt: skip
    """Linear colour of a point (a, b) of the face (i, j, k)."""
    c = 1 - a - b
    x = a * rest[i, 0] + b * rest[j, 0] + c * rest[k, 0]
    y = a * rest[i, 1] + b * rest[j, 1] + c * rest[k, 1]
    z = a * rest[i, 2] + b * rest[j, 2] + c * rest[k, 2]
    nx = a * normals[i, 0] + b * normals[j, 0] + c * normals[k, 0]
    ny = a * normals[i, 1] + b * normals[j, 1] + c * normals[k, 1]
    nz = a * normals[i, 2] + b * normals[j, 2] + c * normals[k, 2]
    grain_x, grain_y, grain_z = noise_at(NOISE / materials[look, BUMP_SCALE], x, y, z, noise)
    bump = materials[look, BUMP]
    nx, ny, nz = nx + bump * grain_x, ny + bump * grain_y, nz + bump * grain_z
    length = 1 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
    if nx * ray_x + ny * ray_y + nz > 0:  # the far side of an open mesh
        length = -length
    nx, ny, nz = nx * length, ny * length, nz * length
    r, g, b = albedo(materials, look, x, y, z, patches, noise)
    mottle = 1 + materials[look, MOTTLE] * grain_z
    lit = max(nx * sun[0] + ny * sun[1] + nz * sun[2], 0.0)
    if lit > 0:
        lit *= lit_share(shadow, projection, ray_x * depth, ray_y * depth, depth)
    glow = _highlight(materials[look, SHINE], materials[look, GLOSS], nx, ny, nz, ray_x, ray_y, sun)
    glow *= 1.0 if lit > 0 else 0.25
    shade = materials[look, SHADE]
    return (
        mottle * r * (shade * _sky(harmonics, 0, nx, ny, nz) + lit * sun_colour[0])
        + glow * sun_colour[0],
        mottle * g * (shade * _sky(harmonics, 1, nx, ny, nz) + lit * sun_colour[1])
        + glow * sun_colour[1],
        mottle * b * (shade * _sky(harmonics, 2, nx, ny, nz) + lit * sun_colour[2])
        + glow * sun_colour[2],
    )


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _sky(h: Array, d: int, x: float, y: float, z: float) -> float:
    """Light from all around on a surface with normal (x, y, z), one colour channel."""
    sky = h[0, d] + h[1, d] * y + h[2, d] * z + h[3, d] * x + h[4, d] * x * y + h[5, d] * y * z
    sky += h[6, d] * (3 * z * z - 1) + h[7, d] * x * z + h[8, d] * (x * x - y * y)
    return max(sky, 0.02)


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _highlight(
    shine: float, gloss: float, nx: float, ny: float, nz: float, ray_x: float, ray_y: float,
    sun: Array,
) -> float:  # fmt: skip
    """Blinn's highlight of the sun."""
    if shine <= 0:
        return 0.0
    norm = 1 / np.sqrt(ray_x * ray_x + ray_y * ray_y + 1)
    x, y, z = sun[0] - ray_x * norm, sun[1] - ray_y * norm, sun[2] - norm
    half = (nx * x + ny * y + nz * z) / np.sqrt(x * x + y * y + z * z + 1e-9)
    return shine * half**gloss if half > 0.7 else 0.0  # elsewhere next to nothing


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
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
