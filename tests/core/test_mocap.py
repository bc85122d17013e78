"""Tests of the motion readers: sources written here with known poses, laws, and the real files."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from mpmesh_core.body import load_body
from mpmesh_core.errors import InputError, MissingFileError
from mpmesh_core.joints import BONE_CHILD, POINT_FLIP, POINT_PARENTS
from mpmesh_core.training.mocap import (
    CMU_BONE,
    MAKEHUMAN_BONE,
    mirror,
    read_cmu,
    read_deepmimic,
    read_makehuman,
)

DATA = Path(os.environ.get("MPMESH_TEST_DATA", "absent")) / "mocap"
REST = load_body("open").rest_points(torch.zeros(10)).numpy()
LEFT_ARM_DOWN = (16, 18)


def pose_points(rotations: np.ndarray) -> np.ndarray:
    """Points (29, 3) of a pose (24, 3, 3), pelvis at the origin."""
    points, world = np.zeros((29, 3)), rotations.astype(np.float64).copy()
    for point, parent in enumerate(POINT_PARENTS):
        if parent < 0:
            continue
        points[point] = points[parent] + world[parent] @ (REST[point] - REST[parent])
        if point < 24:
            world[point] = world[parent] @ rotations[point]
    return points


def bone(points: np.ndarray, joint: int) -> np.ndarray:
    """Unit direction (3,) of a joint's bone."""
    direction = points[BONE_CHILD[joint]] - points[joint]
    return direction / np.linalg.norm(direction)


def archive(folder: Path, name: str, text: str) -> Path:
    """An archive with one text file."""
    path = folder / "motions.tar.xz"
    with tarfile.open(path, "w:xz") as files:
        member = tarfile.TarInfo(name)
        member.size = len(text)
        files.addfile(member, io.BytesIO(text.encode()))
    return path


def cmu_file(folder: Path, maps: dict[int, tuple[float, float, float]]) -> Path:
    """A CMU file of a rest row and one frame whose joints turn by the given maps."""
    row = np.zeros((39, 3))
    for joint, vector in maps.items():
        row[joint + 1] = vector
    lines = [",".join("0" for _ in range(117)), ",".join(str(v) for v in row.ravel())]
    return archive(folder, "cmu_mocap/train/test/test_1.txt", "\n".join(lines) + "\n")


class TestCmu:
    def test_zero_maps_give_the_source_rest_pose(self, tmp_path: Path) -> None:
        (clip,) = read_cmu(cmu_file(tmp_path, {}), REST)
        points = pose_points(clip.rotations[0])
        for joint, direction in CMU_BONE.items():
            expected = np.array(direction) / np.linalg.norm(direction)
            np.testing.assert_allclose(bone(points, joint), expected, atol=2e-3)

    def test_maps_turn_against_the_usual_sense(self, tmp_path: Path) -> None:
        # The files hold transposed rotations: +90 degrees about y looks to the person's right.
        (clip,) = read_cmu(cmu_file(tmp_path, {0: (0, np.pi / 2, 0)}), REST)
        np.testing.assert_allclose(clip.rotations[0, 0, :, 2], [-1, 0, 0], atol=1e-6)

    def test_a_forearm_turns_with_its_joint(self, tmp_path: Path) -> None:
        (clip,) = read_cmu(cmu_file(tmp_path, {22: (0, np.pi / 2, 0)}), REST)
        points = pose_points(clip.rotations[0])
        np.testing.assert_allclose(bone(points, 16), [1, 0, 0], atol=2e-3)
        np.testing.assert_allclose(bone(points, 18), [0, 0, 1], atol=2e-3)

    def test_missing_archive_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match=r"no motion archive .*nothing\.tar\.xz"):
            read_cmu(tmp_path / "nothing.tar.xz", REST)


def deepmimic_clip(folder: Path, values: dict[int, float]) -> np.ndarray:
    """Rotations (24, 3, 3) of a DeepMimic frame that is the rest pose but for some columns."""
    frame = np.zeros(44)
    frame[[0, 2]] = 0.0333, 0.85
    frame[[4, 8, 12, 16, 21, 25, 30, 35, 39]] = 1.0  # unit quaternions, w first
    for column, value in values.items():
        frame[column] = value
    text = json.dumps({"Loop": "wrap", "Frames": [frame.tolist()]})
    (clip,) = read_deepmimic(archive(folder, "humanoid3d_test.txt", text), REST)
    assert clip.name == "deepmimic/humanoid3d_test"
    return clip.rotations[0]


class TestDeepmimic:
    def test_rest_pose_stands_with_hanging_limbs(self, tmp_path: Path) -> None:
        points = pose_points(deepmimic_clip(tmp_path, {}))
        for joint in (1, 2, 4, 5, 16, 17, 18, 19):
            np.testing.assert_allclose(bone(points, joint), [0, -1, 0], atol=2e-3)

    def test_elbow_and_knee_bend_the_human_way(self, tmp_path: Path) -> None:
        points = pose_points(deepmimic_clip(tmp_path, {43: 1.2, 34: -1.0}))
        assert bone(points, 18)[2] > 0.9  # left forearm forwards
        assert bone(points, 4)[2] < -0.8  # left shin backwards
        np.testing.assert_allclose(bone(points, 19), [0, -1, 0], atol=2e-3)

    def test_folders_under_other_licences_are_left_out(self, tmp_path: Path) -> None:
        path = archive(tmp_path, "sie/clip.txt", '{"Frames": [[0]]}')
        assert read_deepmimic(path, REST) == []


