"""smooth: quieter bodies on video, after `track` and only where asked for.

In   people with track ids (FrameResult), the frame's camera
Out  the same people with pose, shape and place filtered over time, and joints, keypoints and
     vertices of those bodies; `position`, its covariance and `velocity` stay the tracker's
1-euro filter: a low pass whose cutoff rises with speed, so that rest is calm and motion does not
lag. Rotations are filtered on SO(3) by their log maps; the place as the ray to the pelvis and the
log of its depth, since a single camera sees the one far better than the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import roma
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mpmesh_core.body import BodyModel
from mpmesh_core.camera import Camera
from mpmesh_core.types import FrameResult, Person

_NEAREST = 0.1  # [m], least depth of a pelvis
_RATE_CUTOFF = 1.0  # [Hz] of the low pass on the speed that steers the cutoff


class OneEuro(BaseModel):
    """One filter: cutoff [Hz] = least_cutoff + slope * speed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    least_cutoff: Annotated[float, Field(gt=0)] = Field(description="cutoff at rest [Hz]")
    slope: Annotated[float, Field(ge=0)] = Field(description="cutoff per unit of speed")


class SmootherConfig(BaseModel):
    """What can be chosen about smoothing; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rotation: OneEuro = Field(
        default=OneEuro(least_cutoff=1.5, slope=0.6), description="joints; speed in rad/s"
    )
    ray: OneEuro = Field(
        default=OneEuro(least_cutoff=2.0, slope=20.0), description="x/z, y/z of the pelvis; 1/s"
    )
    depth: OneEuro = Field(
        default=OneEuro(least_cutoff=0.5, slope=2.0), description="log of its depth; 1/s"
    )
    betas: OneEuro = Field(default=OneEuro(least_cutoff=0.1, slope=0.0), description="body shape")
    reset_gap_s: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="after a longer gap, or time going back, filters start anew [s]"
    )


@dataclass(frozen=True)
class Filtered:
    """A filter's memory of T signals."""

    value: Tensor  # (T, ...) filtered
    raw: Tensor  # (T, ...) as it came in
    rate: Tensor  # (T, ...) low-passed change per second; rotation vectors for rotations

    def take(self, index: Tensor) -> Filtered:
        """The signals of these rows."""
        return Filtered(self.value[index], self.raw[index], self.rate[index])


def start_vectors(raw: Tensor) -> Filtered:
    """Filters of vectors (T, ..., C) that have just begun."""
    return Filtered(raw, raw, torch.zeros_like(raw))


def start_rotations(raw: Tensor) -> Filtered:
    """Filters of rotations (T, ..., 3, 3) that have just begun."""
    return Filtered(raw, raw, torch.zeros_like(raw[..., 0]))


def smooth_vectors(before: Filtered, raw: Tensor, dt: float, filter_: OneEuro) -> Filtered:
    """One step `dt` [s] later; the C components of (T, ..., C) share one speed."""
    rate = _rate(before.rate, raw - before.raw, dt)
    value = before.value + _share(rate, dt, filter_) * (raw - before.value)
    return Filtered(value, raw, rate)


def smooth_rotations(before: Filtered, raw: Tensor, dt: float, filter_: OneEuro) -> Filtered:
    """One step `dt` [s] later for rotations (T, ..., 3, 3), along geodesics.

    Turning all inputs by a fixed rotation from the left turns the output by the same. Between
    opposite rotations (180 degrees) either way is taken.
    """
    rate = _rate(before.rate, roma.rotmat_to_rotvec(before.raw.mT @ raw), dt)
    offset = roma.rotmat_to_rotvec(before.value.mT @ raw)
    value = before.value @ roma.rotvec_to_rotmat(_share(rate, dt, filter_) * offset)
    return Filtered(roma.special_gramschmidt(value[..., :2]), raw, rate)


def _rate(before: Tensor, change: Tensor, dt: float) -> Tensor:
    if dt <= 0:
        return before
    return before + (1 - math.exp(-2 * math.pi * _RATE_CUTOFF * dt)) * (change / dt - before)


def _share(rate: Tensor, dt: float, filter_: OneEuro) -> Tensor:
    """How much of the new value is taken, (T, ..., 1)."""
    speed = torch.linalg.vector_norm(rate, dim=-1, keepdim=True)
    return 1 - torch.exp(-2 * math.pi * dt * (filter_.least_cutoff + filter_.slope * speed))


@dataclass(frozen=True)
class Signals:
    """What is filtered of T people, as it came in or as filters."""

    rotation: Tensor  # (T, 24, 3, 3)
    ray: Tensor  # (T, 2) x/z, y/z of the pelvis
    depth: Tensor  # (T, 1) log of its depth [m]
    betas: Tensor  # (T, 10)


@dataclass(frozen=True)
class SmootherState:
    """What is remembered of T people between two frames."""

    ids: tuple[int, ...] = ()
    stamp: float = math.nan  # [s]
    rotation: Filtered | None = None
    ray: Filtered | None = None
    depth: Filtered | None = None
    betas: Filtered | None = None


