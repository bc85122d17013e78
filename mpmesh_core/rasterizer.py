"""rasterizer: which triangle each pixel sees (numba z-buffer on the CPU).

In   vertices_px (V, 2) [px], depth (V,) [m], faces (F, 3), of one or several meshes
Out  Buffers: depth, face, mesh and barycentric coordinates of every pixel

Pixel (row v, column u) is sampled at its centre, which is (u, v). Depth is the camera z. Triangles
with a vertex nearer than `NEAR` are left out, not clipped: bodies have small triangles. Used by
the overlays and by the synthetic pictures; it knows nothing of lights and colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from mpmesh_core.checks import check_shapes
from mpmesh_core.errors import ShapeError

Array = np.ndarray
NEAR = 0.05  # [m]
EDGE = -1e-6  # faces are a hair wide, so that no pixel falls between two of them


@dataclass(frozen=True)
class Buffers:
    """What every pixel sees; `face == -1` where it sees nothing."""

    depth: Array  # (H, W) float32 [m], +inf where nothing
    face: Array  # (H, W) int32, row of the (joined) faces, -1 where nothing
    mesh: Array  # (H, W) int32, index of the mesh, -1 where nothing
    barycentric: Array  # (H, W, 2) float32, weights of a face's first two vertices in space


@dataclass(frozen=True)
class Meshes:
    """Several meshes joined into one list of vertices and faces."""

    vertices: Array  # (V, 3) float32 [m], camera frame
    faces: Array  # (F, 3) int32 into vertices
    mesh_of_face: Array  # (F,) int32

    @staticmethod
    def join(vertices: Sequence[Array], faces: Sequence[Array]) -> Meshes:
        """Join lists of (V_i, 3) vertices and (F_i, 3) faces; the lists may be empty."""
        if len(vertices) != len(faces):
            raise ShapeError(
                f"vertices and faces must have the same length, got {len(vertices)} and "
                f"{len(faces)}: give one faces array for each mesh"
            )
        starts = np.cumsum([0] + [len(part) for part in vertices])
        counts = [len(part) for part in faces]
        if not counts:
            return Meshes(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32), _no_faces())
        joined = [np.asarray(part) + start for part, start in zip(faces, starts)]
        return Meshes(
            np.concatenate([np.asarray(part, np.float32) for part in vertices]),
            np.concatenate(joined).astype(np.int32),
            np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        )


def _no_faces() -> Array:
    return np.zeros(0, np.int32)


def rasterize(
    vertices_px: Array,
    depth: Array,
    faces: Array,
    size: tuple[int, int],
    mesh_of_face: Array | None = None,
    cull: bool = False,
) -> Buffers:
    """Fill a z-buffer with triangles.

    Args:
        vertices_px: (V, 2) projected vertices [px]; any lens model may have made them.
        depth: (V,) camera z [m].
        faces: (F, 3) vertex indices.
        size: (width, height) of the picture [px].
        mesh_of_face: (F,) mesh index of each face; all 0 by default.
        cull: leave out faces that turn their back to the camera. Only right for closed meshes
            whose faces wind counter-clockwise as seen from outside.

    Returns:
        Buffers of shape (height, width).
    """
    check_shapes(
        vertices_px=(vertices_px, ("V", 2)), depth=(depth, ("V",)), faces=(faces, ("F", 3))
    )
    inverse, face, barycentric = fill_buffers(vertices_px, depth, faces, size, cull)
    with np.errstate(divide="ignore"):
        z = np.where(face >= 0, 1 / inverse, np.float32(np.inf))
    if mesh_of_face is None or len(faces) == 0:
        mesh = np.minimum(face, 0)
    else:
        mesh = np.where(face >= 0, np.asarray(mesh_of_face, np.int32)[face], np.int32(-1))
    return Buffers(z.astype(np.float32), face, mesh.astype(np.int32), barycentric)


def fill_buffers(
    vertices_px: Array, depth: Array, faces: Array, size: tuple[int, int], cull: bool = False
) -> tuple[Array, Array, Array]:
    """`rasterize` without its extras: 1/depth (H, W), zero where nothing, face and barycentric."""
    width, height = size
    inverse = np.zeros((height, width), np.float32)  # 1/z is linear on the screen, z is not
    face = np.full((height, width), -1, np.int32)
    barycentric = np.zeros((height, width, 2), np.float32)
    _fill(
        np.ascontiguousarray(vertices_px, np.float32),
        np.ascontiguousarray(depth, np.float32),
        np.ascontiguousarray(faces, np.int32),
        cull,
        inverse,
        face,
        barycentric,
    )
    return inverse, face, barycentric


def rasterize_meshes(meshes: Meshes, K: Array, size: tuple[int, int]) -> Buffers:
    """Rasterise meshes in the frame of a pinhole camera with intrinsics K (3, 3)."""
    check_shapes(K=(K, (3, 3)))
    vertices_px, depth = project_pinhole(meshes.vertices, K)
    return rasterize(vertices_px, depth, meshes.faces, size, meshes.mesh_of_face)


def project_pinhole(vertices: Array, K: Array) -> tuple[Array, Array]:
    """Pixels (V, 2) and depth (V,) of vertices (V, 3) [m]; points behind the camera give junk
    pixels and their own negative depth, which `rasterize` leaves out."""
    depth = vertices[:, 2]
    safe = np.where(np.abs(depth) < NEAR, NEAR, depth)
    homogeneous = vertices @ K.T.astype(vertices.dtype)
    with np.errstate(invalid="ignore"):  # an infinite vertex gives NaN, which is left out later
        pixels = homogeneous[:, :2] / safe[:, None]
    return pixels.astype(np.float32), depth.astype(np.float32)


def vertex_normals(vertices: Array, faces: Array) -> Array:
    """Unit normals (V, 3) of vertices (V, 3), faces (F, 3) weighted by area; zero where alone."""
    return _vertex_normals(
        np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces, np.int32)
    )


def interpolate(buffers: Buffers, faces: Array, values: Array) -> Array:
    """Values (V, C) of the vertices at every pixel: (H, W, C), zero where nothing is seen."""
    check_shapes(faces=(faces, ("F", 3)), values=(values, ("V", "C")))
    seen = buffers.face >= 0
    corners = np.asarray(faces)[buffers.face[seen]]
    first, second = buffers.barycentric[seen].T[..., None]
    a, b, c = (values[corners[:, k]] for k in range(3))
    picture = np.zeros((*buffers.face.shape, values.shape[1]), values.dtype)
    picture[seen] = first * a + second * b + (1 - first - second) * c
    return picture


@njit(cache=True, error_model="numpy")
def _vertex_normals(vertices: Array, faces: Array) -> Array:
    normals = np.zeros_like(vertices)
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, bx = vertices[j, 0] - vertices[i, 0], vertices[k, 0] - vertices[i, 0]
        ay, by = vertices[j, 1] - vertices[i, 1], vertices[k, 1] - vertices[i, 1]
        az, bz = vertices[j, 2] - vertices[i, 2], vertices[k, 2] - vertices[i, 2]
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for v in (i, j, k):
            normals[v, 0] += nx
            normals[v, 1] += ny
            normals[v, 2] += nz
    for v in range(normals.shape[0]):
        x, y, z = normals[v, 0], normals[v, 1], normals[v, 2]
        norm = np.sqrt(x * x + y * y + z * z)
        if norm > 0:
            normals[v, 0], normals[v, 1], normals[v, 2] = x / norm, y / norm, z / norm
    return normals


@njit(cache=True, error_model="numpy")
def _fill(
    px: Array, depth: Array, faces: Array, cull: bool, inverse: Array, face: Array, bary: Array
) -> None:
    height, width = face.shape
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        if not (depth[i] >= NEAR and depth[j] >= NEAR and depth[k] >= NEAR):
            continue  # written so that NaN is left out too
        ax, ay = np.float64(px[i, 0]), np.float64(px[i, 1])
        bx, by = np.float64(px[j, 0]), np.float64(px[j, 1])
        cx, cy = np.float64(px[k, 0]), np.float64(px[k, 1])
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if not (abs(area) > 1e-9) or (cull and area > 0):
            continue
        low_u, high_u = max(min(ax, bx, cx), 0.0), min(max(ax, bx, cx), width - 1.0)
        low_v, high_v = max(min(ay, by, cy), 0.0), min(max(ay, by, cy), height - 1.0)
        if not (low_u <= high_u and low_v <= high_v):
            continue
        first_u, last_u = int(np.ceil(low_u)), int(high_u)
        first_v, last_v = int(np.ceil(low_v)), int(high_v)
        if first_u > last_u or first_v > last_v:
            continue  # between the pixels' centres, as most faces of a small person
        wa, wb, wc = 1 / depth[i], 1 / depth[j], 1 / depth[k]
        # a and b are linear in u and v: a = a0 + au u + av v.
        au, av, a0 = (by - cy) / area, (cx - bx) / area, (bx * cy - cx * by) / area
        bu, bv, b0 = (cy - ay) / area, (ax - cx) / area, (cx * ay - ax * cy) / area
        for v in range(first_v, last_v + 1):
            a_row, b_row = a0 + av * v, b0 + bv * v
            for u in range(first_u, last_u + 1):
                a, b = a_row + au * u, b_row + bu * u
                c = 1 - a - b
                if a < EDGE or b < EDGE or c < EDGE:
                    continue
                w = a * wa + b * wb + c * wc
                if w > inverse[v, u]:
                    inverse[v, u] = w
                    face[v, u] = f
                    bary[v, u, 0] = a * wa / w  # weights in space, not on the screen
                    bary[v, u, 1] = b * wb / w
