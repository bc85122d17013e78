"""limbs: refined bodies keep their joints where the picture shows them.

In   rotations before and after refinement, betas before it
Out  rotations (N, 24, 3, 3) of the refined body, its joints where they were before

The refiner sees no pixels, and on held-out people it moves joints to no better places. What it
knows better are rotations that joints don't show, most of all where hands and feet point. So hands
and feet go along with wrist and ankle as the refiner turned them, and bones keep the refined twist;
every other joint is aimed at where the skeleton network saw it. The body's shape stays that of the
skeleton network, too: on held-out people it is nearer to the truth than the refined one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mpmesh_core.body import BodyModel
from mpmesh_core.constants import constant
from mpmesh_core.ik import solve_ik, twist_from_rotations
from mpmesh_core.joints import POINT_PARENTS, POINTS

_ENDS = ("hand", "hand_tip", "foot", "toe_tip")
SEEN = tuple(i for i, name in enumerate(POINTS) if name.split("_", 1)[-1] not in _ENDS)


def _carrier(point: int) -> int:
    """The joint that was seen whose move a point makes."""
    while point not in SEEN:
        point = POINT_PARENTS[point]
    return point


_MOVES = tuple(
    tuple(float(_carrier(point) == other) for other in range(len(POINTS)))
    for point in range(len(POINTS))
)


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
    target = refined + moves @ (seen - refined)
    return solve_ik(target, rest, twist_from_rotations(rotations, rest)).rotations


def _points(rotations: Tensor, betas: Tensor, body: BodyModel) -> Tensor:
    """(N, 29, 3) [m], pelvis-relative."""
    origin = torch.zeros_like(betas[:, :3])
    points = body(rotations, betas, origin, vertices=False).points
    return points - points[:, :1]
