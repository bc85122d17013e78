"""shading: from what each pixel sees to a lit, outlined picture of the meshes.

In   Buffers and Meshes of the rasteriser, a colour and an opacity for each mesh
Out  (H, W, 4) uint8 RGB premultiplied by alpha, and alpha

A key light from the upper left behind the viewer, a weaker fill from the right, light from above
(the sky) and a little gloss; outlines where one mesh ends or passes well in front of itself.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from mpmesh_core.rasterizer import NEAR, Buffers, Meshes, rasterize, vertex_normals

Array = np.ndarray

AMBIENT, SKY, KEY, FILL, GLOSS = 0.34, 0.20, 0.56, 0.16, 0.16
_TO_KEY = np.array([-0.48, -0.62, -0.62])  # camera frame: x right, y down, z forward
_TO_FILL = np.array([0.80, -0.15, -0.58])
OUTLINE = 0.30  # brightness of the line around a mesh
FOLD = 0.62  # brightness of the line where a mesh overlaps itself
FOLD_DEPTH = 0.08  # [m] of the step that draws such a line


def shaded_layer(
    meshes: Meshes,
    vertices_px: Array,
    depth: Array,
    size: tuple[int, int],
    colours: Array,
    opacity: Array,
) -> tuple[Array, tuple[int, int]]:
    """Rasterise and light meshes; only the part of the picture that they can cover is made.

    Args:
        meshes: the M meshes, see `shade`.
        vertices_px: (V, 2) where the vertices are seen [px].
        depth: (V,) distance from the viewer along z [m].
        size: (width, height) of the picture [px].
        colours: (M, 3) RGB 0..255.
        opacity: (M,) 0..1.

    Returns:
        The part (h, w, 4) as `shade` gives it, and its first pixel (u, v); both even.
    """
    seen = vertices_px[depth >= NEAR]
    if not len(seen):
        return np.zeros((0, 0, 4), np.uint8), (0, 0)
    limit = np.array(size, np.float64)
    low = np.clip(np.floor(seen.min(axis=0)) - 2, 0, limit).astype(int) // 2 * 2
    high = np.clip(np.ceil(seen.max(axis=0)) + 3, 0, limit).astype(int)
    high = np.minimum(high + high % 2, size)
    width, height = (int(length) for length in np.maximum(high - low, 0))
    buffers = rasterize(
        vertices_px - low, depth, meshes.faces, (width, height), meshes.mesh_of_face
    )
    return shade(buffers, meshes, colours, opacity), (int(low[0]), int(low[1]))


def shade(buffers: Buffers, meshes: Meshes, colours: Array, opacity: Array) -> Array:
    """Light the meshes.

    Args:
        buffers: (H, W) what each pixel sees.
        meshes: the M meshes in the frame of the view: x right, y down, z away from the viewer.
        colours: (M, 3) RGB 0..255.
        opacity: (M,) 0..1.

    Returns:
        (H, W, 4) uint8: RGB times alpha, alpha.
    """
    normals = vertex_normals(meshes.vertices, meshes.faces)
    key, fill = (light / np.linalg.norm(light) for light in (_TO_KEY, _TO_FILL))
    gloss = key + np.array([0.0, 0.0, -1.0])
    lights = np.stack([key, fill, gloss / np.linalg.norm(gloss)]).astype(np.float32)
    picture = np.zeros((*buffers.face.shape, 4), np.uint8)
    _shade(
        buffers.face,
        buffers.mesh,
        buffers.depth,
        buffers.barycentric,
        meshes.faces,
        normals,
        np.asarray(colours, np.float32).reshape(-1, 3),
        np.asarray(opacity, np.float32).reshape(-1),
        lights,
        picture,
    )
    return picture


@njit(cache=True)
def _brightness(x: float, y: float, z: float, lights: Array) -> tuple[float, float]:
    """Diffuse and gloss of a unit normal."""
    key = max(0.0, x * lights[0, 0] + y * lights[0, 1] + z * lights[0, 2])
    fill = max(0.0, x * lights[1, 0] + y * lights[1, 1] + z * lights[1, 2])
    half = max(0.0, x * lights[2, 0] + y * lights[2, 1] + z * lights[2, 2])
    facing = min(1.0, 0.72 + 0.4 * abs(z))  # rounds the body off towards its rim
    diffuse = (AMBIENT + SKY * 0.5 * (1.0 - y) + KEY * key + FILL * fill) * facing
    return diffuse, GLOSS * half**24


@njit(cache=True)
def _line(mesh: Array, depth: Array, v: int, u: int) -> float:
    """Brightness factor of the outline at a pixel; 1 where there is none."""
    height, width = mesh.shape
    factor = 1.0
    for dv, du in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        y, x = v + dv, u + du
        if y < 0 or x < 0 or y >= height or x >= width:
            continue
        step = depth[y, x] - depth[v, u]  # +inf towards the background
        if mesh[y, x] != mesh[v, u]:
            if step > 0:
                return OUTLINE
        elif step > FOLD_DEPTH:
            factor = FOLD
    return factor


@njit(cache=True)
def _shade(
    face: Array,
    mesh: Array,
    depth: Array,
    bary: Array,
    faces: Array,
    normals: Array,
    colours: Array,
    opacity: Array,
    lights: Array,
    picture: Array,
) -> None:
    height, width = face.shape
    for v in range(height):
        for u in range(width):
            f = face[v, u]
            if f < 0:
                continue
            i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
            a, b = bary[v, u, 0], bary[v, u, 1]
            c = 1.0 - a - b
            x = a * normals[i, 0] + b * normals[j, 0] + c * normals[k, 0]
            y = a * normals[i, 1] + b * normals[j, 1] + c * normals[k, 1]
            z = a * normals[i, 2] + b * normals[j, 2] + c * normals[k, 2]
            norm = max(1e-9, np.sqrt(x * x + y * y + z * z))
            diffuse, gloss = _brightness(x / norm, y / norm, z / norm, lights)
            line = _line(mesh, depth, v, u)
            m = mesh[v, u]
            alpha = opacity[m] if line == 1.0 else max(opacity[m], 0.9 * opacity[m] + 0.1)
            for channel in range(3):
                value = (colours[m, channel] * diffuse + 255.0 * gloss) * line
                picture[v, u, channel] = np.uint8(min(255.0, value) * alpha)
            picture[v, u, 3] = np.uint8(255.0 * alpha)
