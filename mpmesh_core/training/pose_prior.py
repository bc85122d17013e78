"""pose_prior: how unlikely a body pose is.

In   local rotations (..., 24, 3, 3), SMPL order
Out  penalty (...), a sum of squares that grows from 0; joint 0 is free

Two parts. Joint limits, from anatomy: elbows and knees are hinges that bend one way, collars,
spine, hands and feet move little. And, where motion capture is given, a mixture of Gaussians over
the rotation vectors of the 23 joints, fitted once by `fit_mixture`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import roma
import torch
from torch import Tensor

from mpmesh_core.checks import check_shapes
from mpmesh_core.joints import SMPL_JOINTS

_HINGES = ("left_knee", "right_knee", "left_elbow", "right_elbow")
_HINGE_AXES = ((1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 1.0, 0.0))
_BONE_AXES = ((0.0, -1.0, 0.0), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (-1.0, 0.0, 0.0))
_HINGE_TWIST = (0.3, 0.3, 0.8, 0.8)  # [rad] turn of the lower bone about itself
_HINGE_SIDE = 0.2  # [rad] bending about the third axis
_HINGE_BACK = 0.1  # [rad] bending the wrong way

_SPREAD = {  # [rad] typical size of each rotation vector component (x, y, z)
    "hip": (0.9, 0.6, 0.5), "spine1": (0.35, 0.25, 0.25), "spine2": (0.25, 0.2, 0.2),
    "spine3": (0.2, 0.2, 0.2), "ankle": (0.4, 0.3, 0.3), "foot": (0.15, 0.1, 0.1),
    "neck": (0.4, 0.4, 0.3), "head": (0.3, 0.3, 0.25), "collar": (0.15, 0.25, 0.3),
    "shoulder": (0.8, 0.8, 0.9), "wrist": (0.4, 0.4, 0.4), "hand": (0.1, 0.1, 0.1),
}  # fmt: skip
_FLEX = {"knee": 1.2, "elbow": 1.3}  # [rad] spread of the hinge angle itself
_SHOULDER_DOWN = 0.9  # [rad] arms hang rather than stick out: mean turn from the T-pose


@dataclass(frozen=True)
class Mixture:
    """A mixture of C Gaussians over D numbers."""

    log_weights: Tensor  # (C,)
    means: Tensor  # (C, D)
    whiten: Tensor  # (C, D, D) inverse Cholesky factors of the covariances
    log_dets: Tensor  # (C,) log determinants of `whiten`

    def negative_log(self, values: Tensor) -> Tensor:
        """Minus the log likelihood (...) of (..., D) values, up to a constant."""
        away = values.unsqueeze(-2) - self.means
        scaled = (self.whiten @ away.unsqueeze(-1)).squeeze(-1)
        return -torch.logsumexp(self.log_weights + self.log_dets - 0.5 * (scaled**2).sum(-1), -1)


def limit_penalty(rotations: Tensor) -> Tensor:
    """Return (...) the penalty for leaving what joints can do.

    Args:
        rotations: (..., 24, 3, 3) local rotations.
    """
    check_shapes(rotations=(rotations, (..., 24, 3, 3)))
    vectors = roma.rotmat_to_rotvec(rotations)
    mean, spread = _gaussian(vectors)
    hinges = [SMPL_JOINTS.index(name) for name in _HINGES]
    soft = (((vectors - mean) / spread) ** 2).sum(-1)
    keep = torch.ones_like(soft)
    keep[..., [0, *hinges]] = 0.0
    return (soft * keep).sum(-1) + _hinge_penalty(vectors[..., hinges, :])


def fit_mixture(
    rotations: Tensor, count: int = 8, floor: float = 0.12, steps: int = 30, seed: int = 0
) -> Mixture:
    """Fit a Gaussian mixture to poses by expectation maximisation.

    Args:
        rotations: (T, 24, 3, 3) poses.
        count: number of Gaussians.
        floor: least standard deviation in every direction [rad].
        steps: of the fitting.
        seed: of the starting centres.
    """
    values = pose_values(rotations).double()
    chooser = torch.Generator().manual_seed(seed)
    centres = values[torch.randperm(len(values), generator=chooser)[:count]]
    nearest = torch.cdist(values, centres).argmin(1)
    shares = torch.nn.functional.one_hot(nearest, count).double()
    for _ in range(steps):
        mixture = _maximise(values, shares, floor)
        shares = _responsibilities(mixture, values)
    return Mixture(*(part.float() for part in vars(mixture).values()))


def pose_values(rotations: Tensor) -> Tensor:
    """Rotation vectors (..., 69) of joints 1..23."""
    return roma.rotmat_to_rotvec(rotations[..., 1:, :, :]).flatten(-2)


def _gaussian(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread (24, 3) of the soft limits."""
    kinds = [name.removeprefix("left_").removeprefix("right_") for name in SMPL_JOINTS]
    spread = vectors.new_tensor([_SPREAD.get(kind, (1.0, 1.0, 1.0)) for kind in kinds])
    mean = torch.zeros_like(spread)
    for name, sign in (("left_shoulder", -1.0), ("right_shoulder", 1.0)):
        mean[SMPL_JOINTS.index(name), 2] = sign * _SHOULDER_DOWN
    return mean, spread


def _hinge_penalty(vectors: Tensor) -> Tensor:
    """(...) from the (..., 4, 3) rotation vectors of knees and elbows."""
    axes, bones = vectors.new_tensor(_HINGE_AXES), vectors.new_tensor(_BONE_AXES)
    sides = torch.linalg.cross(axes, bones)
    bend, twist, side = ((vectors * part).sum(-1) for part in (axes, bones, sides))
    spread = vectors.new_tensor([_FLEX["knee"]] * 2 + [_FLEX["elbow"]] * 2)
    parts = (
        torch.relu(-bend) / _HINGE_BACK,
        torch.relu(bend - 2.6) / _HINGE_BACK,
        (bend - 0.3) / spread,
        twist / vectors.new_tensor(_HINGE_TWIST),
        side / _HINGE_SIDE,
    )
    return sum(((part**2).sum(-1) for part in parts), torch.zeros_like(bend[..., 0]))


def _maximise(values: Tensor, shares: Tensor, floor: float) -> Mixture:
    total = shares.sum(0).clamp(min=1e-6)
    means = (shares.T @ values) / total[:, None]
    away = values - means[:, None]  # (C, T, D)
    covariance = (away * shares.T[..., None]).mT @ away / total[:, None, None]
    covariance = covariance + floor**2 * torch.eye(values.shape[1], dtype=values.dtype)
    lower = torch.linalg.cholesky(covariance)
    whiten = torch.linalg.inv(lower)
    log_dets = -lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return Mixture((total / total.sum()).log(), means, whiten, log_dets)


def _responsibilities(mixture: Mixture, values: Tensor) -> Tensor:
    away = values - mixture.means[:, None]
    scaled = away @ mixture.whiten.mT
    log = mixture.log_weights + mixture.log_dets - 0.5 * (scaled**2).sum(-1).T
    return torch.softmax(log - 0.5 * values.shape[1] * math.log(2 * math.pi), dim=-1)
