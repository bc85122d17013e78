"""joints: names, order and kinematic trees of every skeleton that MPMesh speaks of.

`POINTS` are the 24 SMPL joints followed by five tips, which give the leaves of the tree (head,
hands, feet) a bone to aim along.
"""

from __future__ import annotations

SMPL_JOINTS: tuple[str, ...] = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2",
    "left_ankle", "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar",
    "right_collar", "head", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
    "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip
SMPL_PARENTS: tuple[int, ...] = (
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21,
)  # fmt: skip
TIPS: tuple[str, ...] = (
    "head_top", "left_hand_tip", "right_hand_tip", "left_toe_tip", "right_toe_tip",
)  # fmt: skip
TIP_PARENTS: tuple[int, ...] = (15, 22, 23, 10, 11)
POINTS: tuple[str, ...] = SMPL_JOINTS + TIPS
POINT_PARENTS: tuple[int, ...] = SMPL_PARENTS + TIP_PARENTS

BONE_CHILD: tuple[int, ...] = (
    3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 27, 28, 15, 16, 17, 24, 18, 19, 20, 21, 22, 23, 25, 26,
)  # fmt: skip
"""For each SMPL joint the point at the far end of the bone that its swing and twist speak of."""

COCO_KEYPOINTS: tuple[str, ...] = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
    "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
H36M_JOINTS: tuple[str, ...] = (
    "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "spine", "thorax", "nose", "head_top", "left_shoulder", "left_elbow", "left_wrist",
    "right_shoulder", "right_elbow", "right_wrist",
)  # fmt: skip
LSP_JOINTS: tuple[str, ...] = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
    "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    "neck", "head_top",
)  # fmt: skip


def mirror_twins(names: tuple[str, ...]) -> tuple[int, ...]:
    """Index of each name's mirror twin: `points[..., FLIP, :]` swaps left and right."""
    swap = {"left": "right", "right": "left"}
    twins = ("_".join(swap.get(word, word) for word in name.split("_")) for name in names)
    return tuple(names.index(twin) for twin in twins)


SMPL_FLIP = mirror_twins(SMPL_JOINTS)
POINT_FLIP = mirror_twins(POINTS)
TWIST_FLIP = tuple(joint - 1 for joint in POINT_FLIP[1:24])  # of joints 1..23
COCO_FLIP = mirror_twins(COCO_KEYPOINTS)
H36M_FLIP = mirror_twins(H36M_JOINTS)
LSP_FLIP = mirror_twins(LSP_JOINTS)
