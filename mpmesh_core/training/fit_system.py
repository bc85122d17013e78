"""fit_system: energy of bodies against their labels, and its Gauss-Newton equations.

In   `FitInput` (labels), `FitState` (unknowns), landmark offsets
Out  energy (N,), gradient (N, 85) and approximate Hessian (N, 85, 85), halves of the derivatives

Unknowns of a person, in this order: 24 rotation vectors (joint 0: a turn of the pelvis from where
it is), translation, 10 betas. A landmark's derivative treats it as fixed to the one joint that its
map names; the energy itself is exact. Robust residuals enter with their current weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import roma
import torch
from torch import Tensor

from mpmesh_core.body import BodyModel
from mpmesh_core.joints import POINTS, SMPL_PARENTS
from mpmesh_core.training.landmark_map import LandmarkMap, body_anchors, landmark_map
from mpmesh_core.training.pose_prior import pose_prior

BONES = (  # pairs of MediaPipe landmarks whose direction the teacher's 3D gives
    (11, 13), (13, 15), (12, 14), (14, 16), (23, 25), (25, 27), (24, 26), (26, 28), (11, 12),
    (23, 24), (11, 23), (12, 24), (7, 8), (7, 0), (8, 0), (29, 31), (30, 32), (15, 19), (16, 20),
    (17, 19), (18, 20),
)  # fmt: skip
_SOFT_BONES = 12  # bones from here on (head, feet, hands) count less
_COCO_POINT = (15, 15, 15, 15, 15, 16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8)  # nearest body point
UNKNOWNS = 85
_POSE, _PLACE = 72, 75  # ends of the pose and of the translation in the unknowns


@dataclass(frozen=True)
class FitConfig:
    """Weights and schedule of the fit; residuals are divided by the sigmas first."""

    steps: int = 12  # of each stage
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
class Problem:
    """Whose labels, which body, what counts how much."""

    body: BodyModel
    data: FitInput
    config: FitConfig


@dataclass(frozen=True)
class FitState:
    """Where the bodies are."""

    pelvis: Tensor  # (N, 3, 3) in the camera frame
    pose: Tensor  # (N, 24, 3) rotation vectors [rad], joint 0 unused (zero)
    transl: Tensor  # (N, 3) [m]
    betas: Tensor  # (N, 10)

    def rotations(self) -> Tensor:
        """(N, 24, 3, 3) local rotations."""
        body = roma.rotvec_to_rotmat(self.pose[:, 1:])
        return torch.cat([self.pelvis[:, None], body], dim=1)

    def moved(self, step: Tensor) -> FitState:
        """The state after a step (N, 85)."""
        turns = step[:, :_POSE].unflatten(1, (24, 3))
        pelvis = roma.special_gramschmidt(self.pelvis @ roma.rotvec_to_rotmat(turns[:, 0]))
        pose = torch.cat([self.pose[:, :1], self.pose[:, 1:] + turns[:, 1:]], dim=1)
        return FitState(
            pelvis, pose, self.transl + step[:, _POSE:_PLACE], self.betas + step[:, _PLACE:]
        )


@dataclass(frozen=True)
class Landmarks:
    """All conventions' landmarks of posed bodies, and how they move."""

    points: dict[str, Tensor]  # convention -> (N, K, 3) [m]
    turned: Tensor  # (N, 24, 3, 3) global rotations
    moves: dict[str, Tensor] = field(default_factory=dict)  # -> (N, K, 3, 85) derivatives


@dataclass(frozen=True)
class System:
    """Energy and its Gauss-Newton equations, one person a row."""

    energy: Tensor  # (N,)
    gradient: Tensor  # (N, 85)
    hessian: Tensor  # (N, 85, 85)


def landmarks(
    body: BodyModel, state: FitState, offsets: dict[str, Tensor], moves: bool = False
) -> Landmarks:
    """Pose the bodies and put the landmarks of every convention in `offsets` on them."""
    rotations = state.rotations()
    anchors, turned = body_anchors(body, rotations, state.betas, state.transl)
    maps = {name: landmark_map(name) for name in offsets}
    points = {name: m.place(anchors, turned, offsets[name]) for name, m in maps.items()}
    if not moves:
        return Landmarks(points, turned)
    axes = turned @ _right_jacobian(state.pose)  # (N, 24, 3, 3)
    shapes = _shape_moves(body, turned)  # (N, 46, 3, 10)
    joints = anchors[:, :24]
    derivatives = {name: _moves(m, points[name], joints, axes, shapes) for name, m in maps.items()}
    return Landmarks(points, turned, derivatives)


def system(problem: Problem, state: FitState, offsets: dict[str, Tensor], widen: float) -> System:
    """Energy, gradient and Hessian; `widen` multiplies the reach of the robust residuals."""
    config = problem.config
    posed = landmarks(problem.body, state, offsets, moves=True)
    reach = config.robust * widen
    prior = pose_prior(state.pose)
    energy = config.prior * prior.penalty(state.pose) + config.shape * (state.betas**2).sum(-1)
    first, second = (config.prior * part.flatten(1) for part in prior.slope(state.pose))
    place = torch.zeros_like(state.transl)
    gradient = torch.cat([first, place, config.shape * state.betas], dim=1)
    stiff = torch.cat([second, place, config.shape * torch.ones_like(state.betas)], dim=1)
    hessian = torch.diag_embed(stiff)
    groups = [_pixel_residuals(problem, posed, name) for name in problem.data.keypoints]
    groups.append(_bone_residuals(problem, posed))
    for residual, move, weight in groups:  # (N, R, d), (N, R, d, 85), (N, R)
        square = (residual**2).sum(-1)
        shrink = reach**2 / (square + reach**2)
        energy = energy + (weight * square * shrink).sum(-1)
        pull = (weight * shrink**2)[..., None]  # derivative of Geman-McClure
        flat = (move * pull.sqrt()[..., None]).flatten(1, 2)
        gradient = gradient + (flat.mT @ (residual * pull.sqrt()).flatten(1)[..., None])[..., 0]
        hessian = hessian + flat.mT @ flat
    return System(energy, gradient, hessian)


