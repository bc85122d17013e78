"""fit: bodies to the 2D labels and teacher 3D of many people at once.

In   `FitInput`: landmarks in px of one or more conventions, 33 teacher landmarks in 3D, intrinsics
Out  `FitResult`: SMPL rotations, betas, transl in the camera frame, reprojection, bone error

Minimises, for each person on its own but in one batch, robust reprojection errors of all labelled
landmarks, robust differences of bone directions to the teacher's 3D, joint limits and a Gaussian
prior on the shape, by Levenberg-Marquardt. The directions of the teacher are used, not its
lengths: those shrink where it is unsure. All people share one small set of learned landmark
offsets per convention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import roma
import torch
from torch import Tensor

from mpmesh_core.body import BodyModel
from mpmesh_core.checks import check_shapes
from mpmesh_core.training.fit_system import (
    UNKNOWNS,
    FitConfig,
    FitInput,
    FitState,
    Problem,
    System,
    bone_differences,
    landmarks,
    project,
    project_slope,
    system,
)
from mpmesh_core.training.landmark_map import body_anchors, landmark_map
from mpmesh_core.training.pose_init import initial_rotations

__all__ = ["FitConfig", "FitInput", "FitResult", "fit", "fit_many", "project"]

_STAGES = ((5.0, False), (5.0, True), (2.0, True), (1.0, True))  # widening, whole body
_PELVIS_AND_PLACE = (0, 1, 2, 72, 73, 74)
_MIRROR = (-1.0, 1.0, 1.0)


@dataclass(frozen=True)
class FitResult:
    """N fitted bodies in the camera frame."""

    rotations: Tensor  # (N, 24, 3, 3)
    betas: Tensor  # (N, 10)
    transl: Tensor  # (N, 3) [m]
    projected: dict[str, Tensor]  # convention -> (N, K, 2) px, where the landmarks came to lie
    bone_error: Tensor  # (N,) mean angle to the teacher's bones [rad]
    offsets: dict[str, Tensor]  # convention -> (K, 3) [m] learned


@torch.no_grad()
def fit(
    body: BodyModel,
    data: FitInput,
    config: FitConfig | None = None,
    offsets: dict[str, Tensor] | None = None,
) -> FitResult:
    """Fit one body to each person.

    Args:
        body: model with COCO-17 keypoints.
        data: labels, `mediapipe33` among them; a weight of 0 takes a landmark out.
        config: weights and schedule.
        offsets: landmark offsets learned by an earlier fit (then each person's result is
            independent of all others), None to learn them from these people.

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
    problem = Problem(body, data, config or FitConfig())
    learn = offsets is None
    known = offsets or {
        name: value.new_zeros(value.shape[1], 3) for name, value in data.keypoints.items()
    }
    state = _start(body, data, known)
    for widen, whole in _STAGES:
        state = _descend(problem, state, known, widen, whole)
        if learn and whole:
            known = _learn_offsets(problem, state, known, widen)
    return _result(body, data, state, known)


def fit_many(
    body: BodyModel,
    data: FitInput,
    config: FitConfig | None = None,
    chunk: int = 256,
    progress: Callable[[int], None] | None = None,
) -> FitResult:
    """Fit any number of people, a chunk at a time.

    The landmark offsets are learned from the first chunks and then kept.

    Args:
        body: as in `fit`.
        data: as in `fit`; put the people with human labels first.
        config: as in `fit`.
        chunk: people at a time.
        progress: called with the number of people done.
    """
    offsets = fit(body, _part(data, 0, 2 * chunk), config).offsets
    parts = []
    for start in range(0, max(1, len(data.size)), chunk):
        parts.append(fit(body, _part(data, start, start + chunk), config, offsets))
        if progress:
            progress(min(start + chunk, len(data.size)))
    columns = ("rotations", "betas", "transl", "bone_error")
    joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in columns}
    projected = {
        name: torch.cat([part.projected[name] for part in parts]) for name in data.keypoints
    }
    return FitResult(**joined, projected=projected, offsets=offsets)


def _part(data: FitInput, start: int, stop: int) -> FitInput:
    rows = slice(start, stop)
    keypoints = {name: value[rows] for name, value in data.keypoints.items()}
    return FitInput(
        keypoints, data.world[rows], data.world_weight[rows], data.K[rows], data.size[rows]
    )


def _start(body: BodyModel, data: FitInput, offsets: dict[str, Tensor]) -> FitState:
    """Pose from the teacher's 3D, place from the spread of the landmarks in the picture."""
    rotations = initial_rotations(data.world)
    zeros, count = data.world.new_zeros, len(data.world)
    anchors, turned = body_anchors(body, rotations, zeros(count, 10), zeros(count, 3))
    model, image, weight = [], [], []
    for name, labels in data.keypoints.items():
        model.append(landmark_map(name).place(anchors, turned, offsets[name])[..., :2])
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
    transl = torch.cat([centre - model_mean, depth[:, None]], dim=1)
    pose = roma.rotmat_to_rotvec(rotations)
    pose[:, 0] = 0.0
    return FitState(rotations[:, 0], pose, transl, zeros(count, 10))


