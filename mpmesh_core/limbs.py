"""limbs: refined bodies keep their joints where the picture shows them.

In   rotations before and after refinement, betas before it
Out  rotations (N, 24, 3, 3) of the refined body, its joints where they were before

The refiner sees no pixels, and on held-out people it moves joints to no better places. What it
knows better are rotations that joints don't show, most of all where hands and feet point. So hands
and feet go along with wrist and ankle as the refiner turned them, hands in part only, and bones
keep the refined twist; every other joint is aimed at where the skeleton network saw it. The body's
shape stays that of the skeleton network, too: on held-out people it is nearer to the truth than the
refined one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mpmesh_core.body import BodyModel
from mpmesh_core.constants import constant, indices
from mpmesh_core.ik import solve_ik, twist_from_rotations
from mpmesh_core.joints import POINT_PARENTS, POINTS

_ENDS = ("hand", "hand_tip", "foot", "toe_tip")
# On held-out rendered people refined hands are turned better (29 for 53 degrees) and stand 7 mm
# farther off, so this part of the way they go where they were seen. Refined feet gain in both.
HANDS_SEEN = 1 / 3
_HANDS = (POINTS.index("left_hand"), POINTS.index("right_hand"))
_HAND_TIPS = (POINTS.index("left_hand_tip"), POINTS.index("right_hand_tip"))
_EPS = 1e-6  # [m]
SEEN = tuple(i for i, name in enumerate(POINTS) if name.split("_", 1)[-1] not in _ENDS)


def _carrier(point: int) -> int:
    """The joint that was seen whose move a point makes."""
    while point not in SEEN:
        point = POINT_PARENTS[point]
    return point


def _move(point: int) -> tuple[float, ...]:
    """Whose moves, from where the refiner has them to where they were seen, a point makes."""
    own = HANDS_SEEN if "hand" in POINTS[point] else 0.0
    return tuple(
        own * (other == point) + (1 - own) * (other == _carrier(point))
        for other in range(len(POINTS))
    )


_MOVES = tuple(_move(point) for point in range(len(POINTS)))


def keep_limbs(rotations: Tensor, seen_rotations: Tensor, betas: Tensor, body: BodyModel) -> Tensor:
    """Put the joints of refined bodies back.

    Args:
        rotations: (N, 24, 3, 3) refined.
        seen_rotations: (N, 24, 3, 3) of inverse kinematics towards the skeletons.
        betas: (N, 10) that it had.
        body: the body model they are parameters of.

    Returns:
        (N, 24, 3, 3) rotations.
    """
    both = torch.cat((rotations, seen_rotations)), betas.repeat(2, 1)
    refined, seen = _points(*both, body).chunk(2)
    moves = constant(_MOVES, refined.dtype, refined.device)
    rest = body.rest_points(betas)
    target = _at_length(refined + moves @ (seen - refined), rest)
    return solve_ik(target, rest, twist_from_rotations(rotations, rest)).rotations


def _at_length(points: Tensor, rest: Tensor) -> Tensor:
    """Hands and their tips on bones as long as the body's, else inverse kinematics bends arms."""
    for ends in (_HANDS, _HAND_TIPS):
        point = indices(ends, points.device)
        parent = indices(tuple(POINT_PARENTS[end] for end in ends), points.device)
        start = points.index_select(1, parent)
        length = (rest.index_select(1, point) - rest.index_select(1, parent)).norm(dim=-1)
        bone = points.index_select(1, point) - start
        stretched = bone * (length / bone.norm(dim=-1).clamp(min=_EPS)).unsqueeze(-1)
        points = points.index_copy(1, point, start + stretched)
    return points


def _points(rotations: Tensor, betas: Tensor, body: BodyModel) -> Tensor:
    """(N, 29, 3) [m], pelvis-relative."""
    origin = torch.zeros_like(betas[:, :3])
    points = body(rotations, betas, origin, vertices=False).points
    return points - points[:, :1]