def project(points: Tensor, K: Tensor) -> Tensor:
    """Pinhole projection of (N, P, 3) [m] to (N, P, 2) [px]; depths below 0.1 m count as 0.1."""
    rays = points[..., :2] / points[..., 2:].clamp(min=0.1)
    return rays @ K[:, :2, :2].mT + K[:, None, :2, 2]


def project_slope(points: Tensor, K: Tensor) -> Tensor:
    """(N, P, 2, 3) derivative of `project`."""
    depth = points[..., 2:].clamp(min=0.1)
    rays = points[..., :2] / depth
    eye = torch.eye(2, dtype=points.dtype, device=points.device).expand(*rays.shape, 2)
    return K[:, None, :2, :2] @ torch.cat([eye, -rays[..., None]], dim=-1) / depth[..., None]


def bone_differences(data: FitInput, points: Tensor) -> tuple[Tensor, Tensor]:
    """Ours minus the teacher's unit bone vectors (N, B, 3), and the trust in them (N, B)."""
    start, end = (list(part) for part in zip(*BONES))
    ours = _unit(points[:, end] - points[:, start])
    theirs = _unit(data.world[:, end] - data.world[:, start])
    return ours - theirs, data.world_weight[:, start] * data.world_weight[:, end]


def _pixel_residuals(
    problem: Problem, posed: Landmarks, name: str
) -> tuple[Tensor, Tensor, Tensor]:
    data, config = problem.data, problem.config
    labels, points = data.keypoints[name], posed.points[name]
    sigma = (config.pixel_sigma * data.size)[:, None, None]
    residual = (project(points, data.K) - labels[..., :2]) / sigma
    move = project_slope(points, data.K) @ posed.moves[name] / sigma[..., None]
    return residual, move, labels[..., 2]


def _bone_residuals(problem: Problem, posed: Landmarks) -> tuple[Tensor, Tensor, Tensor]:
    data, config = problem.data, problem.config
    points, moves = posed.points["mediapipe33"], posed.moves["mediapipe33"]
    start, end = (list(part) for part in zip(*BONES))
    bones = points[:, end] - points[:, start]
    length = bones.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    along = bones / length
    move = moves[:, end] - moves[:, start]
    across = move - along[..., None] * (along[..., None, :] @ move)
    differences, weight = bone_differences(data, points)
    soft = weight.new_ones(len(BONES))
    soft[_SOFT_BONES:] = config.soft_bone
    sigma = config.bone_sigma
    return differences / sigma, across / length[..., None] / sigma, weight * soft


def _moves(
    mapping: LandmarkMap, points: Tensor, joints: Tensor, axes: Tensor, shapes: Tensor
) -> Tensor:
    """(N, K, 3, 85) derivatives of landmarks by the unknowns."""
    count = points.shape[1]
    carried = points.new_tensor(_ANCESTORS)[list(mapping.frame)]  # (K, 24)
    arms = (points[:, :, None] - joints[:, None]) * carried[..., None]  # (N, K, 24, 3)
    turns = torch.linalg.cross(axes.mT[:, None], arms[..., None, :])  # (N, K, 24, axis, 3)
    turns = turns.flatten(2, 3).mT  # (N, K, 3, 72)
    eye = torch.eye(3, dtype=points.dtype, device=points.device)
    place = eye.expand(len(points), count, 3, 3)
    return torch.cat([turns, place, shapes[:, list(mapping.anchor)]], dim=-1)


def _shape_moves(body: BodyModel, turned: Tensor) -> Tensor:
    """(N, 46, 3, 10) derivatives of the anchors by the betas."""
    betas = torch.eye(10, dtype=turned.dtype, device=turned.device)
    dirs = body.rest_points(betas) - body.rest_points(torch.zeros_like(betas))  # (10, 29, 3)
    moved = body.tree.positions(turned[:, None], dirs).permute(0, 2, 3, 1)
    return moved[:, [*range(len(POINTS)), *_COCO_POINT]]


def _right_jacobian(vectors: Tensor) -> Tensor:
    """(..., 3, 3) with exp(v + d) = exp(v) exp(J d) to first order."""
    angle = vectors.norm(dim=-1)[..., None, None].clamp(min=1e-4)
    zero = torch.zeros_like(vectors[..., 0])
    x, y, z = vectors.unbind(-1)
    hat = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    eye = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    a = (1 - angle.cos()) / angle**2
    b = torch.where(angle > 0.05, (angle - angle.sin()) / angle**3, (1 - angle**2 / 20) / 6)
    return eye - a * hat + b * hat @ hat


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-6)


def _ancestors() -> list[list[float]]:
    """Row j: 1 for each joint whose rotation moves what hangs on joint j, itself included."""
    rows: list[list[float]] = []
    for joint, parent in enumerate(SMPL_PARENTS):
        row = list(rows[parent]) if parent >= 0 else [0.0] * len(SMPL_PARENTS)
        row[joint] = 1.0
        rows.append(row)
    return rows


_ANCESTORS = _ancestors()
