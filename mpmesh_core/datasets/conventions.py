"""datasets.conventions: the joints of every labelling convention, and which of them agree.

In   points of one convention, (K, 3) px or (K, 4) m, the last column a weight
Out  points of another (`convert`), weight 0 where no joint means the same

Annotators, motion capture and body models put a joint of one name in different places. Two joints
count as the same only where they lie within about 3 cm of one another. Measured on the open body
(300 people, random shapes and poses), mean distance in mm:

| joint    | SMPL - labelled | SMPL - mocap | labelled - mocap |
|----------|-----------------|--------------|------------------|
| wrist    |  7              | 11           |  9               |
| elbow    | 16              | 17           | 14               |
| ankle    | 19              | 15           | 30, half weight  |
| knee     | 25              | 23           | 33, half weight  |
| shoulder | 29              | 40, left out | 20               |
| hip      | 29, left out    | 68, left out | 87, left out     |
| pelvis   | -               | 61, left out | -                |

Labelled are COCO-17, LSP-14, MPII-16 and what is triangulated from such labels (Panoptic, AIST++);
their hips differ from set to set by more than the table says, so they are left out. Mocap are
Human3.6M and the MPI sets, whose hips and shoulders lie as far apart as Human3.6M's. The rig of
SAIL-VOS was never measured: its limbs count half, and the rest not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from mpmesh_core.errors import UsageError
from mpmesh_core.joints import (
    COCO_KEYPOINTS,
    H36M_JOINTS,
    LSP_JOINTS,
    POINTS,
    SMPL_JOINTS,
    mirror_twins,
)
from mpmesh_core.types import Array

Bones = tuple[tuple[str, str], ...]

H36M32 = (
    "pelvis", "right_hip", "right_knee", "right_ankle", "right_foot", "right_toe", "left_hip",
    "left_knee", "left_ankle", "left_foot", "left_toe", "spine_root", "spine", "thorax", "nose",
    "head_top", "left_collar", "left_shoulder", "left_elbow", "left_wrist", "left_hand",
    "left_thumb", "left_finger", "left_fingertip", "right_collar", "right_shoulder",
    "right_elbow", "right_wrist", "right_hand", "right_thumb", "right_finger", "right_fingertip",
)  # fmt: skip
MPI28 = (
    "spine3", "spine4", "spine2", "spine", "pelvis", "neck", "head", "head_top", "left_clavicle",
    "left_shoulder", "left_elbow", "left_wrist", "left_hand", "right_clavicle", "right_shoulder",
    "right_elbow", "right_wrist", "right_hand", "left_hip", "left_knee", "left_ankle",
    "left_foot", "left_toe", "right_hip", "right_knee", "right_ankle", "right_foot", "right_toe",
)  # fmt: skip
MPI17 = (
    "head_top", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder",
    "left_elbow", "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip",
    "left_knee", "left_ankle", "pelvis", "spine", "head",
)  # fmt: skip
MUCO21 = (*MPI17, "right_hand", "left_hand", "right_toe", "left_toe")
MPII16 = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis",
    "thorax", "neck", "head_top", "right_wrist", "right_elbow", "right_shoulder",
    "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip
PANOPTIC19 = (
    "neck", "nose", "pelvis", "left_shoulder", "left_elbow", "left_wrist", "left_hip",
    "left_knee", "left_ankle", "right_shoulder", "right_elbow", "right_wrist", "right_hip",
    "right_knee", "right_ankle", "left_eye", "left_ear", "right_eye", "right_ear",
)  # fmt: skip
OPENPOSE18 = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
    "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip
SAILVOS26 = (
    "head_top", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder",
    "left_elbow", "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip",
    "left_knee", "left_ankle", "spine", "head", "pelvis", "right_toe", "left_toe", "nose",
    "right_eye", "left_eye", "right_ear", "left_ear", "right_hand", "left_hand",
)  # fmt: skip

LIMB_BONES: Bones = tuple(
    (f"{side}_{near}", f"{side}_{far}")
    for side in ("left", "right")
    for near, far in (
        ("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"),
        ("ankle", "foot"), ("ankle", "toe"), ("eye", "ear"),
    )
)  # fmt: skip
TRUNK_BONES: Bones = (
    ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"), ("pelvis", "spine"),
    ("pelvis", "spine1"), ("spine1", "spine2"), ("spine2", "spine3"), ("spine3", "neck"),
    ("spine", "thorax"), ("spine", "neck"), ("thorax", "nose"), ("neck", "head"),
    ("neck", "head_top"), ("nose", "left_eye"), ("nose", "right_eye"), ("neck", "nose"),
)  # fmt: skip


@dataclass(frozen=True)
class Convention:
    """One labelling convention."""

    names: tuple[str, ...]
    family: str  # smpl, labelled, mocap, rig or rescaled: who decided where a joint is

    @property
    def flip(self) -> tuple[int, ...]:
        """Index of each joint's mirror twin."""
        return mirror_twins(self.names)

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """Pairs of joints to draw a line between."""
        index = {name: i for i, name in enumerate(self.names)}
        pairs = LIMB_BONES + TRUNK_BONES
        return tuple((index[a], index[b]) for a, b in pairs if a in index and b in index)


