"""skinning: the body's mesh for one person at a time, fast enough to pose people by the thousand.

In   local rotations (24, 3, 3), betas (10,), offsets of the clothed surface (V, 3) at rest
Out  joints and tips (29, 3), vertices (V, 3), pelvis at the origin

The same linear blend skinning as `BodyModel.forward` on the four strongest weights of a vertex, in
numba; no pose correctives. `SkinnedMesh` also carries loose parts (skirts, hair) on the skeleton.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from mpmesh_core.body import BodyModel
from mpmesh_core.joints import POINT_PARENTS, SMPL_PARENTS

Array = np.ndarray
TOP = 4  # skinning weights that are kept for a vertex


@dataclass(frozen=True)
class SkinnedMesh:
    """A mesh on the SMPL skeleton."""

    vertices: Array  # (V, 3) float32 [m], rest pose, body axes
    faces: Array  # (F, 3) int32
    bones: Array  # (V, 4) int32 joints that move a vertex
    weights: Array  # (V, 4) float32, sum 1


@dataclass(frozen=True)
class Skeleton:
    """A posed skeleton: what skinning needs."""

    points: Array  # (29, 3) float32 [m], joints and tips, pelvis at the origin
    rotations: Array  # (24, 3, 3) float32, from the rest pose
    shifts: Array  # (24, 3) float32: vertex' = rotation vertex + shift


class FastBody:
    """NumPy copy of a `BodyModel` for posing single people."""

    def __init__(self, body: BodyModel) -> None:
        self.template = body.v_template.numpy().astype(np.float32)
        self.shapedirs = body.shapedirs.numpy().astype(np.float32)
        self.faces = body.faces.numpy().astype(np.int32)
        regressor = body.point_regressor.numpy().astype(np.float32)
        self.point_mean = regressor @ self.template  # (29, 3)
        self.point_dirs = np.einsum("pv,vcb->pcb", regressor, self.shapedirs)
        self.bones, self.weights = strongest(body.weights.numpy().astype(np.float32))

    def rest_points(self, betas: Array) -> Array:
        """Joints and tips (29, 3) at rest."""
        return self.point_mean + self.point_dirs @ betas.astype(np.float32)

    def shaped(self, betas: Array) -> Array:
        """Rest vertices (V, 3) of a shape."""
        return self.template + self.shapedirs @ betas.astype(np.float32)

    def skeleton(self, rotations: Array, betas: Array) -> Skeleton:
        """Pose the skeleton, pelvis at the origin, joint 0's rotation applied."""
        rest = self.rest_points(betas)
        points, world = _forward_kinematics(rotations.astype(np.float32), rest)
        shifts = points[:24] - np.einsum("jab,jb->ja", world, rest[:24])
        return Skeleton(points, world, shifts.astype(np.float32))


def strongest(weights: Array) -> tuple[Array, Array]:
    """The four strongest joints (V, 4) and their weights, made to sum to 1, of weights (V, 24)."""
    bones = np.argsort(-weights, axis=1)[:, :TOP].astype(np.int32)
    kept = np.take_along_axis(weights, bones, 1)
    return bones, (kept / kept.sum(1, keepdims=True)).astype(np.float32)


def skin(skeleton: Skeleton, vertices: Array, bones: Array, weights: Array) -> Array:
    """Posed vertices (V, 3) float32 of rest vertices on a skeleton, pelvis at the origin."""
    return _skin(
        np.ascontiguousarray(vertices, np.float32),
        bones,
        weights,
        skeleton.rotations,
        skeleton.shifts,
    )


@njit(cache=True)
def _forward_kinematics(rotations: Array, rest: Array) -> tuple[Array, Array]:
    world = rotations.copy()
    points = np.zeros_like(rest)
    for point in range(1, len(POINT_PARENTS)):
        parent = POINT_PARENTS[point]
        for a in range(3):
            total = points[parent, a]
            for b in range(3):
                total += world[parent, a, b] * (rest[point, b] - rest[parent, b])
            points[point, a] = total
        if point < len(SMPL_PARENTS):
            for a in range(3):
                for b in range(3):
                    entry = np.float32(0)
                    for c in range(3):
                        entry += world[parent, a, c] * rotations[point, c, b]
                    world[point, a, b] = entry
    return points, world


@njit(cache=True, fastmath=True, error_model="numpy")
def _skin(vertices: Array, bones: Array, weights: Array, rotations: Array, shifts: Array) -> Array:
    posed = np.zeros_like(vertices)
    for v in range(vertices.shape[0]):
        x, y, z = vertices[v, 0], vertices[v, 1], vertices[v, 2]
        for k in range(bones.shape[1]):
            w, j = weights[v, k], bones[v, k]
            if w == 0:
                continue
            for a in range(3):
                r = rotations[j]
                posed[v, a] += w * (r[a, 0] * x + r[a, 1] * y + r[a, 2] * z + shifts[j, a])
    return posed
