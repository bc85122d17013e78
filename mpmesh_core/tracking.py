"""track: who is who from frame to frame, where they go and how fast.

In   the people of one frame (FrameResult): position with covariance, box, betas, joints
Out  the same people with track_id, state, filtered position, its covariance and velocity; then
     those who are expected but not seen (`coasted`), then those given up in this frame (`lost`)
States: `new` until seen `confirm_hits` times, `tracked`, `coasted`, `lost` (once, then forgotten).
Only position, position_covariance and velocity are filtered; transl, joints and mesh of a seen
person stay this frame's measurement. Those of a coasted one are the last seen, moved along.
The image is never looked at: cues are the 3D position, the box, body shape and pose.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mpmesh_core import kalman
from mpmesh_core.association import assign, box_overlap, moved_boxes, moved_person
from mpmesh_core.pose import NOISE
from mpmesh_core.types import Array, FrameResult, Person

_NEW_PATIENCE = 0.25  # share of `max_coast_s` that a person not yet confirmed is waited for
_ROWS = ("ids", "mean", "covariance", "hits", "last_seen", "anchor", "betas", "pose")  # of `Tracks`
# Above, tracks of hidden people take others (simulated crowds); below, they break (rendered clips).
_UNMATCHED_COST = 0.75
_BETAS_MEMORY = 30  # frames in the running mean of the betas
# [s] in the running mean of the pose: while people pass one another the last one may be either's.
_POSE_MEMORY = 0.4
_SHORTEST = 1 / 30  # [s] that pass between two sightings, also where stamps stand still
_SURE = 0.6  # mean confidence from which on a position is as good as claimed


class TrackerConfig(BaseModel):
    """What can be chosen about tracking; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_coast_s: Annotated[float, Field(ge=0)] = Field(
        default=1.0, description="how long an unseen person is kept and reported as coasted [s]"
    )
    confirm_hits: Annotated[int, Field(ge=1)] = Field(
        default=3, description="frames a person must be seen in before new becomes tracked"
    )
    reset_gap_s: Annotated[float, Field(gt=0)] = Field(
        default=5.0,
        description="a longer gap between frames, or time going back, forgets everybody [s]",
    )
    acceleration: Annotated[float, Field(gt=0)] = Field(
        default=0.8, description="how much a person's velocity wanders in a second [m/s]"
    )
    speed_sigma: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="usual speed an axis, before anything is known [m/s]"
    )
    position_sigma: Annotated[float, Field(gt=0)] = Field(
        default=0.02, description="added to the claimed position noise, every direction [m]"
    )
    lasting_sigma: Annotated[float, Field(ge=0)] = Field(
        default=NOISE.common_sigma,
        description="of the claimed position noise, what stays the same from frame to frame, every "
        "direction [m]: no noise to the filter, and part again of what it claims",
    )
    unsure_sigma: Annotated[float, Field(ge=0)] = Field(
        default=0.3,
        description="added, every direction, where the network knows nothing of a person, less "
        "where it is surer [m]: what is half hidden seems to move",
    )
    range_sigma: Annotated[float, Field(ge=0)] = Field(
        default=0.03,
        description="added along the ray, as a fraction of the distance: monocular depth",
    )
    gate: Annotated[float, Field(gt=0)] = Field(
        default=20.0,
        description="largest squared Mahalanobis distance of a match (chi-square, 3 dof)",
    )
    overlap_gate: Annotated[float, Field(gt=0)] = Field(
        default=200.0,
        description="the same for a pair whose boxes overlap well: depth may have jumped",
    )
    least_overlap: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.4, description="IoU from which boxes overlap well"
    )


@dataclass(frozen=True)
class Tracks:
    """T people being followed, at one moment."""

    ids: Array  # (T,) int64
    mean: Array  # (T, 6) position [m] and velocity [m/s]
    covariance: Array  # (T, 6, 6)
    hits: Array  # (T,) int64, frames in which they were seen
    last_seen: Array  # (T,) [s]
    anchor: Array  # (T, 3) filtered position when last seen [m]
    betas: Array  # (T, 10) running mean
    pose: Array  # (T, 24, 3) running mean of the joints relative to the pelvis [m]
    people: tuple[Person, ...]  # as last seen

    def take(self, index: Array) -> Tracks:
        """The tracks of these rows."""
        rows = {name: getattr(self, name)[index] for name in _ROWS}
        return replace(self, people=tuple(self.people[i] for i in index), **rows)

    def joined(self, other: Tracks) -> Tracks:
        """These tracks and then the other ones."""
        rows = {n: np.concatenate((getattr(self, n), getattr(other, n))) for n in _ROWS}
        return replace(self, people=self.people + other.people, **rows)


