"""fit: bodies to the 2D labels and teacher 3D of many people at once.

In   `FitInput`: landmarks in px of one or more conventions, 33 teacher landmarks in 3D, intrinsics
Out  `FitResult`: SMPL rotations, betas, transl in the camera frame, reprojection error, trust

Minimises, for each person on its own but in one batch, robust reprojection errors of all labelled
landmarks, robust differences of bone directions to the teacher's 3D, joint limits and a Gaussian
prior on the shape. The directions of the teacher are used, not its lengths: those shrink where it
is unsure. All people share one small set of learned landmark offsets per convention.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import roma
import torch
from torch import Tensor

from mpmesh_core.body import BodyModel
from mpmesh_core.checks import check_shapes
from mpmesh_core.training.landmark_map import body_anchors, landmark_map
from mpmesh_core.training.pose_init import initial_rotations
from mpmesh_core.training.pose_prior import limit_penalty

BONES = (  # pairs of MediaPipe landmarks whose direction the teacher's 3D gives
    (11, 13), (13, 15), (12, 14), (14, 16), (23, 25), (25, 27), (24, 26), (26, 28), (11, 12),
    (23, 24), (11, 23), (12, 24), (7, 8), (7, 0), (8, 0), (29, 31), (30, 32), (15, 19), (16, 20),
    (17, 19), (18, 20),
)  # fmt: skip
_SOFT_BONES = 12  # bones from here on (head, feet, hands) count less


@dataclass(frozen=True)
class FitConfig:
    """Weights and schedule of the fit; residuals are divided by the sigmas first."""

    steps: int = 300
    rate: float = 0.03  # of Adam, falls to a tenth
    pixel_sigma: float = 0.02  # [share of the person's size]
    bone_sigma: float = 0.25  # length of the difference of unit vectors
    robust: float = 3.0  # [sigmas] beyond which a residual stops pulling
    soft_bone: float = 0.3  # weight of head, foot and hand bones
    prior: float = 0.3  # weight of the joint limits
    shape: float = 1.0  # weight of the N(0, 1) prior on betas
    offset_sigma: float = 0.02  # [m] of learned landmark offsets
    offset_people: float = 30.0  # people whose labels outweigh the prior on the offsets


@dataclass(frozen=True)
class FitInput:
    """N people."""

    keypoints: dict[str, Tensor]  # convention -> (N, K, 3) px and weight
    world: Tensor  # (N, 33, 3) [m], hip-centred, camera axes
    world_weight: Tensor  # (N, 33) 0..1
    K: Tensor  # (N, 3, 3)
    size: Tensor  # (N,) longer side of the person's box [px]


@dataclass(frozen=True)
class FitResult:
    """N fitted bodies in the camera frame."""

    rotations: Tensor  # (N, 24, 3, 3)
    betas: Tensor  # (N, 10)
    transl: Tensor  # (N, 3) [m]
    projected: dict[str, Tensor]  # convention -> (N, K, 2) px, where the landmarks came to lie
    bone_error: Tensor  # (N,) mean angle to the teacher's bones [rad]
    offsets: dict[str, Tensor] = field(default_factory=dict)  # convention -> (K, 3) [m] learned


def fit(
    body: BodyModel,
    data: FitInput,
    config: FitConfig | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> FitResult:
    """Fit one body to each person.

    Args:
        body: model with COCO-17 keypoints.
        data: labels; a weight of 0 takes a landmark out.
        config: weights and schedule.
        progress: called with step and mean energy now and then.

    Returns:
        FitResult; people without any weight keep their starting pose.
    """
    check_shapes(
        world=(data.world, ("N", 33, 3)),
        world_weight=(data.world_weight, ("N", 33)),
        K=(data.K, ("N", 3, 3)),
        size=(data.size, ("N",)),
        **{name: (value, ("N", "K_" + name, 3)) for name, value in data.keypoints.items()},
    )
    config = config or FitConfig()
    state = _start(body, data)
    _descend(body, data, config, state, False, progress)  # where the body stands
    _descend(body, data, config, state, True, progress)
    return _result(body, data, state)


class _State:
    """The unknowns. The place is a shift in units of the person's size and a log depth, so that
    one step means the same for near and far people."""

    def __init__(self, rotations: Tensor, transl: Tensor, data: FitInput) -> None:
        count = len(transl)
        self.pose = rotations[..., :2].clone().requires_grad_()
        self.betas = transl.new_zeros(count, 10).requires_grad_()
        self.shift = transl.new_zeros(count, 3).requires_grad_()
        self.offsets = {
            name: value.new_zeros(value.shape[1], 3).requires_grad_()
            for name, value in data.keypoints.items()
        }
        self._start = transl
        self._unit = (data.size / data.K[:, 0, 0])[:, None]

    def rotations(self) -> Tensor:
        return roma.special_gramschmidt(self.pose)

    def transl(self) -> Tensor:
        depth = self._start[:, 2:] * self.shift[:, 2:].exp()
        slope = self._start[:, :2] / self._start[:, 2:] + self.shift[:, :2] * self._unit
        return torch.cat([slope * depth, depth], dim=-1)


def _start(body: BodyModel, data: FitInput) -> _State:
    """Pose from the teacher's 3D, place from the spread of the landmarks in the picture."""
    rotations = initial_rotations(data.world)
    zeros, count = data.world.new_zeros, len(data.world)
    anchors, turned = body_anchors(body, rotations, zeros(count, 10), zeros(count, 3))
    model, image, weight = [], [], []
    for name, labels in data.keypoints.items():
        points = landmark_map(name).place(anchors, turned, zeros(labels.shape[1], 3))
        model.append(points[..., :2])
        image.append(labels[..., :2])
        weight.append(labels[..., 2:])
    share = torch.cat(weight, dim=1)
    share = share / share.sum(1, keepdim=True).clamp(min=1e-6)
    model_mean, model_spread = _moments(torch.cat(model, dim=1), share)
    image_mean, image_spread = _moments(torch.cat(image, dim=1), share)
    focal = data.K[:, 0, 0]
    depth = focal * model_spread / image_spread.clamp(min=1e-3)
    depth = torch.where(image_spread > 1e-3, depth, torch.full_like(depth, 4.0)).clamp(0.5, 200.0)
    centre = (image_mean - data.K[:, :2, 2]) / focal[:, None] * depth[:, None]
    return _State(rotations, torch.cat([centre - model_mean, depth[:, None]], dim=1), data)


