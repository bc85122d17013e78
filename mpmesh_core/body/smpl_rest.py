"""smpl_rest: how SMPL's bones lie at rest, the yardstick of any other body's rest pose.

A `body_pose` means the same on two bodies only if their rest bones point the same way. Offsets of
each joint from its parent [m] on SMPL's mean neutral body, axes x left, y up, z forward.
"""

from __future__ import annotations

import numpy as np

from mpmesh_core.joints import SMPL_FLIP, SMPL_PARENTS
from mpmesh_core.types import Array

_MEASURED = np.array([
    (-0.0018, -0.2233, 0.0282),
    (0.0695, -0.0914, -0.0068), (-0.0677, -0.0905, -0.0043), (-0.0025, 0.1090, -0.0267),
    (0.0343, -0.3752, -0.0045), (-0.0383, -0.3826, -0.0089), (0.0055, 0.1352, 0.0011),
    (-0.0136, -0.3980, -0.0437), (0.0158, -0.3984, -0.0423), (0.0015, 0.0529, 0.0254),
    (0.0264, -0.0558, 0.1193), (-0.0254, -0.0481, 0.1233), (-0.0028, 0.2139, -0.0429),
    (0.0788, 0.1217, -0.0341), (-0.0818, 0.1188, -0.0386), (0.0052, 0.0650, 0.0513),
    (0.0910, 0.0305, -0.0089), (-0.0960, 0.0326, -0.0091), (0.2596, -0.0128, -0.0275),
    (-0.2537, -0.0133, -0.0214), (0.2492, 0.0090, -0.0012), (-0.2553, 0.0078, -0.0056),
    (0.0840, -0.0082, -0.0149), (-0.0846, -0.0061, -0.0103),
])  # fmt: skip

_MIRROR = np.array([-1.0, 1.0, 1.0])
SMPL_OFFSETS: Array = (_MEASURED + _MEASURED[list(SMPL_FLIP)] * _MIRROR) / 2
"""(24, 3) averaged left and right; the pelvis row is its place in SMPL's own coordinates."""

LIMB_JOINTS = (4, 5, 7, 8, 10, 11, 18, 19, 20, 21, 22, 23)
"""Far ends of the limb bones; the bones to all other joints count as torso."""


def rest_angles(joints: Array) -> Array:
    """Angle between a body's rest bones and SMPL's.

    Args:
        joints: (..., 24, 3) rest joints [m] in body axes.

    Returns:
        (..., 23) angles [degree] of the bones to joints 1..23.
    """
    joints = np.asarray(joints)
    bones = joints[..., 1:, :] - joints[..., list(SMPL_PARENTS[1:]), :]
    wanted = SMPL_OFFSETS[1:]
    cross = np.linalg.norm(np.cross(bones, wanted), axis=-1)
    return np.degrees(np.arctan2(cross, (bones * wanted).sum(-1)))