def _moments(points: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean (N, 2) and spread (N,) of points (N, P, 2)."""
    mean = (points * share).sum(1)
    return mean, (((points - mean[:, None]) ** 2) * share).sum((1, 2)).sqrt()


def _descend(
    problem: Problem,
    state: FitState,
    offsets: dict[str, Tensor],
    widen: float,
    whole: bool,
) -> FitState:
    """Levenberg-Marquardt, each person with its own damping; rejected steps are not taken."""
    data = problem.data
    free = torch.ones_like(data.size.new_empty(UNKNOWNS))
    if not whole:
        free = torch.zeros_like(free)
        free[list(_PELVIS_AND_PLACE)] = 1.0
    damping = torch.full_like(data.size, 0.1)
    now = system(problem, state, offsets, widen)
    for _ in range(problem.config.steps):
        tried = state.moved(_step(now, damping, free))
        then = system(problem, tried, offsets, widen)
        better = then.energy < now.energy
        state = FitState(**_choose(better, vars(tried), vars(state)))
        now = System(**_choose(better, vars(then), vars(now)))
        damping = torch.where(better, damping * 0.3, damping * 5.0).clamp(1e-5, 1e5)
    return state


def _step(now: System, damping: Tensor, free: Tensor) -> Tensor:
    """(N, 85) damped Gauss-Newton step of the free unknowns."""
    diagonal = now.hessian.diagonal(dim1=-2, dim2=-1)
    stiff = now.hessian + torch.diag_embed(damping[:, None] * diagonal + 1e-3)
    stiff = stiff * free * free[:, None] + torch.diag(1 - free)
    lower, _ = torch.linalg.cholesky_ex(stiff)
    step = -torch.cholesky_solve((now.gradient * free)[..., None], lower)[..., 0]
    return torch.nan_to_num(step).clamp(-1.0, 1.0)  # [rad], [m]


def _choose(better: Tensor, new: dict[str, Tensor], old: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: torch.where(better.view(-1, *[1] * (value.dim() - 1)), value, old[name])
        for name, value in new.items()
    }


def _learn_offsets(
    problem: Problem, state: FitState, offsets: dict[str, Tensor], widen: float
) -> dict[str, Tensor]:
    """One Gauss-Newton step of all landmark offsets with the bodies held still."""
    data, config = problem.data, problem.config
    posed = landmarks(problem.body, state, offsets)
    learned = {}
    sigma = (config.pixel_sigma * data.size)[:, None, None]
    reach = config.robust * widen
    for name, labels in data.keypoints.items():
        mapping = landmark_map(name)
        points = posed.points[name]
        residual = (project(points, data.K) - labels[..., :2]) / sigma
        pull = labels[..., 2] * (reach**2 / ((residual**2).sum(-1) + reach**2)) ** 2
        slope = project_slope(points, data.K) @ posed.turned[:, list(mapping.frame)]
        slope = slope / sigma[..., None]  # (N, K, 2, 3)
        weighted = slope.mT * pull[..., None, None]
        hessian = (weighted @ slope).sum(0)
        gradient = (weighted @ residual[..., None]).sum(0)[..., 0]
        learned[name] = offsets[name] + _offset_step(
            hessian, gradient, offsets[name], mapping.flip, config
        )
    return learned


def _offset_step(
    hessian: Tensor,
    gradient: Tensor,
    offsets: Tensor,
    flip: tuple[int, ...],
    config: FitConfig,
) -> Tensor:
    """(K, 3) step, the same for mirror twins."""
    mirror = torch.diag(offsets.new_tensor(_MIRROR))
    both = hessian + mirror @ hessian[list(flip)] @ mirror
    pull = gradient + gradient[list(flip)] @ mirror
    stiff = 2 * config.offset_people / config.offset_sigma**2
    eye = torch.eye(3, dtype=offsets.dtype, device=offsets.device)
    return -torch.linalg.solve(both + stiff * eye, (pull + stiff * offsets)[..., None])[..., 0]


def _result(
    body: BodyModel, data: FitInput, state: FitState, offsets: dict[str, Tensor]
) -> FitResult:
    posed = landmarks(body, state, offsets)
    projected = {name: project(posed.points[name], data.K) for name in data.keypoints}
    differences, weight = bone_differences(data, posed.points["mediapipe33"])
    angles = 2 * torch.asin((differences.norm(dim=-1) / 2).clamp(max=1))
    bone_error = (angles * weight).sum(-1) / weight.sum(-1).clamp(min=1e-6)
    return FitResult(state.rotations(), state.betas, state.transl, projected, bone_error, offsets)
