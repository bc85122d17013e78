"""regressors: joints, tips and keypoints as weighted sums of vertices.

In   T-posed people with their joints, anny's COCO keypoints, posed bodies for Human3.6M
Out  regressor matrices (K, W), rows sum to 1, exactly symmetric
Joint regressors are signed, good at rest, where they are used. Keypoint regressors are used on
posed bodies and are non-negative.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls
from scipy.spatial import cKDTree

from mpmesh_core.types import Array

JOINT_SUPPORT = 160  # vertices per joint, every fourth of the nearest
JOINT_RIDGE = 3e-4  # [m], keeps the signed weights small
KEYPOINT_SUPPORT = 50
TIP_SUPPORT = 6


def joint_regressor(vertices: Array, joints: Array) -> Array:
    """Ridge regression of the rest joints on the vertices around them.

    Args:
        vertices: (S, W, 3) T-posed people [m].
        joints: (S, 24, 3) their joints [m].

    Returns:
        (24, W).
    """
    centre, mean_joints = vertices.mean(0), joints.mean(0)
    rows = np.zeros((24, vertices.shape[1]))
    for joint in range(24):
        nearest = np.argsort(np.linalg.norm(centre - mean_joints[joint], axis=1))
        support = nearest[: 4 * JOINT_SUPPORT : 4]
        rows[joint, support] = _affine_ridge(vertices[:, support], joints[:, joint])
    return rows


def tip_regressor(template: Array, tips: Array) -> Array:
    """Means of the vertices nearest to five places (5, 3) on the template (W, 3): (5, W)."""
    _, nearest = cKDTree(template).query(tips, k=TIP_SUPPORT)
    rows = np.zeros((len(tips), len(template)))
    np.put_along_axis(rows, nearest, 1 / TIP_SUPPORT, axis=1)
    return rows


def thin_regressor(original: Array, all_vertices: Array, kept: Array) -> Array:
    """A keypoint's weights moved to the kept vertices, the strongest only.

    Args:
        original: (V,) weights of the full mesh.
        all_vertices: (V, 3) its template [m].
        kept: (W,) indices of the vertices that remain.

    Returns:
        (W,) with at most `KEYPOINT_SUPPORT` entries, whose weighted mean is that of the original.
    """
    used = np.flatnonzero(original)
    _, nearest = cKDTree(all_vertices[kept]).query(all_vertices[used])
    moved = np.bincount(nearest, original[used], minlength=len(kept))
    support = np.argsort(moved)[::-1][:KEYPOINT_SUPPORT]
    support = support[moved[support] > 0]
    target = original @ all_vertices
    row = np.zeros(len(kept))
    row[support] = _convex_fit(
        (all_vertices[kept[support]] - target).T, np.zeros(3), moved[support], 1e-3
    )
    return row


def convex_regressor(posed: Array, targets: Array, near: Array) -> Array:
    """Non-negative weights (W,) that follow a target on posed and shaped bodies.

    Args:
        posed: (S, W, 3) vertices [m].
        targets: (S, 3) [m].
        near: (N,) candidate vertices.
    """
    offsets = posed[:, near] - targets[:, None]  # (S, N, 3)
    rows = offsets.transpose(0, 2, 1).reshape(-1, len(near))
    row = np.zeros(posed.shape[1])
    row[near] = _convex_fit(rows, np.zeros(len(rows)), np.full(len(near), 1 / len(near)), 1e-2)
    return row


def symmetric(regressor: Array, flip: tuple[int, ...], mirror: Array) -> Array:
    """Average of a regressor (K, W) and its mirror image."""
    return (regressor + regressor[list(flip)][:, mirror]) / 2


def _affine_ridge(vertices: Array, target: Array) -> Array:
    """Weights r (N,), sum 1, minimising |r V - t|^2 + ridge |r - 1/N|^2."""
    count = vertices.shape[1]
    uniform = np.full(count, 1 / count)
    rows = (vertices - target[:, None]).transpose(0, 2, 1).reshape(-1, count)
    normal = rows.T @ rows / len(vertices) + JOINT_RIDGE**2 * np.eye(count)
    system = np.block([[normal, np.ones((count, 1))], [np.ones((1, count)), np.zeros((1, 1))]])
    right = np.r_[JOINT_RIDGE**2 * uniform, 1.0]
    return np.linalg.solve(system, right)[:count]


def _convex_fit(rows: Array, target: Array, prior: Array, ridge: float) -> Array:
    """Non-negative weights with sum 1: least squares with a pull towards a prior [m]."""
    scale = ridge * np.sqrt(len(rows) / 3)
    system = np.concatenate([rows, scale * np.eye(len(prior)), np.full((1, len(prior)), 1e3)])
    found, _ = nnls(system, np.r_[target, scale * prior, 1e3])
    return found / found.sum()
