"""kinematic_tree: the SMPL tree laid out for batched walks, and bone lengths as soft constraints.

Points (29, N, 3) [m] are point-major and breadth first here: a level of the tree is a slice, and
one matrix product with `pairs` gives all bones of all people. Ground floor of `ik`, which solves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from mpmesh_core.joints import BONE_CHILD, POINT_PARENTS, SMPL_PARENTS, TIP_PARENTS
from mpmesh_core.swing_twist import perpendicular, twist_matrix

SHORT = 1e-3  # a target bone shorter than this part of its rest length points nowhere
SHORTEST = 1e-6  # [m] nor does a rest bone shorter than this
FAR = 1e3  # [m] farther than this from the pelvis is cut off, so that squares stay finite


def _breadth_first() -> tuple[int, ...]:
    """Points ordered by depth, children in the order of their parents."""
    order = [0]
    for parent in order:
        order += [child for child, p in enumerate(POINT_PARENTS) if p == parent]
    return tuple(order)


ORDER = _breadth_first()  # place to point; a level of the tree is a slice of places
PLACE = tuple(ORDER.index(point) for point in range(len(ORDER)))
PELVIS, SPINE3 = 0, 9  # the two joints with three children each
FANS = ((PELVIS, 1), (PELVIS, 2), (PELVIS, 3), (SPINE3, 12), (SPINE3, 13), (SPINE3, 14))
# First and last joint of each level below the pelvis. Spine3 goes along with its neck bone first.
LEVELS = ((1, 3), (4, 6), (7, SPINE3), (10, 14), (15, 17), (18, 19), (20, 21), (22, 23))
# Pairs of points at a fixed distance: bones by the place of their end, then within the two fans.
RIGID_PAIRS = (
    *((POINT_PARENTS[point], point) for point in ORDER[1:]),
    (1, 2), (1, 3), (2, 3), (12, 13), (12, 14), (13, 14),
)  # fmt: skip


@dataclass(frozen=True)
class TreeTables:
    """Constants of the tree as tensors."""

    order: Tensor  # (29,) place to point
    place: Tensor  # (29,) point to place
    twist: Tensor  # (28,) row of `twist` for the bone that ends at place 1 + i
    pairs: Tensor  # (34, 29) of -1, 0, 1: pairs @ points = second minus first
    gains: Tensor  # (34, 1, 1), what `relax` gives each end of a pair's error
    fans: Tensor  # (6,) bones of the two fans, as rows of `pairs`
    spread: Tensor  # (5,) place 10 + i hangs on joint 7 + this
    far_end: Tensor  # (23,) point at the end of the bone of joint 1 + i
    up: Tensor  # (3,) direction of a bone that has none
    untwisted: Tensor  # (2,) cosine and sine of a twist that has none


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # tensors made in that mode could never take part in training
def tree_tables(dtype: torch.dtype, device: torch.device) -> TreeTables:
    """The tables, made once for each dtype and device."""
    pairs = torch.zeros(len(RIGID_PAIRS), len(ORDER), dtype=dtype)
    for row, (first, second) in enumerate(RIGID_PAIRS):
        pairs[row, PLACE[first]], pairs[row, PLACE[second]] = -1, 1

    def indices(values: list[int]) -> Tensor:
        return torch.tensor(values, device=device)

    return TreeTables(
        order=indices(list(ORDER)),
        place=indices(list(PLACE)),
        twist=indices([max(POINT_PARENTS[point] - 1, 0) for point in ORDER[1:]]),
        pairs=pairs.to(device),
        # Jacobi's step: one over the mean number of pairs that pull at an end. More oscillates.
        gains=(2 / (pairs.abs() @ pairs.abs().sum(0))).view(-1, 1, 1).to(device),
        fans=indices([RIGID_PAIRS.index(pair) for pair in FANS]),
        spread=indices([POINT_PARENTS[point] - 7 for point in ORDER[10:15]]),
        far_end=indices(list(BONE_CHILD[1:])),
        up=torch.tensor((0.0, 1.0, 0.0), dtype=dtype, device=device),
        untwisted=torch.tensor((1.0, 0.0), dtype=dtype, device=device),
    )


def with_tips(points: Tensor) -> Tensor:
    """Targets without tips get bones of length zero there, which point nowhere: (..., 29, 3)."""
    if points.shape[-2] == len(POINT_PARENTS):
        return points
    return torch.cat((points, points[..., TIP_PARENTS, :]), -2)


def with_rest_tips(rest: Tensor) -> Tensor:
    """Leaves of a rest skeleton without tips continue the bone that leads to them: (..., 29, 3)."""
    if rest.shape[-2] == len(POINT_PARENTS):
        return rest
    before = tuple(SMPL_PARENTS[leaf] for leaf in TIP_PARENTS)
    return torch.cat((rest, 2 * rest[..., TIP_PARENTS, :] - rest[..., before, :]), -2)


def pair_gaps(points: Tensor, pairs: Tensor) -> Tensor:
    """(29, N, 3) to (34, N, 3) [m]; one matrix product serves all people."""
    return (pairs @ points.flatten(1)).view(pairs.shape[0], *points.shape[1:])


def length_of(vectors: Tensor) -> Tensor:
    """(..., 3) to (..., 1); its gradient at zero is zero."""
    return torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)


def relax(
    aims: Tensor, aim_gaps: Tensor, rest_gaps: Tensor, passes: int, tables: TreeTables
) -> Tensor:
    """Move points (29, N, 3) towards the nearest skeleton with the rest's rigid lengths.

    Sweeps of distance constraints: noise across a bone stays, noise along it goes, about a quarter
    of the error. Pairs without a length on either side do not pull.
    """
    lengths = length_of(rest_gaps)
    stiff = (lengths > SHORTEST) & (length_of(aim_gaps) > SHORT * lengths)  # (34, N, 1)
    slack = tables.gains * stiff
    pull = slack * lengths
    for _ in range(passes):
        gaps = pair_gaps(aims, tables.pairs)
        gain = torch.addcdiv(-slack, pull, length_of(gaps).clamp_min(SHORTEST))
        aims = torch.addmm(aims.flatten(1), tables.pairs.T, (gaps * gain).flatten(1)).view_as(aims)
    return aims


@dataclass(frozen=True)
class Bones:
    """Bones of all people, breadth first: row (p - 1) N + n ends at place p of person n."""

    vectors: Tensor  # (28 N, 3, 1) [m] at rest
    directions: Tensor  # (28 N, 3), t of equation 1
    spares: Tensor  # (28 N, 3), at a right angle to it
    turns: Tensor  # (28 N, 3, 3), H(t) R_tw
    shortest: Tensor  # (28 N, 1) [m], an aim no longer than this is no direction


def unit(vectors: Tensor, otherwise: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors, `otherwise` for length zero, and lengths (..., 1)."""
    length = length_of(vectors)
    return torch.where(length > SHORTEST, vectors / length.clamp_min(SHORTEST), otherwise), length


def rest_bones(rest_gaps: Tensor, aim_gaps: Tensor, twist: Tensor, tables: TreeTables) -> Bones:
    """Everything about bones that does not depend on the parents' rotations, all bones at once."""
    vectors = rest_gaps.flatten(0, 1)
    directions, lengths = unit(vectors, tables.up)
    short = SHORT * lengths
    vague = (length_of(aim_gaps.flatten(0, 1)) <= short) | (lengths <= SHORTEST)
    cos_sin = twist.clamp(-FAR, FAR).transpose(0, 1).index_select(0, tables.twist).flatten(0, 1)
    cos_sin, _ = unit(cos_sin, tables.untwisted)
    return Bones(
        vectors=vectors.unsqueeze(-1),
        directions=directions,
        spares=perpendicular(directions),
        # H(t) turns by pi about the same axis as R_tw, so together they negate cosine and sine.
        turns=twist_matrix(directions, -cos_sin),
        shortest=torch.where(vague, torch.inf, short),
    )