def _moments(points: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean (N, 2) and spread (N,) of points (N, P, 2)."""
    mean = (points * share).sum(1)
    return mean, (((points - mean[:, None]) ** 2) * share).sum((1, 2)).sqrt()


def _descend(
    body: BodyModel,
    data: FitInput,
    config: FitConfig,
    state: _State,
    everything: bool,
    progress: Callable[[int, float], None] | None,
) -> None:
    """Adam over all people; `everything` off: only the place and the pelvis move."""
    steps = config.steps if everything else max(1, config.steps // 5)
    places = [{"params": [state.pose, state.shift], "scale": 1.0}]
    shapes = [
        {"params": [state.betas], "scale": 1.0},
        {"params": list(state.offsets.values()), "scale": 0.05},  # metres
    ]
    optimiser = torch.optim.Adam(places + shapes * everything, lr=config.rate, betas=(0.9, 0.98))
    for step in range(steps):
        done = step / steps
        rate = config.rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))
        for group in optimiser.param_groups:
            group["lr"] = rate * group["scale"]
        optimiser.zero_grad()
        widen = 1.0 + 4.0 * max(0.0, 1.0 - 2.0 * done) if everything else 5.0
        energy = _energy(body, data, config, state, widen)
        energy.sum().backward()
        if not everything and state.pose.grad is not None:
            state.pose.grad[:, 1:] = 0
        optimiser.step()
        if progress and step % 50 == 0:
            progress(step, float(energy.detach().mean()))


def _energy(
    body: BodyModel, data: FitInput, config: FitConfig, state: _State, widen: float
) -> Tensor:
    """(N,) energies; `widen` multiplies the distance beyond which residuals are outliers."""
    rotations = state.rotations()
    anchors, turned = body_anchors(body, rotations, state.betas, state.transl())
    energy = config.prior * limit_penalty(rotations)
    energy = energy + config.shape * (state.betas**2).sum(-1)
    reach = config.robust * widen
    for name, labels in data.keypoints.items():
        points = landmark_map(name).place(anchors, turned, state.offsets[name])
        away = project(points, data.K) - labels[..., :2]
        residual = away.norm(dim=-1) / (config.pixel_sigma * data.size[:, None])
        energy = energy + (labels[..., 2] * _robust(residual, reach)).sum(-1)
        spread = (state.offsets[name] / config.offset_sigma) ** 2
        energy = energy + spread.sum() * config.offset_people / max(1, len(energy))
    differences, weight = _bone_differences(data, config, anchors, turned)
    residual = differences.norm(dim=-1) / config.bone_sigma
    return energy + (weight * _robust(residual, reach)).sum(-1)


def _bone_differences(
    data: FitInput, config: FitConfig, anchors: Tensor, turned: Tensor
) -> tuple[Tensor, Tensor]:
    """Differences (N, B, 3) of the unit bone vectors and their weights (N, B)."""
    start, end = (list(part) for part in zip(*BONES))
    points = landmark_map("mediapipe33").place(anchors, turned, anchors.new_zeros(33, 3))
    ours = _unit(points[:, end] - points[:, start])
    theirs = _unit(data.world[:, end] - data.world[:, start])
    weight = data.world_weight[:, start] * data.world_weight[:, end]
    soft = weight.new_ones(len(BONES))
    soft[_SOFT_BONES:] = config.soft_bone
    return ours - theirs, weight * soft


def project(points: Tensor, K: Tensor) -> Tensor:
    """Pinhole projection of (N, P, 3) [m] to (N, P, 2) [px]; depths below 0.1 m count as 0.1."""
    rays = points[..., :2] / points[..., 2:].clamp(min=0.1)
    return rays @ K[:, :2, :2].mT + K[:, None, :2, 2]


def _result(body: BodyModel, data: FitInput, state: _State) -> FitResult:
    with torch.no_grad():
        rotations = state.rotations()
        anchors, turned = body_anchors(body, rotations, state.betas, state.transl())
        projected = {
            name: project(landmark_map(name).place(anchors, turned, state.offsets[name]), data.K)
            for name in data.keypoints
        }
        differences, weight = _bone_differences(data, FitConfig(), anchors, turned)
        angles = 2 * torch.asin((differences.norm(dim=-1) / 2).clamp(max=1))
        bone_error = (angles * weight).sum(-1) / weight.sum(-1).clamp(min=1e-6)
    offsets = {name: value.detach() for name, value in state.offsets.items()}
    betas, transl = state.betas.detach(), state.transl().detach()
    return FitResult(rotations, betas, transl, projected, bone_error, offsets)


def _robust(residual: Tensor, reach: float) -> Tensor:
    """Geman-McClure: the square of small residuals, at most `reach` squared."""
    square = residual**2
    return square * reach**2 / (square + reach**2)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-6)
