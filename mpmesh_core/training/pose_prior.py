"""pose_prior: how unlikely a body pose is, from anatomy.

In   rotation vectors (..., 24, 3) [rad] of the local rotations, SMPL order
Out  penalty (...) and its derivatives: a separable sum of squares

Every component of every joint has a mean and a spread; elbows and knees are hinges that bend one
way and not past their end. Bend axes are coordinate axes of SMPL's rest pose, so each component
stands for itself: knees bend about x, elbows about y. Joint 0 is free.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mpmesh_core.joints import SMPL_JOINTS

_SPREAD = {  # [rad] typical size of each rotation vector component (x, y, z)
    "hip": (0.9, 0.6, 0.5), "spine1": (0.35, 0.25, 0.25), "spine2": (0.25, 0.2, 0.2),
    "spine3": (0.2, 0.2, 0.2), "knee": (1.2, 0.3, 0.2), "ankle": (0.4, 0.3, 0.3),
    "foot": (0.15, 0.1, 0.1), "neck": (0.4, 0.4, 0.3), "head": (0.3, 0.3, 0.25),
    "collar": (0.15, 0.25, 0.3), "shoulder": (0.8, 0.8, 0.9), "elbow": (0.8, 1.3, 0.2),
    "wrist": (0.4, 0.4, 0.4), "hand": (0.1, 0.1, 0.1), "pelvis": (math.inf, math.inf, math.inf),
}  # fmt: skip
_MEAN = {  # joint: component, mean [rad]; the right side mirrors it
    "left_shoulder": (2, -0.9), "right_shoulder": (2, 0.9),  # arms hang
    "left_elbow": (1, -0.3), "right_elbow": (1, 0.3), "left_knee": (0, 0.3),
    "right_knee": (0, 0.3), "left_hip": (0, -0.3), "right_hip": (0, -0.3),
}  # fmt: skip
_RANGE = {  # joint: component, least and most bend [rad]
    "left_knee": (0, 0.0, 2.6), "right_knee": (0, 0.0, 2.6),
    "left_elbow": (1, -2.6, 0.0), "right_elbow": (1, 0.0, 2.6),
}  # fmt: skip
_RANGE_SPREAD = 0.1  # [rad] give at the end of a hinge's range


@dataclass(frozen=True)
class PosePrior:
    """Means, spreads and ranges of all components, (24, 3) each."""

    mean: Tensor
    precision: Tensor  # 1 / spread^2, 0 where free
    low: Tensor
    high: Tensor

    def penalty(self, vectors: Tensor) -> Tensor:
        """(...) penalty of (..., 24, 3) rotation vectors."""
        beyond = torch.relu(self.low - vectors) + torch.relu(vectors - self.high)
        parts = self.precision * (vectors - self.mean) ** 2 + (beyond / _RANGE_SPREAD) ** 2
        return parts.sum((-2, -1))

    def slope(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Half of the first and second derivative of the penalty, (..., 24, 3) each."""
        under, over = torch.relu(self.low - vectors), torch.relu(vectors - self.high)
        stiff = 1 / _RANGE_SPREAD**2
        first = self.precision * (vectors - self.mean) + stiff * (over - under)
        return first, self.precision + stiff * ((under > 0) | (over > 0))


def pose_prior(like: Tensor) -> PosePrior:
    """The prior with the dtype and on the device of `like`."""
    kinds = [name.removeprefix("left_").removeprefix("right_") for name in SMPL_JOINTS]
    spread = like.new_tensor([_SPREAD[kind] for kind in kinds])
    mean = torch.zeros_like(spread)
    low, high = torch.full_like(spread, -math.inf), torch.full_like(spread, math.inf)
    for name, (axis, value) in _MEAN.items():
        mean[SMPL_JOINTS.index(name), axis] = value
    for name, (axis, least, most) in _RANGE.items():
        low[SMPL_JOINTS.index(name), axis] = least
        high[SMPL_JOINTS.index(name), axis] = most
    return PosePrior(mean, 1 / spread**2, low, high)