def step(
    state: SmootherState,
    ids: tuple[int, ...],
    signals: Signals,
    stamp: float,
    config: SmootherConfig,
) -> tuple[SmootherState, Signals]:
    """Filter the people of one frame, each by their id; new ones begin with what they are."""
    dt = stamp - state.stamp
    keep = 0 <= dt <= config.reset_gap_s
    row = torch.tensor(
        [state.ids.index(i) if keep and i in state.ids else -1 for i in ids], dtype=torch.long
    )
    rotation, ray, depth, betas = (
        _advanced(getattr(state, name), getattr(signals, name), row, dt, getattr(config, name))
        for name in ("rotation", "ray", "depth", "betas")
    )
    state = SmootherState(ids, stamp, rotation, ray, depth, betas)
    return state, Signals(rotation.value, ray.value, depth.value, betas.value)


def _advanced(
    before: Filtered | None, raw: Tensor, row: Tensor, dt: float, filter_: OneEuro
) -> Filtered:
    """Filters of this frame's people; `row` (T,) is their place in `before`, -1 for new ones."""
    rotations = raw.shape[-2:] == (3, 3)
    fresh = start_rotations(raw) if rotations else start_vectors(raw)
    if before is None or not (row >= 0).any():
        return fresh
    smooth = smooth_rotations if rotations else smooth_vectors
    stepped = smooth(before.take(row.clamp(min=0)), raw, dt, filter_)
    known = (row >= 0).view(-1, *[1] * (raw.dim() - 1))
    return Filtered(
        torch.where(known, stepped.value, fresh.value),
        raw,
        torch.where(known if not rotations else known[..., 0], stepped.rate, fresh.rate),
    )


class Smoother:
    """Remembers the people of a sequence; one `update` a frame, after the tracker."""

    def __init__(self, body: BodyModel, config: SmootherConfig | None = None) -> None:
        self.body = body
        self.config = config or SmootherConfig()
        self.state = SmootherState()

    def reset(self) -> None:
        """Forget everybody."""
        self.state = SmootherState()

    def update(self, result: FrameResult, camera: Camera) -> FrameResult:
        """Smooth everybody who has a track; lost and untracked people pass through.

        Args:
            result: of this frame, tracked.
            camera: of this frame, to project the new joints.
        """
        index = [i for i, p in enumerate(result.people) if p.track_id >= 0 and p.state != "lost"]
        chosen = [result.people[i] for i in index]
        ids = tuple(person.track_id for person in chosen)
        signals = _signals(chosen, self.body)
        self.state, signals = step(self.state, ids, signals, result.stamp, self.config)
        people = list(result.people)
        for i, person in zip(index, _rebuilt(chosen, signals, self.body, camera)):
            people[i] = person
        return replace(result, people=people)


def _stacked(rows: list[np.ndarray], width: int, like: Tensor) -> Tensor:
    return torch.tensor(np.array(rows).reshape(-1, width), dtype=like.dtype, device=like.device)


def _signals(people: list[Person], body: BodyModel) -> Signals:
    like = body.v_template
    rotvecs = [np.concatenate((p.global_orient, p.body_pose)) for p in people]
    rotation = roma.rotvec_to_rotmat(_stacked(rotvecs, 72, like).view(-1, 24, 3))
    pelvis = _stacked([p.joints[0] for p in people], 3, like)
    depth = pelvis[:, 2:].clamp(min=_NEAREST)
    betas = _stacked([p.betas for p in people], 10, like)
    return Signals(rotation, pelvis[:, :2] / depth, depth.log(), betas)


@torch.inference_mode()
def _rebuilt(
    people: list[Person], signals: Signals, body: BodyModel, camera: Camera
) -> list[Person]:
    """People with the bodies that these signals describe."""
    if not people:
        return []
    depth = signals.depth.exp()
    pelvis = torch.cat((signals.ray * depth, depth), dim=-1)
    transl = pelvis - body.rest_joints(signals.betas)[:, 0]
    parameters = (signals.rotation, signals.betas, transl)
    meshes = any(person.vertices is not None for person in people)
    posed = body(*parameters, vertices=meshes)
    rotvec = roma.rotmat_to_rotvec(signals.rotation)
    fields = {
        "global_orient": rotvec[:, 0],
        "body_pose": rotvec[:, 1:].flatten(1),
        "betas": signals.betas,
        "transl": transl,
        "joints": posed.joints,
        "joints_2d": camera.project(posed.joints),
        "coco_2d": camera.project(body.keypoints(*parameters, "coco17")),
        "h36m": body.keypoints(*parameters, "h36m17"),
    }
    arrays = {name: value.cpu().numpy() for name, value in fields.items()}
    vertices = None if posed.vertices is None else posed.vertices.cpu().numpy()
    return [
        replace(
            person,
            vertices=None if vertices is None or person.vertices is None else vertices[i],
            **{name: values[i] for name, values in arrays.items()},
        )
        for i, person in enumerate(people)
    ]