def _no_tracks() -> Tracks:
    none = np.zeros(0, np.int64)
    return Tracks(
        none, np.zeros((0, 6)), np.zeros((0, 6, 6)), none, np.zeros(0), np.zeros((0, 3)),
        np.zeros((0, 10)), np.zeros((0, 24, 3)), (),
    )  # fmt: skip


@dataclass(frozen=True)
class TrackerState:
    """All that is remembered between two frames."""

    tracks: Tracks = field(default_factory=_no_tracks)
    stamp: float | None = None  # [s] of the last frame
    next_id: int = 1  # ids are never used twice


class Tracker:
    """Remembers the people of a sequence; one `update` a frame.

    Example:
        >>> tracker = Tracker()
        >>> empty = FrameResult(0, 0.0, "camera", 640, 480, np.eye(3), np.zeros(0))
        >>> tracker.update(empty).people
        []
    """

    def __init__(self, config: TrackerConfig | None = None) -> None:
        self.config = config or TrackerConfig()
        self.state = TrackerState()

    def update(self, result: FrameResult) -> FrameResult:
        """Give the people of the next frame their identities."""
        self.state, result = step(self.state, result, self.config)
        return result

    def reset(self, renumber: bool = False) -> None:
        """Forget everybody; ids go on counting, or begin again."""
        self.state = TrackerState() if renumber else TrackerState(next_id=self.state.next_id)

    def go_on_from(self, next_id: int) -> None:
        """Forget everybody; ids go on where another tracker's ended."""
        self.state = TrackerState(next_id=next_id)


def step(
    state: TrackerState, result: FrameResult, config: TrackerConfig
) -> tuple[TrackerState, FrameResult]:
    """One frame of tracking, without side effects.

    Args:
        state: what the frame before left.
        result: people of this frame; those whose position is not finite pass through untracked.
        config: of the tracker.

    Returns:
        The state for the next frame, and this frame's people with identities: the seen ones in
        their order, then coasted ones, then lost ones.
    """
    seen = _observe(result, config)
    carried, given_up = _carried(state, result.stamp, config)
    track_of, R = _associate(carried, seen, result.K, config)
    current = _current(carried, track_of, replace(seen, R=R), result.stamp, state.next_id, config)
    missed = carried.take(np.setdiff1d(np.arange(len(carried.ids)), track_of))
    patience = np.where(missed.hits >= config.confirm_hits, 1.0, _NEW_PATIENCE) * config.max_coast_s
    waiting = result.stamp - missed.last_seen <= patience
    coasted, lost = missed.take(np.flatnonzero(waiting)), missed.take(np.flatnonzero(~waiting))
    people = list(result.people)
    for i, person in zip(seen.index, _reported(current, config)):
        people[i] = person
    for tracks, name in ((coasted, "coasted"), (given_up, "lost"), (lost, "lost")):
        people += _expected(tracks, name, result.K, config)
    next_id = state.next_id + int((track_of < 0).sum())
    remembered = TrackerState(current.joined(coasted), result.stamp, next_id)
    return remembered, replace(result, people=people)


@dataclass(frozen=True)
class _Seen:
    """The D people of this frame that can be tracked."""

    index: list[int]  # where they stand in the frame
    people: tuple[Person, ...]
    positions: Array  # (D, 3) [m]
    R: Array  # (D, 3, 3) [m^2]
    betas: Array  # (D, 10)
    pose: Array  # (D, 24, 3) joints relative to the pelvis [m]


def _observe(result: FrameResult, config: TrackerConfig) -> _Seen:
    """Usable people, and how far to trust their positions."""
    index = [i for i, person in enumerate(result.people) if _usable(person)]
    people = tuple(result.people[i] for i in index)
    positions = _stacked([person.position for person in people], (3,))
    along = config.range_sigma * positions[..., None]
    confidence = np.nan_to_num([person.joint_confidence.mean() for person in people])
    unsure = config.unsure_sigma * (1 - confidence / _SURE).clip(min=0)
    claimed = _stacked([person.position_covariance for person in people], (3, 3))
    R = (
        claimed
        - _lasting(claimed, config)
        + along @ along.swapaxes(-1, -2)
        + (config.position_sigma**2 + unsure**2)[:, None, None] * np.eye(3)
    )
    betas = _stacked([person.betas for person in people], (10,))
    joints = _stacked([person.joints for person in people], (24, 3))
    return _Seen(index, people, positions, R, betas, joints - joints[:, :1])


def _lasting(claimed: Array, config: TrackerConfig) -> Array:
    """(N, 3, 3) part of claimed covariances that stays; always less than all of them."""
    least = np.linalg.eigvalsh(claimed)[:, 0].clip(min=0)
    return np.minimum(config.lasting_sigma**2, 0.9 * least)[:, None, None] * np.eye(3)


