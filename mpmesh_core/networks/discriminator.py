"""discriminator: D_theta and D_beta of the paper (eq. 14, 15), laid out as in HMR.

In   rotations (N, 23, 3, 3) of joints 1..23, local; betas (N, 10)
Out  scores of the pose (N, 24): one a joint, then one of all joints together; of the shape (N, 1)
1 means real, 0 estimated. Joints share two small layers and are judged one by one, so that a
limb's limits are learned from few poses; the last score sees how they go together. Only training
knows them: they are in no checkpoint.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mpmesh_core.checks import check_shapes

JOINTS = 23
_JOINT, _POSE, _SHAPE = 32, 1024, (10, 5)  # widths of hidden layers


class PoseDiscriminator(nn.Module):
    """D_theta."""

    def __init__(self) -> None:
        super().__init__()
        # Linear on the last axis is a 1x1 convolution over joints.
        self.shared = nn.Sequential(
            nn.Linear(9, _JOINT), nn.ReLU(), nn.Linear(_JOINT, _JOINT), nn.ReLU()
        )
        self.each = nn.Conv1d(JOINTS, JOINTS, _JOINT, groups=JOINTS)  # a linear layer a joint
        self.together = nn.Sequential(
            nn.Linear(JOINTS * _JOINT, _POSE),
            nn.ReLU(),
            nn.Linear(_POSE, _POSE),
            nn.ReLU(),
            nn.Linear(_POSE, 1),
        )

    def forward(self, rotations: Tensor) -> Tensor:
        """(N, 23, 3, 3) to scores (N, 24)."""
        check_shapes(rotations=(rotations, ("N", JOINTS, 3, 3)))
        joints = self.shared(rotations.flatten(2))  # (N, 23, 32)
        return torch.cat((self.each(joints).squeeze(2), self.together(joints.flatten(1))), 1)


class ShapeDiscriminator(nn.Module):
    """D_beta."""

    def __init__(self) -> None:
        super().__init__()
        first, second = _SHAPE
        self.layers = nn.Sequential(
            nn.Linear(10, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(),
            nn.Linear(second, 1),
        )  # fmt: skip

    def forward(self, betas: Tensor) -> Tensor:
        """(N, 10) to scores (N, 1)."""
        return self.layers(betas)


class Discriminators(nn.Module):
    """Both, 25 scores a person."""

    def __init__(self) -> None:
        super().__init__()
        self.pose, self.shape = PoseDiscriminator(), ShapeDiscriminator()

    def forward(self, rotations: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N, 24) and (N, 1); see the module."""
        return self.pose(rotations), self.shape(betas)
