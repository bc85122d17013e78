"""Tests of the z-buffer: known pictures, perspective, order, hostile vertices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpmesh_core.errors import ShapeError
from mpmesh_core.rasterizer import (
    Meshes,
    interpolate,
    project_pinhole,
    rasterize,
    rasterize_meshes,
    vertex_normals,
)

K = np.array([[40.0, 0, 15.5], [0, 40.0, 11.5], [0, 0, 1]])
SIZE = (32, 24)
QUAD = np.array([[0, 1, 2], [0, 2, 3]])


def square(z: float, half: float = 0.1) -> np.ndarray:
    """Corners of a square facing the camera at depth z."""
    corners = np.array([[-half, -half], [half, -half], [half, half], [-half, half]])
    return np.column_stack([corners, np.full(4, z)]).astype(np.float32)


class TestRasterize:
    def test_square_covers_the_pixels_whose_centres_it_holds(self) -> None:
        # 0.1 m at 1 m and f = 40 px is +-4 px around (15.5, 11.5): columns 12..19, rows 8..15
        buffers = rasterize_meshes(Meshes.join([square(1.0)], [QUAD]), K, SIZE)
        expected = np.zeros((24, 32), bool)
        expected[8:16, 12:20] = True
        np.testing.assert_array_equal(buffers.mesh == 0, expected)
        np.testing.assert_allclose(buffers.depth[expected], 1.0, rtol=1e-6)
        assert np.isinf(buffers.depth[~expected]).all()

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_nearest_wins_in_any_order(self, order: tuple[int, int]) -> None:
        squares = [square(2.0, 0.5), square(1.0, 0.1)]
        meshes = Meshes.join([squares[k] for k in order], [QUAD, QUAD])
        buffers = rasterize_meshes(meshes, K, SIZE)
        assert buffers.mesh[11, 15] == order.index(1)
        assert buffers.mesh[11, 7] == order.index(0)

    def test_interpolation_is_perspective_correct(self) -> None:
        slanted = np.array([[-1, -1, 1.5], [1, -1, 4], [1, 1, 4], [-1, 1, 1.5]], np.float32)
        meshes = Meshes.join([slanted], [QUAD])
        buffers = rasterize_meshes(meshes, K, SIZE)
        points = interpolate(buffers, meshes.faces, meshes.vertices)
        seen = buffers.face >= 0
        assert seen.sum() > 100
        pixels, depth = project_pinhole(points[seen], K)
        rows, columns = np.nonzero(seen)
        np.testing.assert_allclose(pixels, np.column_stack([columns, rows]), atol=1e-3)
        np.testing.assert_allclose(depth, buffers.depth[seen], rtol=1e-5)

    def test_shared_edges_leave_no_holes(self) -> None:
        rng = np.random.default_rng(0)
        grid = np.stack(np.meshgrid(np.arange(6.0), np.arange(6.0)), -1).reshape(-1, 2)
        inner = (grid > 0).all(1) & (grid < 5).all(1)
        grid[inner] += rng.uniform(-0.3, 0.3, (inner.sum(), 2))
        faces = [
            face
            for row in range(5)
            for start in range(row * 6, row * 6 + 5)
            for face in ((start, start + 1, start + 7), (start, start + 7, start + 6))
        ]
        buffers = rasterize(grid * 5.9 + 1.1, np.ones(36), np.array(faces), (32, 32))
        assert (buffers.face[2:30, 2:30] >= 0).all()

    def test_culling_drops_backs_only(self) -> None:
        front = QUAD[:, ::-1]  # image y points down, so outside-in reads clockwise
        vertices_px, depth = project_pinhole(square(1.0), K)
        normal = vertex_normals(square(1.0), QUAD)[0]
        backs = QUAD if normal[2] > 0 else front
        fronts = front if normal[2] > 0 else QUAD
        assert (rasterize(vertices_px, depth, backs, SIZE, cull=True).face < 0).all()
        assert (rasterize(vertices_px, depth, fronts, SIZE, cull=True).face >= 0).any()

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -1.0])
    def test_bad_vertex_only_loses_its_own_faces(self, bad: float) -> None:
        broken = square(1.0)
        broken[1, 2] = bad
        alone = rasterize_meshes(Meshes.join([square(1.5)], [QUAD]), K, SIZE)
        both = rasterize_meshes(Meshes.join([square(1.5), broken], [QUAD, QUAD]), K, SIZE)
        rest = both.mesh != 1
        np.testing.assert_array_equal(alone.mesh[rest], both.mesh[rest])
        assert np.isfinite(both.depth[both.face >= 0]).all()

    def test_nothing_to_draw(self) -> None:
        buffers = rasterize_meshes(Meshes.join([], []), K, SIZE)
        assert (buffers.face == -1).all() and (buffers.mesh == -1).all()
        assert buffers.depth.shape == (24, 32) and buffers.barycentric.shape == (24, 32, 2)

    def test_wrong_shape_says_which(self) -> None:
        with pytest.raises(ShapeError, match="vertices_px must have shape"):
            rasterize(np.zeros((4, 3)), np.ones(4), QUAD, SIZE)
        with pytest.raises(ShapeError, match="one faces array for each mesh"):
            Meshes.join([square(1.0)], [])

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 2**31))
    def test_barycentrics_and_depth_lie_within_the_face(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        vertices = rng.uniform([-1, -1, 0.2], [1, 1, 4], (12, 3)).astype(np.float32)
        faces = rng.integers(0, 12, (10, 3))
        meshes = Meshes.join([vertices], [faces])
        buffers = rasterize_meshes(meshes, K, SIZE)
        seen = buffers.face >= 0
        first, second = buffers.barycentric[seen].T
        assert (
            (first >= -1e-5).all()
            and (second >= -1e-5).all()
            and (first + second <= 1 + 1e-5).all()
        )
        corner_depths = vertices[faces[buffers.face[seen]], 2]
        assert (buffers.depth[seen] >= corner_depths.min(1) - 1e-4).all()
        assert (buffers.depth[seen] <= corner_depths.max(1) + 1e-4).all()


class TestVertexNormals:
    def test_octahedron_points_outwards(self) -> None:
        vertices = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
        faces = [(0, 2, 4), (2, 1, 4), (1, 3, 4), (3, 0, 4)]
        faces += [(b, a, 5) for a, b, _ in faces]
        np.testing.assert_allclose(vertex_normals(vertices, np.array(faces)), vertices, atol=1e-6)

    def test_lone_vertex_has_none(self) -> None:
        normals = vertex_normals(np.eye(4, 3), np.array([[0, 1, 2]]))
        assert (normals[3] == 0).all()
