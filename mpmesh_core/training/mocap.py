"""mocap: poses of real people as SMPL joint rotations, from three kinds of motion files.

In   archives of CMU exponential maps, DeepMimic clips, MakeHuman poses (.bvh)
Out  `Clip`: local rotations (T, 24, 3, 3) on the SMPL tree, SMPL axes (x left, y up, z forward)

The skeletons differ in rest pose, not only in names. A bone's world rotation carries over as
`R_smpl = R_source S`, where S swings the SMPL body's rest bone onto the source's rest bone, so the
posed bones of both point the same way. Torso joints take the source's rotation as it is.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import roma
import torch

from mpmesh_core.errors import InputError, MissingFileError
from mpmesh_core.joints import BONE_CHILD, SMPL_FLIP, SMPL_PARENTS

Array = np.ndarray

CMU_UNIT = 0.056  # [m]
CMU_PARENTS = (
    -1, 0, 1, 2, 3, 4, 5, 0, 7, 8, 9, 10, 11, 0, 13, 14, 15, 16, 17, 18, 15, 20, 21, 22, 23, 24,
    25, 23, 27, 15, 29, 30, 31, 32, 33, 34, 32, 36,
)  # fmt: skip
"""Tree of the 38 joints in the exponential-map files."""

CMU_JOINT = {
    0: 0, 1: 2, 2: 8, 3: 13, 4: 3, 5: 9, 6: 14, 7: 4, 8: 10, 9: 15, 12: 17, 13: 20, 14: 29, 15: 18,
    16: 21, 17: 30, 18: 22, 19: 31, 20: 23, 21: 32,
}  # fmt: skip
"""SMPL joint -> CMU joint. Toes and fingers have no motion of their own."""

CMU_BONE = {
    1: (0.342, -0.940, 0.0), 4: (0.342, -0.940, 0.0), 7: (0.089, -0.245, 0.966),
    16: (1.0, 0.0, 0.0), 18: (1.0, 0.0, 0.0), 20: (1.0, 0.0, 0.0),
}  # fmt: skip
"""Left SMPL joint -> direction of its bone in the CMU rest pose; the right is the mirror image."""

DEEPMIMIC_SPANS = {
    0: (4, 8), "chest": (8, 12), "neck": (12, 16), 2: (16, 20), 5: (20, 21), 8: (21, 25),
    17: (25, 29), 19: (29, 30), 1: (30, 34), 4: (34, 35), 7: (35, 39), 16: (39, 43), 18: (43, 44),
}  # fmt: skip
"""Columns of a DeepMimic frame: quaternions (w first) and, for the hinges, single angles."""

DEEPMIMIC_BONE = {
    1: (0.0, -1.0, 0.0), 4: (0.0, -1.0, 0.0), 16: (0.0, -1.0, 0.0), 18: (0.0, -1.0, 0.0),
}  # fmt: skip

MAKEHUMAN_BONE = {
    0: ("root", ""), 1: ("upperleg02", "lowerleg01"), 4: ("lowerleg02", "foot"),
    7: ("foot", "toe3-1"), 3: ("spine04", ""), 6: ("spine02", ""), 9: ("spine01", ""),
    12: ("neck02", ""), 15: ("head", ""), 13: ("shoulder01", ""), 16: ("upperarm02", "lowerarm01"),
    18: ("lowerarm02", "wrist"), 20: ("wrist", "finger3-1"),
}  # fmt: skip
"""SMPL joint (left or middle) -> MakeHuman bone, and the far end of the limb where it swings."""

COLLAR_SHARE = 0.22
"""Part of the arm's elevation that SMPL's collars take; the source skeletons move only the arm."""


@dataclass(frozen=True)
class Clip:
    """A motion, or a single pose, on the SMPL tree."""

    name: str
    rotations: Array  # (T, 24, 3, 3) float32; joint 0 in the world (y up), others in the parent
    frame_time: float  # [s] between two frames


def read_cmu(archive: Path | str, rest_points: Array, stride: int = 4) -> list[Clip]:
    """Read the CMU motions, exponential maps of 38 joints, from their .tar.xz archive.

    Args:
        archive: the .tar.xz file.
        rest_points: (29, 3) rest points of the body that shall move.
        stride: keep every so many frames of the 120 Hz recordings.

    Returns:
        One clip a file, named after its path in the archive.
    """
    swings = _swings(rest_points, CMU_BONE)

    def convert(text: str) -> Array:
        rows = text.strip().split("\n")[1::stride]  # the first row is the rest pose
        values = np.array([row.split(",") for row in rows], np.float32).reshape(len(rows), -1, 3)
        maps = torch.from_numpy(values[:, 1:])
        local = roma.rotvec_to_rotmat(maps).transpose(-1, -2).numpy()
        return _retarget(_chain(local, CMU_PARENTS), CMU_JOINT, swings)

    return [
        Clip(name.removesuffix(".txt"), _drop_collars(convert(text)), stride / 120)
        for name, text in _read_archive(archive)
    ]


def read_deepmimic(archive: Path | str, rest_points: Array) -> list[Clip]:
    """Read the DeepMimic motions in the archive's top folder (those are free of NC terms).

    Args and returns as `read_cmu`.
    """
    swings = _swings(rest_points, DEEPMIMIC_BONE)
    clips = []
    for name, text in _read_archive(archive):
        if "/" in name:
            continue
        frames = np.array(json.loads(text)["Frames"], np.float32)
        rotations = _drop_collars(_deepmimic_rotations(frames, swings))
        clips.append(Clip(f"deepmimic/{name.removesuffix('.txt')}", rotations, float(frames[0, 0])))
    return clips


def read_makehuman(folder: Path | str, rest_points: Array) -> list[Clip]:
    """Read a folder of MakeHuman .bvh files, one pose each."""
    paths = sorted(Path(folder).glob("*.bvh"))
    if not paths:
        raise MissingFileError(f"no .bvh files in {folder}: give the folder of MakeHuman poses")
    return [_read_bvh(path, rest_points) for path in paths]


def mirror(rotations: Array) -> Array:
    """Left-right mirror image of poses (..., 24, 3, 3) in the axes of the world they are given in.

    Args:
        rotations: local rotations; the root's world has x as its lateral axis.
    """
    sign = np.array([-1.0, 1.0, 1.0], rotations.dtype)
    return rotations[..., list(SMPL_FLIP), :, :] * sign[:, None] * sign


def _read_archive(archive: Path | str) -> Iterator[tuple[str, str]]:
    if not Path(archive).is_file():
        raise MissingFileError(f"no motion archive {archive}: give the path of the .tar.xz file")
    with tarfile.open(archive) as files:
        for member in files:
            content = files.extractfile(member)
            if content is not None and member.name.endswith(".txt"):
                yield member.name, content.read().decode()


def _swings(rest_points: Array, bones: dict[int, tuple[float, float, float]]) -> Array:
    """(24, 3, 3) least rotations of SMPL's rest bones onto the source's; identity elsewhere."""
    swings = np.tile(np.eye(3, dtype=np.float32), (24, 1, 1))
    for joint, left in bones.items():
        for side, sign in ((joint, 1.0), (SMPL_FLIP[joint], -1.0)):
            bone = rest_points[BONE_CHILD[side]] - rest_points[side]
            swings[side] = _swing(bone, np.array([sign * left[0], left[1], left[2]]))
    return swings


def _swing(start: Array, end: Array) -> Array:
    """Least rotation (3, 3) that turns one direction (3,) into another; they aren't opposite."""
    axis = np.cross(start, end)
    sine = np.linalg.norm(axis)
    angle = np.arctan2(sine, start @ end)
    return roma.rotvec_to_rotmat(torch.from_numpy(axis / max(sine, 1e-9) * angle)).numpy()


