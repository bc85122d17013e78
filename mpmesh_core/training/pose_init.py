"""pose_init: a first body pose from MediaPipe's 33 landmarks in 3D, in closed form.

In   landmarks (..., 33, 3) [m], hip-centred, camera axes
Out  local rotations (..., 24, 3, 3), joint 0 in the camera frame

Each limb's upper bone gets its full rotation from the plane in which elbow or knee bend, so that
hinges start out bending the right way; spine and neck share the turn between hips, shoulders and
head. A starting point for `fit`, no more: hands, feet and collars stay at rest.
"""

from __future__ import annotations

import roma
import torch
from torch import Tensor

from mpmesh_core.checks import check_shapes

_EPS = 1e-6
_ARMS = (  # shoulder, elbow, wrist landmarks; shoulder, elbow joints; side
    (11, 13, 15, 16, 18, 1.0),
    (12, 14, 16, 17, 19, -1.0),
)
_LEGS = ((23, 25, 27, 29, 31, 1, 4), (24, 26, 28, 30, 32, 2, 5))


def initial_rotations(world: Tensor) -> Tensor:
    """Return local rotations whose bones point along the landmarks'.

    Args:
        world: (..., 33, 3) [m] in camera axes (x right, y down, z forward).

    Returns:
        (..., 24, 3, 3) local rotations, always SO(3).
    """
    check_shapes(world=(world, (..., 33, 3)))
    identity = torch.eye(3, dtype=world.dtype, device=world.device)
    local = [identity.expand(*world.shape[:-2], 3, 3)] * 24
    hips, shoulders = world[..., 23, :] - world[..., 24, :], world[..., 11, :] - world[..., 12, :]
    trunk = (world[..., 11, :] + world[..., 12, :] - world[..., 23, :] - world[..., 24, :]) / 2
    pelvis, chest = _axes(hips, trunk), _axes(shoulders, trunk)
    spine = roma.rotmat_to_rotvec(pelvis.mT @ chest) / 3
    local[0] = pelvis
    for joint in (3, 6, 9):
        local[joint] = roma.rotvec_to_rotmat(spine)
    neck = roma.rotmat_to_rotvec(chest.mT @ _head(world)) / 2
    local[12] = local[15] = roma.rotvec_to_rotmat(_limit(neck, 0.6))
    for arm in _ARMS:
        _put_arm(local, world, chest, arm)
    for leg in _LEGS:
        _put_leg(local, world, pelvis, leg)
    return torch.stack(local, dim=-3)


def _put_arm(
    local: list[Tensor],
    world: Tensor,
    chest: Tensor,
    arm: tuple[int, int, int, int, int, float],
) -> None:
    a, b, c, shoulder, elbow, side = arm
    along = world.new_tensor([side, 0.0, 0.0])
    hinge = world.new_tensor([0.0, -side, 0.0])
    upper, lower = (
        _unit(world[..., b, :] - world[..., a, :]),
        _unit(world[..., c, :] - world[..., b, :]),
    )
    swing = _least_rotation(chest @ along, upper)
    straight = (swing @ chest) @ hinge  # where the hinge lies if the arm isn't bent
    _put_limb(local, chest, (shoulder, elbow), (along, hinge), (upper, lower, straight))


def _put_leg(
    local: list[Tensor],
    world: Tensor,
    pelvis: Tensor,
    leg: tuple[int, int, int, int, int, int, int],
) -> None:
    a, b, c, heel, toe, hip, knee = leg
    along = world.new_tensor([0.0, -1.0, 0.0])
    hinge = world.new_tensor([1.0, 0.0, 0.0])
    upper, lower = (
        _unit(world[..., b, :] - world[..., a, :]),
        _unit(world[..., c, :] - world[..., b, :]),
    )
    swing = _least_rotation(pelvis @ along, upper)
    foot = _unit(world[..., toe, :] - world[..., heel, :])
    straight = (swing @ pelvis) @ hinge + torch.linalg.cross(foot, lower)
    _put_limb(local, pelvis, (hip, knee), (along, hinge), (upper, lower, straight))


