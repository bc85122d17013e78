"""foreshorten: a skeleton takes the body's bone lengths and keeps its place in the picture.

In   points (..., 29, 3) [m, camera frame], rest points of the body's shape (..., 29, 3),
     confidence (..., 29)
Out  points (..., 29, 3) whose bones are nearly as long as the body's

Pictures tell well where a point is across the line of sight and badly along it, and a network that
is unsure of depth says too little of it. So where a bone is too short or too long, its ends move
along the line of sight first, unless they are unsure across it too: a limb that looks short points
towards the camera or away from it. Inverse kinematics alone would keep the direction, and land the
hand beside the hand.

A skeleton that is too small or too large as a whole would bend every limb that way. Mostly that is
a network that is unsure (its size tells nothing of the person's). So half of the difference (in
logarithms) is taken off beforehand: the skeleton moves away or nearer as a whole.

An exact skeleton doesn't move. The head goes with the neck: its bones are so short that they would
turn it with every pixel.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from mpmesh_core.checks import check_shapes
from mpmesh_core.joints import POINT_PARENTS, POINTS
from mpmesh_core.kinematic_tree import length_of

RESIZED = 0.5  # of the difference in size; from 0.3 to 0.7 is as good, all or nothing are not
PASSES = 8  # 40 change keypoints by 0.2 % more
ALONG_SIGHT = 8.0  # how much more easily a sure point moves along the line of sight than across it
_OVERSHOOT = 1.5  # every bone moves its ends at once, so each move is shared and may be larger
_LEAST_CONFIDENCE = 0.02
_SIZES = 0.5, 2.0  # of a skeleton, as a part of the body's, that are believed
_EPS = 1e-6  # [m]
_HEAD = (POINTS.index("head"), POINTS.index("head_top"))


def foreshorten(
    points: Tensor, rest_points: Tensor, confidence: Tensor, passes: int = PASSES
) -> Tensor:
    """Give a skeleton the body's bone lengths.

    Args:
        points: (..., 29, 3) joints and tips [m], in a camera frame: the eye is at the origin.
        rest_points: (..., 29, 3) of the body's shape [m]; only distances count.
        confidence: (..., 29) in 0..1; points that are less sure move more.
        passes: how often all bones pull.

    Returns:
        (..., 29, 3); one person never depends on another, NaN stays with its person.
    """
    check_shapes(
        points=(points, (..., 29, 3)),
        rest_points=(rest_points, (..., 29, 3)),
        confidence=(confidence, (..., 29)),
    )
    batch = torch.broadcast_shapes(points.shape[:-2], rest_points.shape[:-2], confidence.shape[:-1])
    points = points * relative_size(points, rest_points, confidence) ** -RESIZED
    start, rest = (_point_major(value, batch) for value in (points, rest_points))  # (29, N, 3)
    sure = _point_major(confidence.unsqueeze(-1), batch)  # (29, N, 1)
    tables = _tables(points.dtype, points.device)
    length = length_of(_mix(tables.bones, rest)).clamp(min=_EPS)  # (26, N, 1)
    sight = _mix(tables.ends, start / length_of(start).clamp(min=_EPS)).unflatten(0, (2, -1))
    ease = _mix(tables.ends, 1 / sure.clamp(_LEAST_CONFIDENCE, 1.0)).unflatten(0, (2, -1))
    certain = _mix(tables.ends, sure.clamp(0, 1)).unflatten(0, (2, -1))
    lean = (ALONG_SIGHT - 1) * certain * sight
    moved = start
    for _ in range(passes):
        bones = _mix(tables.bones, moved)
        now = length_of(bones).clamp(min=_EPS)
        direction = bones / now
        # Where a pull moves an end that gives way along its line of sight: (2, 26, N, 3).
        along = (sight * direction).sum(-1, keepdim=True)
        pull = ease * torch.addcmul(direction, lean, along)
        give = (pull * direction).sum((0, -1)).clamp(min=_EPS).unsqueeze(-1)
        amount = pull * ((now - length) / give)
        moved = moved + _mix(tables.push, amount.flatten(0, 1))
    moved = start + _mix(tables.follow, moved - start)
    return moved.transpose(0, 1).reshape(*batch, len(POINT_PARENTS), 3)


def relative_size(points: Tensor, others: Tensor, confidence: Tensor) -> Tensor:
    """How long a skeleton's bones are, as a part of another's; sure bones count more.

    Args:
        points, others: (..., 29, 3) [m], any frame.
        confidence: (..., 29) in 0..1.

    Returns:
        (..., 1, 1), between 0.5 and 2.
    """
    tables = _tables(points.dtype, points.device)
    ends = (tables.ends @ confidence.unsqueeze(-1)).unflatten(-2, (2, -1))
    weight = ends.amin(-3).square()  # (..., 26, 1)
    size, other = (
        (weight * length_of(tables.bones @ skeleton)).sum((-2, -1), keepdim=True)
        for skeleton in (points, others)
    )
    return (size.clamp(min=_EPS) / other.clamp(min=_EPS)).clamp(*_SIZES)


def _point_major(values: Tensor, batch: torch.Size) -> Tensor:
    """(..., 29, C) to (29, N, C)."""
    values = values.expand(*batch, *values.shape[-2:])
    return values.reshape(prod(batch), *values.shape[-2:]).transpose(0, 1)


def _mix(matrix: Tensor, values: Tensor) -> Tensor:
    """(R, P) of (P, N, C): one matrix product for all people."""
    return (matrix @ values.flatten(1)).view(len(matrix), *values.shape[1:])


@dataclass(frozen=True)
class _Tables:
    bones: Tensor  # (26, 29) of -1, 0, 1: lower minus upper end of each bone
    ends: Tensor  # (52, 29) of 0, 1: upper ends, then lower ends
    push: Tensor  # (29, 52) what each point gets of its bones' pulls
    follow: Tensor  # (29, 29) whose move each point makes


# Made once per type and device: no host work in a CUDA graph.
@functools.lru_cache
@torch.inference_mode(False)
def _tables(dtype: torch.dtype, device: torch.device) -> _Tables:
    lower_ends = [point for point in range(1, len(POINT_PARENTS)) if point not in _HEAD]
    every = torch.eye(len(POINT_PARENTS), dtype=dtype)
    upper, lower = every[[POINT_PARENTS[point] for point in lower_ends]], every[lower_ends]
    share = _OVERSHOOT / (upper + lower).sum(0).clamp(min=1).unsqueeze(-1)
    follow = every.clone()
    follow[list(_HEAD)] = every[POINTS.index("neck")]
    return _Tables(
        bones=(lower - upper).to(device),
        ends=torch.cat((upper, lower)).to(device),
        push=(share * torch.cat((upper, -lower)).T).to(device),
        follow=follow.to(device),
    )