def _chain(local: Array, parents: tuple[int, ...]) -> Array:
    """World rotations (T, J, 3, 3) of local ones; parents come before their children."""
    world = local.copy()
    for joint, parent in enumerate(parents):
        if parent >= 0:
            world[:, joint] = world[:, parent] @ local[:, joint]
    return world


def _retarget(source: Array, joint_of: dict[int, int], swings: Array) -> Array:
    """Local SMPL rotations (T, 24, 3, 3) from world rotations (T, J, 3, 3) of the source."""
    world = np.zeros((len(source), 24, 3, 3), np.float32)
    for joint, parent in enumerate(SMPL_PARENTS):
        moving = joint in joint_of
        world[:, joint] = source[:, joint_of[joint]] @ swings[joint] if moving else world[:, parent]
    return _to_local(world)


def _to_local(world: Array) -> Array:
    local = world.copy()
    for joint, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            local[:, joint] = world[:, parent].swapaxes(-1, -2) @ world[:, joint]
    return local


def _drop_collars(local: Array) -> Array:
    """Give the collars their part of the arms' elevation; the arms keep their world rotation."""
    world = _chain(local, SMPL_PARENTS)
    for collar, shoulder, sign in ((13, 16, 1.0), (14, 17, -1.0)):
        arm = world[:, 9].swapaxes(-1, -2) @ world[:, shoulder, :, :1] * sign  # in the chest
        elevation = np.arcsin(np.clip(arm[:, 1, 0], -1, 1))
        turn = np.zeros((len(local), 3), np.float32)
        turn[:, 2] = sign * COLLAR_SHARE * elevation
        world[:, collar] = world[:, collar] @ roma.rotvec_to_rotmat(torch.from_numpy(turn)).numpy()
    return _to_local(world)