CONVENTIONS: dict[str, Convention] = {
    "points": Convention(POINTS, "smpl"),
    "smpl24": Convention(SMPL_JOINTS, "smpl"),
    "coco17": Convention(COCO_KEYPOINTS, "labelled"),
    "lsp14": Convention(LSP_JOINTS, "labelled"),
    "mpii16": Convention(MPII16, "labelled"),
    "panoptic19": Convention(PANOPTIC19, "labelled"),
    "openpose18": Convention(OPENPOSE18, "labelled"),
    "h36m17": Convention(H36M_JOINTS, "mocap"),
    "h36m32": Convention(H36M32, "mocap"),
    "mpi28": Convention(MPI28, "mocap"),
    "mpi17": Convention(MPI17, "mocap"),
    "mpi17_univ": Convention(MPI17, "rescaled"),  # all people of one height: agrees with nothing
    "muco21": Convention(MUCO21, "mocap"),
    "sailvos26": Convention(SAILVOS26, "rig"),
}
"""SURREAL's 24 joints are `smpl24`, AIST++'s 17 are `coco17`."""

_LIMBS = dict.fromkeys(("wrist", "elbow", "knee", "ankle"), 1.0)
_FACE = dict.fromkeys(("nose", "eye", "ear"), 1.0)
_SOFT = {"wrist": 1.0, "elbow": 1.0, "shoulder": 1.0, "knee": 0.5, "ankle": 0.5}
_RIG = dict.fromkeys(_LIMBS, 0.5)
_AGREE: dict[frozenset[str], dict[str, float]] = {
    frozenset({"labelled"}): _LIMBS
    | _FACE
    | {"shoulder": 1.0, "hip": 0.5, "neck": 0.5, "head_top": 0.5},
    frozenset({"mocap"}): _LIMBS | {"shoulder": 1.0, "hip": 1.0, "pelvis": 1.0},
    frozenset({"smpl", "labelled"}): _LIMBS | {"shoulder": 1.0},
    frozenset({"smpl", "mocap"}): _LIMBS,
    frozenset({"labelled", "mocap"}): _SOFT,
    frozenset({"rig", "smpl"}): _RIG,
    frozenset({"rig", "labelled"}): _RIG,
    frozenset({"rig", "mocap"}): _RIG,
}
_DIRECT = frozenset({"points smpl24", "smpl24 points", "h36m32 h36m17", "mpi28 mpi17"})
"""The same skeleton with more or fewer joints: what has the same name is the same joint.

Panoptic's neck is the middle of the shoulders and LSP's lies higher, yet both are called so by
their authors; between sets of one family such joints count half.
"""


def convention(name: str) -> Convention:
    """The convention of a name.

    Raises:
        UsageError: no such convention, with the names that exist.
    """
    if name not in CONVENTIONS:
        raise UsageError(f"unknown convention {name!r}, known: {', '.join(CONVENTIONS)}")
    return CONVENTIONS[name]


@cache
def correspondence(source: str, target: str) -> tuple[tuple[int, int, float], ...]:
    """Rows (joint of the source, joint of the target, weight) of what means the same."""
    a, b = convention(source), convention(target)
    weights = _AGREE.get(frozenset({a.family, b.family}), {})
    direct = source == target or f"{source} {target}" in _DIRECT
    rows = []
    for i, name in enumerate(a.names):
        kind = name.removeprefix("left_").removeprefix("right_")
        weight = 1.0 if direct else weights.get(kind, 0.0)
        if name in b.names and weight:
            rows.append((i, b.names.index(name), weight))
    return tuple(rows)


def convert(points: Array, source: str, target: str) -> Array:
    """Points of one convention as another's.

    Args:
        points: (K, D), the last column a weight.
        source, target: names in `CONVENTIONS`.

    Returns:
        (J, D) float32; zeros, weight included, where nothing means the same.
    """
    converted = np.zeros((len(convention(target).names), points.shape[-1]), np.float32)
    for i, j, weight in correspondence(source, target):
        converted[j] = points[i]
        converted[j, -1] *= weight
    return converted
