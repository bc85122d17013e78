"""ik: joint rotations from a 3D skeleton, by swing (from the points) and twist (from the network).

In   points (..., 29, 3) [m], rest_points (..., 29, 3) [m], twist (..., 23, 2) as (cos, sin)
Out  IKResult: local rotations (..., 24, 3, 3), points where they landed, degenerate, ok
Paper, section 3.2, equations 1-4, down the kinematic tree and level by level over the whole batch.
Chooses no bone length (that is `rest_points`) and no camera: any metric frame will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from mpmesh_core.checks import check_shapes
from mpmesh_core.errors import ShapeError
from mpmesh_core.joints import BONE_CHILD
from mpmesh_core.kinematic_tree import (
    FAR,
    LEVELS,
    PLACE,
    SPINE3,
    Bones,
    TreeTables,
    length_of,
    pair_gaps,
    relax,
    rest_bones,
    tree_tables,
    unit,
    with_rest_tips,
    with_tips,
)
from mpmesh_core.swing_twist import align, half_turn, half_way, perpendicular

RELAXATION_PASSES = 6
COLLINEAR = 1e-4  # 2 b / a for bones whose scatter is a along a line and b across it


@dataclass(frozen=True)
class IKResult:
    """Rotations that pose a rest skeleton like the given points."""

    rotations: Tensor  # (..., 24, 3, 3), joint 0 in the points' frame, the others in their parent's
    points: Tensor  # (..., J, 3) [m], J of rest_points: where the rest skeleton lands, pelvis too
    degenerate: Tensor  # (..., 24) bool, the points did not determine this joint's rotation
    ok: Tensor  # (...) bool, False where an input was not finite: rotations are the identity


def solve_ik(
    points: Tensor,
    rest_points: Tensor,
    twist: Tensor,
    adaptive: bool = True,
    relaxation_passes: int = RELAXATION_PASSES,
) -> IKResult:
    """Local joint rotations whose bones point like those of `points`.

    Each bone swings the shortest way from its rest direction to the target's (eq. 1-2) and turns by
    its twist (eq. 3); R = R_sw R_tw (eq. 4). Pelvis and spine3 have three children and take the
    rotation that fits all three. Every finite person gets 24 rotations, whatever the input: a bone
    without direction takes its twist only, opposite directions swing about some right angle.

    Args:
        points: (..., 29, 3) target joints and tips [m], any frame; (..., 24, 3) without tips, and
            then the five leaves take their twist only.
        rest_points: (..., 29, 3) rest joints and tips of the body's shape [m], or (..., 24, 3).
        twist: (..., 23, 2) (cos, sin) of joints 1..23; its length does not matter.
        adaptive: first move the targets to the nearest skeleton with the rest's bone lengths, then
            aim each bone from where its joint really landed, so that errors do not add up down a
            limb. Otherwise keep the target's own bone directions.
        relaxation_passes: how many times the bone lengths pull on the targets, if adaptive. Exact
            targets do not move.

    Returns:
        IKResult. One person never depends on another.

    Raises:
        ShapeError: a shape that is not one of the above.

    Source:
        Paper, equations 1-4.
    """
    _check(points, rest_points, twist)
    batch = torch.broadcast_shapes(points.shape[:-2], rest_points.shape[:-2], twist.shape[:-2])
    parts = [x.expand(*batch, *x.shape[-2:]).flatten(-2) for x in (points, rest_points, twist)]
    widths = [x.shape[-1] for x in parts]
    people = torch.cat(parts, -1).reshape(prod(batch), sum(widths))
    ok = (people * 0).sum(-1, keepdim=True) == 0  # (N, 1): NaN and infinity times zero are NaN
    targets, rest, turns = torch.where(ok, people, 0).split(widths, -1)
    rotations, landed, degenerate = _solve(
        with_tips(targets.unflatten(-1, (-1, 3))),
        with_rest_tips(rest.unflatten(-1, (-1, 3))),
        turns.unflatten(-1, (23, 2)),
        relaxation_passes if adaptive else None,
    )
    return IKResult(
        rotations=rotations.reshape(*batch, 24, 3, 3),
        points=landed[:, : rest_points.shape[-2]].reshape(*batch, rest_points.shape[-2], 3),
        degenerate=(degenerate | ~ok).reshape(*batch, 24),
        ok=ok.reshape(batch),
    )


def twist_from_rotations(rotations: Tensor, rest_points: Tensor) -> Tensor:
    """The twist that `solve_ik` needs to give back these rotations: its ground truth.

    Args:
        rotations: (..., 24, 3, 3) local rotations.
        rest_points: (..., 29, 3) [m] rest joints and tips, or (..., 24, 3).

    Returns:
        (..., 23, 2) unit (cos, sin) of joints 1..23; mirroring a person swaps the sides and
        negates the sines.
    """
    check_shapes(rotations=(rotations, (..., 24, 3, 3)), rest_points=(rest_points, (..., "J", 3)))
    rest = with_rest_tips(rest_points)
    tables = tree_tables(rest.dtype, rest.device)
    bones = rest.index_select(-2, tables.far_end) - rest[..., 1:24, :]
    u, _ = unit(bones, tables.up)
    local = rotations[..., 1:, :, :]
    u = u.expand(*local.shape[:-1])
    moved = _rotate(local, u)
    middle, _ = half_way(u, moved, torch.ones_like(moved[..., :1]), perpendicular(u))
    residue = half_turn(u) @ half_turn(middle) @ local  # R_tw = R_sw^T R, from equation 4
    cos = residue.diagonal(dim1=-2, dim2=-1).sum(-1) - 1  # 2 cos and 2 sin, by equation 3
    skew = residue - residue.mT
    sin = (torch.stack((skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]), -1) * u).sum(-1)
    return torch.nn.functional.normalize(torch.stack((cos, sin), -1), dim=-1)


def _check(points: Tensor, rest_points: Tensor, twist: Tensor) -> None:
    check_shapes(
        points=(points, (..., "J", 3)),
        rest_points=(rest_points, (..., "K", 3)),
        twist=(twist, (..., 23, 2)),
    )
    sizes = points.shape[-2], rest_points.shape[-2]
    if sizes not in ((29, 29), (24, 29), (24, 24)):
        raise ShapeError(
            f"solve_ik takes 24 or 29 points and at least as many rest points, got {sizes[0]} and "
            f"{sizes[1]}: pass the 24 joints, or joints and tips, of both"
        )


def _solve(
    targets: Tensor, rest: Tensor, twist: Tensor, passes: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """`solve_ik` for (N, 29, 3), (N, 29, 3), (N, 23, 2); `passes` None aims from the targets.

    Returns rotations (N, 24, 3, 3), landed points (N, 29, 3) and degenerate (N, 24).
    """
    tables = tree_tables(targets.dtype, targets.device)
    pelvis = targets[:, :1]
    aims = (targets - pelvis).clamp(-FAR, FAR).transpose(0, 1).index_select(0, tables.order)
    template = (rest - rest[:, :1]).clamp(-FAR, FAR).transpose(0, 1).index_select(0, tables.order)
    rest_gaps = pair_gaps(template, tables.pairs)  # (34, N, 3), bones first
    aim_gaps = pair_gaps(aims, tables.pairs)
    bones = rest_bones(rest_gaps[:28], aim_gaps[:28], twist, tables)
    if passes is not None:
        aims = relax(aims, aim_gaps, rest_gaps, passes, tables)
    spread = _spread_out(aim_gaps.index_select(0, tables.fans))
    fans, unique = _fit_fans(rest_gaps, pair_gaps(aims, tables.pairs), tables)
    rotations, landed, degenerate = _descend(
        aims, bones, fans, unique & spread, passes is not None, tables
    )
    return (
        rotations.transpose(0, 1),
        landed.index_select(0, tables.place).transpose(0, 1) + pelvis,
        degenerate.transpose(0, 1),
    )


def _rotate(rotations: Tensor, vectors: Tensor) -> Tensor:
    return (rotations @ vectors.unsqueeze(-1)).squeeze(-1)


def _fit_fans(rest_gaps: Tensor, aim_gaps: Tensor, tables: TreeTables) -> tuple[Tensor, Tensor]:
    """Global rotations of pelvis and spine3, each from its three children.

    Returns rotations (2, N, 3, 3) and determined (2, N).
    """
    source, target = (
        gaps.index_select(0, tables.fans).unflatten(0, (2, 3)).transpose(1, 2).flatten(0, 1)
        for gaps in (rest_gaps, aim_gaps)
    )  # (2 N, 3, 3), one vector a row
    rotation, determined = align(source, target)
    people = rest_gaps.shape[1]
    return rotation.view(2, people, 3, 3), determined.view(2, people)


def _spread_out(gaps: Tensor) -> Tensor:
    """Whether the bones of a fan (6, N, 3) do not lie on one line: (2, N) bool.

    Looks at the targets as they came: relaxation bends a line, but only into a guess.
    """
    bones = gaps.unflatten(0, (2, 3)).permute(0, 2, 1, 3)  # (2, N, 3, 3)
    gram = bones @ bones.mT
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    return trace.square() - gram.square().sum((-2, -1)) > COLLINEAR * trace.square()


def _swing_and_twist(above: Tensor, aim: Tensor, bones: Bones, rows: slice) -> tuple[Tensor, ...]:
    """Local rotations of joints with one bone each.

    Args:
        above: (k N, 3, 3) global rotations of the joints' parents.
        aim: (k N, 3) [m] where the bones should point, global.
        bones, rows: the joints' bones.

    Returns:
        R (k N, 3, 3) and degenerate (k N, 1).
    """
    t, turn = bones.directions[rows], bones.turns[rows]
    p = torch.bmm(aim.unsqueeze(1), above).squeeze(1)  # in the parent's frame
    length = length_of(p)
    vague = length <= bones.shortest[rows]
    m, opposite = half_way(t, torch.where(vague, t, p), length, bones.spares[rows])
    # R = R_sw R_tw (eq. 4) = H(m) [H(t) R_tw] = 2 m (m^T [..]) - [..]
    row = torch.bmm(m.unsqueeze(1), turn)
    return torch.baddbmm(turn, m.unsqueeze(2), row, beta=-1, alpha=2), vague | opposite


def _descend(
    aims: Tensor,
    bones: Bones,
    fans: Tensor,
    fans_determined: Tensor,
    adaptive: bool,
    tables: TreeTables,
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotate joint after joint, each in the frame that its parent really has.

    Returns rotations (24, N, 3, 3), landed points (29, N, 3) breadth first, degenerate (24, N).
    """
    people = aims.shape[1]
    aims = aims.flatten(0, 1)  # (29 N, 3), row = place * N + person

    def rows(first: int, last: int) -> slice:
        return slice(first * people, (last + 1) * people)

    root, spine3 = fans
    above = root.repeat(3, 1, 1)  # (k N, 3, 3) global rotation of the joint above each of `ends`
    pelvis = aims[rows(0, 0)]
    ends = pelvis.repeat(3, 1) + torch.bmm(above, bones.vectors[rows(0, 2)]).squeeze(2)
    first = 1  # place of the first of `ends`
    rotations, landed, degenerate = [root], [pelvis, ends], [~fans_determined[0]]
    for joint, last in LEVELS:
        inner = rows(PLACE[joint] - first, PLACE[last] - first)
        above, start = above[inner], ends[inner]
        first = PLACE[BONE_CHILD[joint]]
        tips = rows(first, first + last - joint)
        bone_rows = rows(first - 1, first - 1 + last - joint)
        seen_from = start if adaptive else aims[rows(PLACE[joint], PLACE[last])]
        local, vague = _swing_and_twist(above, aims[tips] - seen_from, bones, bone_rows)
        vague = vague.squeeze(1)
        frame = torch.bmm(above, local)
        if last == SPINE3:
            local, vague, frame = _take_fan(local, vague, above, frame, spine3, fans_determined[1])
            hang = (tables.spread, people)
            frame, start = _spread(frame, *hang), _spread(start, *hang)
            bone_rows = rows(first - 1, first + 3)
        above = frame
        ends = start + torch.bmm(above, bones.vectors[bone_rows]).squeeze(2)
        rotations.append(local)
        landed.append(ends)
        degenerate.append(vague)
    return (
        torch.cat(rotations).view(24, people, 3, 3),
        torch.cat(landed).view(29, people, 3),
        torch.cat(degenerate).view(24, people),
    )


def _take_fan(
    local: Tensor, vague: Tensor, above: Tensor, frame: Tensor, fan: Tensor, determined: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Put the three-children rotation of the level's last joint in the place of its bone's."""
    people = fan.shape[0]
    own = torch.where(determined[:, None, None], fan, frame[-people:])
    turned = torch.bmm(above[-people:].mT, own)
    return (
        torch.cat((local[:-people], turned)),
        torch.cat((vague[:-people], ~determined)),
        torch.cat((frame[:-people], own)),
    )


def _spread(values: Tensor, spread: Tensor, people: int) -> Tensor:
    return values.view(3, people, *values.shape[1:]).index_select(0, spread).flatten(0, 1)