def _deepmimic_rotations(frames: Array, swings: Array) -> Array:
    """(T, 24, 3, 3) from frames (T, 44). Source axes: x forward, y up, z right."""
    axes = np.array([[0, 0, -1], [0, 1, 0], [1, 0, 0]], np.float32)  # SMPL from DeepMimic
    vectors = {}
    for joint, (start, end) in DEEPMIMIC_SPANS.items():
        if end - start == 1:
            vector = np.zeros((len(frames), 3), np.float32)
            vector[:, 2] = frames[:, start]
        else:
            quaternion = torch.from_numpy(frames[:, [start + 1, start + 2, start + 3, start]])
            vector = roma.unitquat_to_rotvec(roma.quat_normalize(quaternion)).numpy()
        vectors[joint] = vector @ axes.T
    parts = np.zeros((len(frames), 24, 3), np.float32)
    for joint in range(24):
        if joint in (3, 6, 9):
            parts[:, joint] = vectors["chest"] / 3
        elif joint in (12, 15):
            parts[:, joint] = vectors["neck"] / 2
        elif joint in vectors:
            parts[:, joint] = vectors[joint]
    world = _chain(roma.rotvec_to_rotmat(torch.from_numpy(parts)).numpy(), SMPL_PARENTS)
    moving: dict[int, int] = {
        joint: joint for joint in range(24) if joint not in (10, 11, 20, 21, 22, 23)
    }
    return _retarget(world, moving, swings)


def _read_bvh(path: Path, rest_points: Array) -> Clip:
    """A MakeHuman pose. Source axes: x left, y back, z up."""
    bones, offsets, parents, local = _parse_bvh(path)
    axes = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32)  # SMPL from MakeHuman
    world = axes @ _chain(local, parents) @ axes.T
    rest = np.zeros_like(offsets)
    for row, parent in enumerate(parents):
        rest[row] = offsets[row] + (rest[parent] if parent >= 0 else 0)
    rest = rest @ axes.T
    joint_of: dict[int, int] = {}
    swings = np.tile(np.eye(3, dtype=np.float32), (24, 1, 1))
    for joint, (bone, far) in MAKEHUMAN_BONE.items():
        paired = SMPL_FLIP[joint] != joint
        for side, suffix in ((joint, ".L"), (SMPL_FLIP[joint], ".R")) if paired else ((joint, ""),):
            joint_of[side] = bones.index(bone + suffix)
            if far:
                start = rest[bones.index(_first_part(bone) + suffix)]
                own = rest_points[BONE_CHILD[side]] - rest_points[side]
                swings[side] = _swing(own, rest[bones.index(far + suffix)] - start)
    return Clip(f"makehuman/{path.stem}", _retarget(world, joint_of, swings), 1.0)


def _first_part(bone: str) -> str:
    """MakeHuman's limbs are split into 01 and 02; the limb starts with the first."""
    return bone.replace("02", "01")


def _parse_bvh(path: Path) -> tuple[list[str], Array, tuple[int, ...], Array]:
    """Bone names, offsets (J, 3), parents and the first frame's local rotations (1, J, 3, 3)."""
    names: list[str] = []
    offsets: list[list[float]] = []
    parents: list[int] = []
    channels: list[list[str]] = []
    stack: list[int] = []
    at_end = False
    head, _, motion = path.read_text().partition("MOTION")
    if not motion:
        raise InputError(f"{path} has no MOTION section: give a BVH file")
    for words in (line.split() for line in head.splitlines() if line.strip()):
        if words[0] in ("ROOT", "JOINT"):
            names.append(words[1])
            parents.append(stack[-1] if stack else -1)
            channels.append([])
        elif words[0] == "End":
            at_end = True
        elif words[0] == "{" and not at_end:
            stack.append(len(names) - 1)
        elif words[0] == "}":
            if not at_end:
                stack.pop()
            at_end = False
        elif words[0] == "OFFSET" and not at_end:
            offsets.append([float(word) for word in words[1:4]])
        elif words[0] == "CHANNELS":
            channels[-1] = words[2:]
    frame = iter(float(word) for word in motion.strip().splitlines()[2].split())
    local = np.stack([_euler(used, [next(frame) for _ in used]) for used in channels])
    return names, np.array(offsets, np.float32), tuple(parents), local[None].astype(np.float32)


def _euler(channels: list[str], values: list[float]) -> Array:
    """Rotation (3, 3) of BVH channels: the product in the order they stand."""
    rotation = torch.eye(3, dtype=torch.float64)
    for channel, value in zip(channels, values):
        if channel.endswith("rotation"):
            vector = torch.zeros(3, dtype=torch.float64)
            vector["XYZ".index(channel[0])] = np.deg2rad(value)
            rotation = rotation @ roma.rotvec_to_rotmat(vector)
    return rotation.numpy()
