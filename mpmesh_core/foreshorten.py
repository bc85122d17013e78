"""foreshorten: a skeleton takes the body's bone lengths and keeps its place in the picture.

In   points (..., 29, 3) [m, camera frame], rest points of the body's shape (..., 29, 3),
     confidence (..., 29)
Out  points (..., 29, 3) whose bones are nearly as long as the body's

Pictures tell well where a point is across the line of sight and badly along it, and a network that
is unsure of depth says too little of it. So where a bone is too short or too long, its ends move
along the line of sight first: a limb that looks short points towards the camera or away from it.
Inverse kinematics alone would keep the direction, and land the hand beside the hand. An exact
skeleton doesn't move. The head goes with the neck: its bones are so short that they would turn it
with every pixel.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from mpmesh_core.checks import check_shapes
from mpmesh_core.joints import POINT_PARENTS, POINTS

PASSES = 8  # 40 change keypoints by 0.2 % more
ALONG_SIGHT = 8.0  # how much more easily a point moves along the line of sight than across it
_OVERSHOOT = 1.5  # every bone moves its ends at once, so each move is shared and may be larger
_LEAST_CONFIDENCE = 0.02
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
    upper, lower, follow = _bone_ends(points.dtype, points.device)  # (26, 29) twice, (29, 29)
    start = points
    length = _length((lower - upper) @ rest_points)
    ease = 1 / confidence.clamp(min=_LEAST_CONFIDENCE, max=1.0).unsqueeze(-1)
    sight = points / _length(points)
    ends = ((upper @ sight, upper @ ease), (lower @ sight, lower @ ease))
    share = _OVERSHOOT / (upper + lower).sum(0).clamp(min=1).unsqueeze(-1)
    for _ in range(passes):
        bones = (lower - upper) @ points
        now = _length(bones)
        direction = bones / now
        pull_upper, pull_lower = (_eased(direction, *end) for end in ends)
        give = (direction * (pull_upper + pull_lower)).sum(-1, keepdim=True).clamp(min=_EPS)
        amount = (now - length) / give
        points = points + share * (upper.mT @ (amount * pull_upper))
        points = points - share * (lower.mT @ (amount * pull_lower))
    return start + follow @ (points - start)


def _eased(direction: Tensor, sight: Tensor, ease: Tensor) -> Tensor:
    """Where a pull (..., 26, 3) moves an end that gives way along its line of sight."""
    along = sight * (direction * sight).sum(-1, keepdim=True)
    return ease * (direction + (ALONG_SIGHT - 1) * along)


def _length(vectors: Tensor) -> Tensor:
    return (vectors.square().sum(-1, keepdim=True) + _EPS**2).sqrt()


# Made once per type and device: no host work in a CUDA graph.
@functools.lru_cache
def _bone_ends(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Which point is the upper and which the lower end of each bone, (26, 29) each; and whose
    move each point makes, (29, 29)."""
    lower = [point for point in range(1, len(POINT_PARENTS)) if point not in _HEAD]
    with torch.inference_mode(False):
        every = torch.eye(len(POINT_PARENTS), dtype=dtype, device=device)
        follow = every.clone()
        follow[list(_HEAD)] = every[POINTS.index("neck")]
        return every[[POINT_PARENTS[point] for point in lower]], every[lower], follow