def bvh_text(turns: dict[str, tuple[float, float, float]]) -> str:
    """A MakeHuman skeleton whose bones hang on the root, with straight limbs to read off."""
    bones: dict[str, tuple[float, float, float]] = {}
    for middle, (name, far) in MAKEHUMAN_BONE.items():
        suffixes = (".L", ".R") if middle in (1, 4, 7, 13, 16, 18, 20) else ("",)
        for suffix in suffixes:
            side = -1.0 if suffix == ".R" else 1.0
            for part in {name, name.replace("02", "01")}:
                bones[part + suffix] = (side, 0.0, 0.0)
            if far:
                bones.setdefault(far + suffix, (side, 0.0, -1.0))
    bones.pop("root")
    lines = [
        "HIERARCHY",
        "ROOT root",
        "{",
        "OFFSET 0 0 0",
        "CHANNELS 3 Xrotation Yrotation Zrotation",
    ]
    for name, offset in bones.items():
        lines += [f"JOINT {name}", "{", "OFFSET {} {} {}".format(*offset)]
        lines += [
            "CHANNELS 3 Xrotation Yrotation Zrotation",
            "End Site",
            "{",
            "OFFSET 0 0 1",
            "}",
            "}",
        ]
    values = [value for name in ("root", *bones) for value in turns.get(name, (0, 0, 0))]
    lines += ["}", "MOTION", "Frames: 1", "Frame Time: 0.04", " ".join(str(v) for v in values)]
    return "\n".join(lines) + "\n"


class TestMakehuman:
    def test_axes_and_euler_order(self, tmp_path: Path) -> None:
        # Source axes: x left, y back, z up. A turn of 90 degrees about z is one about SMPL's y.
        (tmp_path / "turned.bvh").write_text(bvh_text({"root": (0, 0, 90)}))
        (tmp_path / "mixed.bvh").write_text(bvh_text({"head": (90, 0, 90)}))
        mixed, turned = read_makehuman(tmp_path, REST)
        np.testing.assert_allclose(turned.rotations[0, 0, :, 0], [0, 0, -1], atol=1e-6)
        # X then Z in the source: the head's left side goes to the back (Z), then up (X).
        points = mixed.rotations[0]
        head = points[0] @ points[3] @ points[6] @ points[9] @ points[12] @ points[15]
        np.testing.assert_allclose(head[:, 0], [0, 1, 0], atol=1e-6)

    def test_errors_say_what_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match=r"no \.bvh files"):
            read_makehuman(tmp_path, REST)
        (tmp_path / "broken.bvh").write_text("HIERARCHY\n")
        with pytest.raises(InputError, match="no MOTION section"):
            read_makehuman(tmp_path, REST)


class TestMirror:
    def test_points_are_mirrored_and_twice_is_nothing(self) -> None:
        rng = np.random.default_rng(0)
        quaternions = torch.from_numpy(rng.standard_normal((24, 4)))
        import roma

        pose = roma.unitquat_to_rotmat(roma.quat_normalize(quaternions)).numpy()
        twin = mirror(pose)
        np.testing.assert_allclose(mirror(twin), pose, atol=1e-12)
        expected = pose_points(pose)[list(POINT_FLIP)] * [-1, 1, 1]
        np.testing.assert_allclose(pose_points(twin), expected, atol=2e-3)


@pytest.mark.skipif(not DATA.is_dir(), reason="MPMESH_TEST_DATA has no mocap folder")
class TestRealFiles:
    def test_people_walk_upright_on_their_own_legs(self) -> None:
        clips = read_cmu(DATA / "cmu-expmap/cmu_mocap_expmap.tar.xz", REST, stride=60)
        walks = [clip for clip in clips if "/walking/" in clip.name]
        assert len(clips) > 90 and len(walks) >= 5
        for rotations in np.concatenate([clip.rotations for clip in walks])[::5]:
            points = pose_points(rotations)
            assert points[15, 1] > 0.4 and points[[7, 8], 1].max() < -0.4
            facing = rotations[0, :, 2]
            for knee in (4, 5):  # knees bend to the front only
                shin, thigh = bone(points, knee), bone(points, knee - 3)
                assert (thigh - shin) @ facing > -0.25

    @pytest.mark.parametrize("kind", ["deepmimic", "makehuman"])
    def test_all_poses_are_rotations(self, kind: str) -> None:
        if kind == "deepmimic":
            clips = read_deepmimic(DATA / "deepmimic/deepmimic_motions.tar.xz", REST)
        else:
            clips = read_makehuman(DATA / "makehuman-poses", REST)
        rotations = np.concatenate([clip.rotations for clip in clips]).astype(np.float64)
        products = rotations @ rotations.swapaxes(-1, -2)
        np.testing.assert_allclose(products, np.broadcast_to(np.eye(3), products.shape), atol=1e-4)
        assert (np.linalg.det(rotations) > 0).all()