def _put_limb(
    local: list[Tensor],
    parent: Tensor,
    joints: tuple[int, int],
    rest: tuple[Tensor, Tensor],
    bones: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Turn the upper bone with its hinge and bend the hinge.

    Args:
        local: rotations to write into.
        parent: (..., 3, 3) global rotation that the upper joint hangs on.
        joints: the upper joint and the hinge joint.
        rest: (3,) direction of the bone and axis of the hinge at rest.
        bones: (..., 3) unit directions of upper and lower bone, hinge axis if they are in line.
    """
    (along, hinge), (upper, lower, straight) = rest, bones
    bend = torch.linalg.cross(upper, lower)
    axis = bend + 0.3 * _unit(straight)
    axis = axis - (axis * upper).sum(-1, keepdim=True) * upper
    frame = _frame(upper, axis)
    start = _frame(along, hinge)
    turned = frame @ start.mT
    angle = torch.atan2((bend * _unit(axis)).sum(-1), (upper * lower).sum(-1)).clamp(0.0, 2.6)
    local[joints[0]] = parent.mT @ turned
    local[joints[1]] = roma.rotvec_to_rotmat(angle.unsqueeze(-1) * hinge)


def _head(world: Tensor) -> Tensor:
    """Axes of the head from ears and nose; the nose lies about 12 degrees below the ears."""
    ears = _unit(world[..., 7, :] - world[..., 8, :])
    forward = _unit(world[..., 0, :] - (world[..., 7, :] + world[..., 8, :]) / 2)
    return _axes(ears, torch.linalg.cross(forward, ears) - 0.2 * forward)


def _axes(left: Tensor, up: Tensor) -> Tensor:
    """Rotation whose y axis is `up` and whose x axis is near `left`."""
    return _frame(_unit(up), left)[..., [1, 0, 2]] * up.new_tensor([1.0, 1.0, -1.0])


def _frame(first: Tensor, second: Tensor) -> Tensor:
    """Rotation with columns first, second made orthogonal, and their cross product."""
    side = second - (second * first).sum(-1, keepdim=True) * first
    spare = torch.linalg.cross(
        first, torch.roll(first, 1, dims=-1) + first.new_tensor([0.1, 0.2, 0.3])
    )
    side = _unit(torch.where(side.norm(dim=-1, keepdim=True) > 1e-4, side, spare))
    return torch.stack([first, side, torch.linalg.cross(first, side)], dim=-1)


def _least_rotation(start: Tensor, end: Tensor) -> Tensor:
    """The smallest rotation that takes unit vector `start` to unit vector `end`."""
    axis = torch.linalg.cross(start, end)
    cos = (start * end).sum(-1, keepdim=True)
    angle = torch.atan2(axis.norm(dim=-1, keepdim=True), cos)
    spare = torch.linalg.cross(
        start, torch.roll(start, 1, dims=-1) + start.new_tensor([0.1, 0.2, 0.3])
    )
    axis = torch.where(axis.norm(dim=-1, keepdim=True) > 1e-4, axis, spare)
    return roma.rotvec_to_rotmat(angle * _unit(axis))


def _limit(rotvec: Tensor, most: float) -> Tensor:
    length = rotvec.norm(dim=-1, keepdim=True)
    return rotvec * torch.clamp(most / length.clamp(min=_EPS), max=1.0)


def _unit(vector: Tensor) -> Tensor:
    """The direction of `vector`; of one without length, some direction."""
    length = vector.norm(dim=-1, keepdim=True)
    spare = vector.new_tensor([0.0, 1.0, 0.0]).expand(vector.shape)
    return torch.where(length > _EPS, vector / length.clamp(min=_EPS), spare)
