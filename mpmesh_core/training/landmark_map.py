"""landmark_map: where the landmarks of each labelling convention sit on the body.

In   a posed body (rotations, betas, transl)
Out  landmarks (..., K, 3) [m] in the frame of `transl`, for `lsp14`, `coco17` or `mediapipe33`

A landmark is an anchor (one of the 29 body points or of the 17 COCO keypoints regressed from the
mesh) plus a fixed offset in the frame of one joint. Fitting may learn small corrections of the
offsets, one set for a whole data set, symmetric left to right: annotators of different sets put
hips and head tops in different places.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mpmesh_core.body import BodyModel
from mpmesh_core.errors import UsageError
from mpmesh_core.joints import COCO_FLIP, LSP_FLIP, POINTS, SMPL_JOINTS
from mpmesh_core.training.teachers import MEDIAPIPE_FLIP

_COCO = len(POINTS)  # anchors: 29 body points, then the 17 COCO keypoints
ANCHORS = _COCO + 17

Row = tuple[int, str, tuple[float, float, float]]  # anchor, joint of the frame, offset [m]


@dataclass(frozen=True)
class LandmarkMap:
    """One convention's landmarks on the body."""

    name: str
    anchor: tuple[int, ...]  # (K,) index into the anchors
    frame: tuple[int, ...]  # (K,) SMPL joint whose axes the offset is given in
    offset: tuple[tuple[float, float, float], ...]  # (K, 3) [m] at rest
    flip: tuple[int, ...]  # (K,) mirror twin of each landmark

    def place(self, anchors: Tensor, global_rotations: Tensor, learned: Tensor) -> Tensor:
        """Put the landmarks on posed bodies.

        Args:
            anchors: (..., 46, 3) [m] from `body_anchors`.
            global_rotations: (..., 24, 3, 3).
            learned: (K, 3) [m] corrections, made symmetric here.

        Returns:
            (..., K, 3) [m].
        """
        mirrored = learned[list(self.flip)] * learned.new_tensor([-1.0, 1.0, 1.0])
        offset = learned.new_tensor(self.offset) + (learned + mirrored) / 2
        frames = global_rotations[..., list(self.frame), :, :]
        return anchors[..., list(self.anchor), :] + (frames @ offset.unsqueeze(-1)).squeeze(-1)


def body_anchors(
    body: BodyModel, rotations: Tensor, betas: Tensor, transl: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the (..., 46, 3) anchors [m] and the (..., 24, 3, 3) global rotations of bodies."""
    posed = body(rotations, betas, transl, vertices=False)
    coco = body.keypoints(rotations, betas, transl, "coco17")
    return torch.cat([posed.points, coco], dim=-2), posed.global_rotations


def landmark_map(name: str) -> LandmarkMap:
    """Return the map of `lsp14`, `coco17` or `mediapipe33`."""
    if name not in _MAPS:
        raise UsageError(f"unknown landmark convention '{name}', known: {', '.join(_MAPS)}")
    return _MAPS[name]


def _make(name: str, rows: list[Row], flip: tuple[int, ...]) -> LandmarkMap:
    anchor = tuple(row[0] for row in rows)
    frame = tuple(SMPL_JOINTS.index(row[1]) for row in rows)
    return LandmarkMap(name, anchor, frame, tuple(row[2] for row in rows), flip)


def _pair(left: Row) -> list[Row]:
    """The left landmark and its mirror twin."""
    anchor, joint, (x, y, z) = left
    twin_joint = joint.replace("left_", "right_")
    if anchor >= _COCO:
        twin = _COCO + COCO_FLIP[anchor - _COCO]
    else:
        twin = POINTS.index(POINTS[anchor].replace("left_", "right_"))
    return [left, (twin, twin_joint, (-x, y, z))]


def _coco_rows() -> list[Row]:
    limbs = ("left_collar", "left_shoulder", "left_elbow", "pelvis", "left_hip", "left_knee")
    rows: list[Row] = [(_COCO, "head", (0.0, 0.0, 0.0))]
    for first in (1, 3):
        rows += _pair((_COCO + first, "head", (0.0, 0.0, 0.0)))
    for number, joint in enumerate(limbs):
        rows += _pair((_COCO + 5 + 2 * number, joint, (0.0, 0.0, 0.0)))
    return rows


def _lsp_rows(coco: list[Row]) -> list[Row]:
    order = (16, 14, 12, 11, 13, 15, 10, 8, 6, 5, 7, 9)
    neck: Row = (POINTS.index("neck"), "spine3", (0.0, 0.0, 0.0))
    head_top: Row = (POINTS.index("head_top"), "head", (0.0, 0.0, 0.0))
    return [coco[i] for i in order] + [neck, head_top]


def _mediapipe_rows(coco: list[Row]) -> list[Row]:
    hand, foot = POINTS.index("left_hand"), POINTS.index("left_toe_tip")
    eyes = [
        _pair((_COCO + 1, "head", (x, 0.0, z))) for x, z in ((-0.015, 0.0), (0, 0), (0.015, -0.01))
    ]
    rows = [coco[0]] + [eye[0] for eye in eyes] + [eye[1] for eye in eyes] + coco[3:5]
    rows += _pair((_COCO, "head", (0.025, -0.055, -0.02)))
    rows += coco[5:11]
    for joint, offset in (
        ("hand", (0.01, 0, -0.035)),
        ("hand", (0.01, 0, 0.025)),
        ("wrist", (0.045, -0.01, 0.035)),
    ):
        rows += _pair(
            (hand if joint == "hand" else POINTS.index("left_wrist"), f"left_{joint}", offset)
        )
    rows += coco[11:17]
    rows += _pair((POINTS.index("left_ankle"), "left_ankle", (0.0, -0.055, -0.045)))
    rows += _pair((foot, "left_foot", (0.0, 0.0, -0.02)))
    return rows


_COCO_ROWS = _coco_rows()
_MAPS = {
    "coco17": _make("coco17", _COCO_ROWS, COCO_FLIP),
    "lsp14": _make("lsp14", _lsp_rows(_COCO_ROWS), LSP_FLIP),
    "mediapipe33": _make("mediapipe33", _mediapipe_rows(_COCO_ROWS), MEDIAPIPE_FLIP),
}