def _usable(person: Person) -> bool:
    parts = (person.position, person.position_covariance, person.bbox, person.betas, person.joints)
    return all(np.isfinite(part).all() for part in parts)


def _stacked(rows: list[Array], shape: tuple[int, ...]) -> Array:
    return np.array(rows, np.float64).reshape(-1, *shape)


def _carried(state: TrackerState, stamp: float, config: TrackerConfig) -> tuple[Tracks, Tracks]:
    """Tracks as expected now, and those given up because time went back or jumped."""
    dt = 0.0 if state.stamp is None else stamp - state.stamp
    tracks = state.tracks
    if not 0.0 <= dt <= config.reset_gap_s:
        return _no_tracks(), tracks
    mean, covariance = kalman.predict(tracks.mean, tracks.covariance, dt, config.acceleration**2)
    return replace(tracks, mean=mean, covariance=covariance), _no_tracks()


def _associate(tracks: Tracks, seen: _Seen, K: Array, config: TrackerConfig) -> tuple[Array, Array]:
    """The track of each seen person (D,), -1 without; and R (D, 3, 3), larger for jumps."""
    squared, growth = kalman.distances(tracks.mean, tracks.covariance, seen.positions, seen.R)
    boxes = moved_boxes(
        _stacked([person.bbox for person in tracks.people], (4,)), tracks.anchor, tracks.mean, K
    )
    overlap = box_overlap(boxes, _stacked([person.bbox for person in seen.people], (4,)))
    near = squared < config.gate
    jumped = (squared < config.overlap_gate) & (overlap >= config.least_overlap)
    pose = tracks.pose[:, None] - seen.pose[None]  # (T, D, 24, 3)
    shape = tracks.betas[:, None] - seen.betas
    cost = (
        np.minimum((squared + growth) / config.gate, 1.0)
        + 0.25 * (1.0 - overlap)  # no more: boxes of people who pass one another become one
        + 0.5 * np.minimum(np.linalg.norm(pose, axis=-1).mean(-1) / 0.4, 1.0)
        + 0.25 * np.minimum(np.linalg.norm(shape, axis=-1) / 4.0, 1.0)
    )
    track_of = assign(np.where(near | jumped, cost, np.inf), unmatched_cost=_UNMATCHED_COST)
    matched = np.flatnonzero(track_of >= 0)
    jump = np.ones(len(track_of))
    jump[matched] = np.maximum(squared[track_of[matched], matched] / config.gate, 1.0)
    return track_of, seen.R * jump[:, None, None]


def _current(
    tracks: Tracks, track_of: Array, seen: _Seen, stamp: float, next_id: int, config: TrackerConfig
) -> Tracks:
    """One track per seen person: the one it belongs to, corrected, or a new one."""
    known = track_of >= 0
    before = tracks.take(track_of[known])
    mean, covariance = kalman.initiate(seen.positions, seen.R, config.speed_sigma)
    mean[known], covariance[known] = kalman.update(
        before.mean, before.covariance, seen.positions[known], seen.R[known]
    )
    ids = next_id + np.cumsum(~known) - 1
    hits = np.ones(len(known), np.int64)
    betas, pose = seen.betas.copy(), seen.pose.copy()
    ids[known], hits[known] = before.ids, before.hits + 1
    share = 1.0 / np.minimum(hits[known], _BETAS_MEMORY)[:, None]
    betas[known] = before.betas + share * (betas[known] - before.betas)
    passed = np.maximum(stamp - before.last_seen, _SHORTEST)
    fresh = (1 - np.exp(-passed / _POSE_MEMORY))[:, None, None]
    pose[known] = before.pose + fresh * (pose[known] - before.pose)
    last_seen = np.full(len(known), stamp)
    return Tracks(ids, mean, covariance, hits, last_seen, mean[:, :3], betas, pose, seen.people)


def _reported(tracks: Tracks, config: TrackerConfig) -> list[Person]:
    """People as last seen, with what the filter knows of them."""
    claimed = _stacked([person.position_covariance for person in tracks.people], (3, 3))
    return [
        replace(
            person,
            track_id=int(track_id),
            state="tracked" if hits >= config.confirm_hits else "new",
            position=mean[:3].copy(),
            position_covariance=covariance[:3, :3] + lasting,
            velocity=mean[3:].copy() if hits >= config.confirm_hits else None,
        )
        for person, lasting, track_id, hits, mean, covariance in zip(
            tracks.people,
            _lasting(claimed, config),
            tracks.ids,
            tracks.hits,
            tracks.mean,
            tracks.covariance,
        )
    ]


def _expected(tracks: Tracks, name: str, K: Array, config: TrackerConfig) -> list[Person]:
    """People who were not seen, moved to where they are expected."""
    return [
        replace(moved_person(person, before, K), state=name)
        for person, before in zip(_reported(tracks, config), tracks.anchor)
    ]
