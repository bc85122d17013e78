"""limbs: refined bodies keep their limbs where the picture shows them.

In   rotations and betas before and after refinement
Out  rotations (..., 24, 3, 3) of the refined body, its limbs' joints where they were before

The refiner sees no pixels. What it knows better is how a torso bends, how limbs are twisted and
where hands and feet point; where hips, shoulders, elbows, wrists, knees and ankles are, the
skeleton network has seen. Hands and feet go along with wrist and ankle.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mpmesh_core.body import BodyModel
from mpmesh_core.constants import constant
from mpmesh_core.ik import solve_ik, twist_from_rotations
from mpmesh_core.joints import POINT_PARENTS, POINTS

LIMBS = tuple(
    POINTS.index(f"{side}_{joint}")
    for side in ("left", "right")
    for joint in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
)
_CARRIERS = tuple(
    POINTS.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("ankle", "wrist")
)


def _carrier(point: int) -> int | None:
    """The limb joint whose move a point makes, if any."""
    if point in LIMBS:
        return point
    while point > 0:
        point = POINT_PARENTS[point]
        if point in _CARRIERS:
            return point
    return None


_MOVES = tuple(
    tuple(float(_carrier(point) == other) for other in range(len(POINTS)))
    for point in range(len(POINTS))
)


def keep_limbs(
    rotations: Tensor, betas: Tensor, seen_rotations: Tensor, seen_betas: Tensor, body: BodyModel
) -> Tensor:
    """Put the limbs of refined bodies back.

    Args:
        rotations: (N, 24, 3, 3) refined.
        betas: (N, 10) refined.
        seen_rotations: (N, 24, 3, 3) of inverse kinematics towards the skeletons.
        seen_betas: (N, 10) that it had.
        body: the body model they are parameters of.

    Returns:
        (N, 24, 3, 3) rotations.
    """
    origin = torch.zeros_like(betas[:, :3])
    refined, seen = (
        posed - posed[:, :1]
        for posed in (
            body(rotations, betas, origin, vertices=False).points,
            body(seen_rotations, seen_betas, origin, vertices=False).points,
        )
    )
    moves = constant(_MOVES, refined.dtype, refined.device)
    rest = body.rest_points(betas)
    target = refined + moves @ (seen - refined)
    return solve_ik(target, rest, twist_from_rotations(rotations, rest)).rotations
