"""evaluation.threedpw: the 3DPW protocol of SPIN, on plain arrays.

In   posed meshes of predictions and truths (..., 6890, 3), a joint regressor (17, 6890)
Out  MPJPE, PA-MPJPE and PVE of each person, in the unit of the meshes

Both meshes give their joints by the same regressor; both are moved so that its joint 0, the pelvis,
lies at the origin; 14 of its 17 joints are compared. PA-MPJPE aligns each person by rotation,
translation and scale, never a reflection. PVE moves the same pelvises together.
Meshes are taken without translation, as they come from SMPL with `transl` 0: the rows of SMPL's
regressor sum to 0.9996-1.0000, so that five metres of distance would move a joint by 2 mm.
Source: Kolotouros et al. 2019 (SPIN), evaluation on 3DPW.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpmesh_core.checks import check_shapes
from mpmesh_core.datasets.boxes import keypoint_box
from mpmesh_core.errors import UsageError
from mpmesh_core.evaluation.metrics import mpjpe, pa_mpjpe, pve
from mpmesh_core.evaluation.protocol import Protocol
from mpmesh_core.types import Array

REGRESSED = 17
COMPARED = (6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10)
"""Rows of the regressor that count, in LSP's order: ankles to hips, wrists to shoulders, neck,
head top. Rows 1-3 of the file are the left leg, 4-6 the right one."""
BOX_SCALE = 1.2

PROTOCOL = Protocol(
    name="3DPW (SPIN)",
    joints="14 (ankles, knees, hips, wrists, elbows, shoulders, neck, head top)",
    regressor="J_regressor_h36m on the posed mesh, of truth and prediction alike",
    alignment="joint 0 of the regressor (pelvis); PA-MPJPE: rotation, translation and scale",
    boxes=f"box of the labelled 2D points, {BOX_SCALE} times as large",
    gender="truth with the person's SMPL model, prediction neutral",
    matching="by person; people of frames with campose_valid",
    source="Kolotouros et al. 2019; data: von Marcard et al. 2018",
)


@dataclass(frozen=True)
class ThreedpwErrors:
    """Errors of each person, in the unit of the meshes."""

    mpjpe: Array  # (...)
    pa_mpjpe: Array  # (...)
    pve: Array  # (...)


def regress_joints(vertices: Array, regressor: Array) -> Array:
    """All regressed joints of meshes.

    Args:
        vertices: (..., V, 3).
        regressor: (17, V).

    Returns:
        (..., 17, 3).

    Raises:
        UsageError: a mesh of another topology than the regressor's.
    """
    check_shapes(vertices=(vertices, (..., "V", 3)), regressor=(regressor, (REGRESSED, "W")))
    if vertices.shape[-2] != regressor.shape[1]:
        raise UsageError(
            f"the meshes have {vertices.shape[-2]} vertices, the joint regressor is for "
            f"{regressor.shape[1]}: only bodies of one topology can be compared"
        )
    return regressor @ np.asarray(vertices, np.float64)


def compared_joints(regressed: Array) -> Array:
    """The 14 joints that count, relative to the pelvis: (..., 17, 3) to (..., 14, 3)."""
    check_shapes(regressed=(regressed, (..., REGRESSED, 3)))
    return regressed[..., list(COMPARED), :] - regressed[..., :1, :]


def threedpw_errors(predicted: Array, truth: Array, regressor: Array) -> ThreedpwErrors:
    """Compare meshes person by person.

    Args:
        predicted: (..., V, 3), without translation.
        truth: (..., V, 3), likewise.
        regressor: (17, V), J_regressor_h36m for SMPL.

    Raises:
        ShapeError, UsageError: arrays that don't belong together.
    """
    check_shapes(predicted=(predicted, (..., "V", 3)), truth=(truth, (..., "V", 3)))
    found, known = regress_joints(predicted, regressor), regress_joints(truth, regressor)
    joints, true_joints = compared_joints(found), compared_joints(known)
    return ThreedpwErrors(
        mpjpe=mpjpe(joints, true_joints, root=None),
        pa_mpjpe=pa_mpjpe(joints, true_joints),
        pve=pve(
            np.asarray(predicted, np.float64),
            np.asarray(truth, np.float64),
            found[..., 0, :],
            known[..., 0, :],
        ),
    )


def beside(predicted: Array, truth: Array, regressor: Array) -> Array:
    """A mesh (V, 3) in camera coordinates, moved so that its pelvis lies at the truth's.

    For meshes whose translation isn't known. The pelvis is the regressor's, its weights scaled to
    a sum of 1.
    """
    check_shapes(predicted=(predicted, ("V", 3)), truth=(truth, ("V", 3)))
    pelvis = regressor[0] / regressor[0].sum()
    return predicted + pelvis @ (np.asarray(truth, np.float64) - predicted)


def points_box(points: Array, scale: float = BOX_SCALE) -> Array:
    """Box x1, y1, x2, y2 around labelled points, scaled about its middle.

    Args:
        points: (K, 3) u, v, weight [px]; only a weight above 0 counts.
        scale: of both sides.

    Returns:
        (4,) float32 [px]; NaN where fewer than two points are labelled.
    """
    check_shapes(points=(points, ("K", 3)))
    if (points[:, 2] > 0).sum() < 2:
        return np.full(4, np.nan, np.float32)
    box = keypoint_box(points, grow=0).astype(np.float64)
    low, high = box[:2], box[2:]
    middle, half = (low + high) / 2, scale * (high - low) / 2
    return np.concatenate([middle - half, middle + half]).astype(np.float32)
