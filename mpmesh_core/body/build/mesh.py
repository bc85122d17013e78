"""mesh: a lighter, exactly symmetric mesh whose vertices are a subset of the original's.

In   the T-pose template (V, 3) [m] and its faces
Out  Mesh: kept vertices (W,), faces (F, 3) among them, mirror permutation (W,)
Only the left half is simplified; its mirror image, by the original's own mirror twins, is the
right half. Since vertices are never moved, weights and shapes are plain indexing afterwards.
pymeshlab (GPL-3) is used while building only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from mpmesh_core.errors import MissingPackageError, WeightsError
from mpmesh_core.types import Array

TONGUE_VERTICES = 226
HALF_FACES = 6888
_MIRROR = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Mesh:
    """A subset of the original vertices with faces of its own."""

    kept: Array  # (W,) original index of each vertex
    faces: Array  # (F, 3) indices into `kept`, counter-clockwise from outside
    mirror: Array  # (W,) index of each vertex's twin on the other side


def simplify(template: Array, faces: Array) -> Mesh:
    """Drop the tongue and halve the mesh.

    Args:
        template: (V, 3) symmetric T-pose vertices [m], midline at x = 0.
        faces: (F, 3) triangles, none of which crosses the midline.

    Raises:
        WeightsError: the result has holes.
        MissingPackageError: pymeshlab is not installed.
    """
    twin = _twins(template)
    body = faces[~_is_tongue(faces, len(template))]
    left = body[(template[body, 0] > -1e-9).all(1)]
    kept_left, half = _collapse(template, left)
    kept_faces = kept_left[half]
    both = np.concatenate([kept_faces, twin[kept_faces][:, ::-1]])
    kept = np.unique(both)
    index = np.full(len(template), -1)
    index[kept] = np.arange(len(kept))
    mesh = Mesh(kept, index[both], index[twin[kept]])
    if not is_watertight(mesh.faces):
        raise WeightsError("the simplified body has holes: another pymeshlab version may help")
    return mesh


def is_watertight(faces: Array) -> bool:
    """Whether every edge is shared by exactly two faces that pass it in opposite directions."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    forward, counts = np.unique(edges, axis=0, return_counts=True)
    backward = np.unique(edges[:, ::-1], axis=0)
    return bool((counts == 1).all() and np.array_equal(forward, backward))


def _twins(template: Array) -> Array:
    distance, twin = cKDTree(template).query(template * _MIRROR)
    if distance.max() > 1e-3 or not np.array_equal(twin[twin], np.arange(len(twin))):
        raise WeightsError(f"the template is not symmetric: {distance.max() * 1e3:.2f} mm off")
    return twin


def _is_tongue(faces: Array, count: int) -> Array:
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = coo_array((np.ones(len(edges)), edges.T), shape=(count, count))
    _, part = connected_components(graph, directed=False)
    tongue = np.flatnonzero(np.bincount(part) == TONGUE_VERTICES)
    return np.isin(part, tongue)[faces[:, 0]]


def _collapse(template: Array, faces: Array) -> tuple[Array, Array]:
    """Quadric edge collapse of an open half: original vertex indices kept, faces among them."""
    try:
        import pymeshlab
    except ImportError as error:
        raise MissingPackageError(
            "building the open body needs pymeshlab: pip install 'mpmesh[body]'"
        ) from error
    used, local = np.unique(faces, return_inverse=True)
    meshes = pymeshlab.MeshSet()
    meshes.add_mesh(pymeshlab.Mesh(template[used], local.reshape(-1, 3)))
    meshes.meshing_decimation_quadric_edge_collapse(
        targetfacenum=HALF_FACES,
        preserveboundary=True,
        boundaryweight=10.0,
        preservenormal=True,
        preservetopology=True,
        optimalplacement=False,
    )
    result = meshes.current_mesh()
    distance, original = cKDTree(template[used]).query(result.vertex_matrix())
    if distance.max() > 1e-6:
        raise WeightsError("the mesh simplification moved vertices")
    return used[original], result.face_matrix()
