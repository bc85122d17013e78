"""types: what the stages hand to each other and to the user.

Frozen dataclasses, one shape and unit per field. Torch tensors inside the line (leading dimension
N = people in the frame), plain numpy and Python in what leaves it (`Person`, `FrameResult`).
Frame: camera optical frame (x right, y down, z forward), metres, radians, pixels with the centre
of the first pixel at (0, 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

import numpy as np
from torch import Tensor

Array = np.ndarray


@dataclass(frozen=True)
class Detections:
    """People found in one image, best first."""

    boxes: Array  # (N, 4) float32 x1, y1, x2, y2 [px]
    scores: Array  # (N,) float32 in 0..1

    def take(self, index: Array) -> Detections:
        """These rows."""
        return Detections(self.boxes[index], self.scores[index])


@dataclass(frozen=True)
class Skeletons:
    """Output of the skeleton engine, crop cameras' frames."""

    points3d: Tensor  # (N, 29, 3) [m], pelvis-relative, crop camera axes
    points2d: Tensor  # (N, 29, 2) [crop px]
    confidence: Tensor  # (N, 29) in 0..1
    twist: Tensor  # (N, 23, 2) unit (cos, sin), joints 1..23
    betas: Tensor  # (N, 10)
    features: Tensor  # (N, C, 8, 8)
    heatmaps: Tensor  # (N, 24, 8, 8), each sums to 1

    def take(self, index: Tensor) -> Skeletons:
        """These rows."""
        return Skeletons(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True)
class Bodies:
    """SMPL parameters of N people in the camera frame."""

    rotations: Tensor  # (N, 24, 3, 3), joint 0 in the camera frame, the others in their parent's
    betas: Tensor  # (N, 10)
    transl: Tensor  # (N, 3) [m]
    covariance: Tensor  # (N, 3, 3) [m^2], of the pelvis position
    fit_residual: Tensor  # (N,) RMS distance of the body's joints to those seen [px]


UNSEEN = ("coasted", "lost")
"""States of people who are only expected, or given up."""


@dataclass(frozen=True)
class Stages:
    """What the line made of one person before the final body; camera frame."""

    place: int  # number among the frame's detections, of which `context` speaks
    skeleton: Array  # (29, 3) [m] the placed skeleton that inverse kinematics aims at
    rotations: Array  # (24, 3, 3) of inverse kinematics, joint 0 in the camera frame
    betas: Array  # (10,) that it had
    transl: Array  # (3,) [m] where that body stands
    context: Array  # (N,) places of the people whom the refiner read, this one first; -1 nobody
    attention: Array  # (24, N, 24) from joint i to joint j of the n-th; NaN where nothing refined


@dataclass(frozen=True)
class Person:
    """One person of one frame, as written to results.jsonl; camera frame, SMPL joint order."""

    score: float
    bbox: Array  # (4,) x1, y1, x2, y2 [px]
    global_orient: Array  # (3,) axis-angle [rad]
    body_pose: Array  # (69,) axis-angle [rad]
    betas: Array  # (10,)
    transl: Array  # (3,) [m]
    joints: Array  # (24, 3) [m]
    joints_2d: Array  # (24, 2) [px]
    joint_confidence: Array  # (24,) in 0..1
    coco_2d: Array  # (17, 2) [px]
    h36m: Array  # (17, 3) [m]
    position: Array  # (3,) [m], the pelvis
    position_covariance: Array  # (3, 3) [m^2]
    vertices: Array | None = None  # (V, 3) [m], only where asked for
    track_id: int = -1  # -1 without tracking
    state: str = "untracked"  # new, tracked, coasted, lost or untracked
    velocity: Array | None = None  # (3,) [m/s], None until it is known
    fit_residual: float = math.nan  # RMS distance of the body's joints to those seen [px]
    stages: Stages | None = None  # only where asked for, see `Pipeline`


@dataclass(frozen=True)
class FrameResult:
    """Everything that one frame gave."""

    frame: int
    stamp: float  # [s]
    source: str
    width: int
    height: int
    K: Array  # (3, 3)
    D: Array  # (n,)
    people: list[Person] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)  # stage name -> [ms]
    left_out: tuple[str, ...] = ()  # what a deadline cost, see `deadline`

    @property
    def seen(self) -> list[Person]:
        """The people whom this frame shows, without those in `UNSEEN`."""
        return [person for person in self.people if person.state not in UNSEEN]
