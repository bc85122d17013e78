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
    BLOTCHES,
    BUMP,
    BUMP_SCALE,
    CENTRE_Y,
    CHECKS,
    COSINE,
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
    SINE,
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
    # Tuples are unpacked here, once: numba counts references wherever they are passed on.
    inverse, face, bary = buffers
    faces, piece, normals, rest, fields = mesh
    materials, layers, patches, noise = looks
    sun, sun_colour, harmonics, shadow, projection = light
    sure = _sure_looks(faces, piece, fields, layers)
    looks_of = np.zeros(4, np.int64)
    for v in range(picture.shape[0]):
        for u in range(picture.shape[1]):
            seen, alike = 0, True
            for s in range(4):
                y, x = 2 * v + s // 2, 2 * u + s % 2
                f = face[y, x]
                looks_of[s] = -1
                if f >= 0:
                    look = sure[f]
                    if look < 0:
                        layer = _top_layer(f, bary[y, x, 0], bary[y, x, 1], faces, fields)
                        look = layers[piece[f], layer]
                    looks_of[s] = look
                    seen += 1
                alike = alike and looks_of[s] == looks_of[0]
            if seen == 0:
                continue
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
                red += gamma[int(min(max(r, 0.0), 1.0) * GAMMA_STEPS)]
                green += gamma[int(min(max(g, 0.0), 1.0) * GAMMA_STEPS)]
                blue += gamma[int(min(max(b, 0.0), 1.0) * GAMMA_STEPS)]
            share = 1.0 if alike else 0.25
            picture[v, u, 0] = int(red * share + 0.5)
            picture[v, u, 1] = int(green * share + 0.5)
            picture[v, u, 2] = int(blue * share + 0.5)
            picture[v, u, 3] = int(255 * seen / 4)


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


@njit(cache=True, fastmath=True, error_model="numpy")
def _top_layer(f: int, a: float, b: float, faces: Array, fields: Array) -> int:
    """Outermost layer with a positive field at a point of a face."""
    i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
    c = 1 - a - b
    for g in range(LAYERS - 2, -1, -1):
        if a * fields[i, g] + b * fields[j, g] + c * fields[k, g] > 0:
            return g + 1
    return 0


@njit(cache=True, fastmath=True, error_model="numpy")
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
    grain_x, grain_y, grain_z = _noise_at(NOISE / materials[look, BUMP_SCALE], x, y, z, noise)
    bump = materials[look, BUMP]
    nx, ny, nz = nx + bump * grain_x, ny + bump * grain_y, nz + bump * grain_z
    length = 1 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
    if nx * ray_x + ny * ray_y + nz > 0:  # the far side of an open mesh
        length = -length
    nx, ny, nz = nx * length, ny * length, nz * length
    r, g, b = _albedo(materials, look, x, y, z, patches, noise)
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


@njit(cache=True, fastmath=True, error_model="numpy")
def _sky(h: Array, d: int, x: float, y: float, z: float) -> float:
    """Light from all around on a surface with normal (x, y, z), one colour channel."""
    sky = h[0, d] + h[1, d] * y + h[2, d] * z + h[3, d] * x + h[4, d] * x * y + h[5, d] * y * z
    sky += h[6, d] * (3 * z * z - 1) + h[7, d] * x * z + h[8, d] * (x * x - y * y)
    return max(sky, 0.02)


@njit(cache=True, fastmath=True, error_model="numpy")
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
def _tile(value: float, side: int) -> int:
    return int(np.floor(value)) & (side - 1)  # sides are powers of two


@njit(cache=True, fastmath=True, error_model="numpy")
def _noise_at(
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


@njit(cache=True, fastmath=True, error_model="numpy")
def _albedo(
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


@njit(cache=True, fastmath=True, error_model="numpy")
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
