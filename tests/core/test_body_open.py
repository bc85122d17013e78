"""the open body that ships: SMPL's rest pose, symmetry, closed mesh, human sizes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from body_samples import random_people

from mpmesh_core.body import BodyModel, load_body, read_body_file
from mpmesh_core.body.build.mesh import is_watertight
from mpmesh_core.body.build.open_body import write_body
from mpmesh_core.body.files import OPEN_BODY, BodyArrays
from mpmesh_core.body.smpl_rest import LIMB_JOINTS, SMPL_OFFSETS, rest_angles
from mpmesh_core.joints import (
    COCO_FLIP,
    COCO_KEYPOINTS,
    H36M_FLIP,
    H36M_JOINTS,
    POINT_FLIP,
    SMPL_FLIP,
    SMPL_JOINTS,
    SMPL_PARENTS,
)

MIRROR = np.array([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def arrays() -> BodyArrays:
    return read_body_file(OPEN_BODY)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("open")


def extremes() -> torch.Tensor:
    return torch.cat([torch.zeros(1, 10), 2 * torch.eye(10), -2 * torch.eye(10)])


class TestFile:
    def test_size_and_counts(self, arrays: BodyArrays) -> None:
        assert OPEN_BODY.stat().st_size < 3e6
        assert 6500 < len(arrays.v_template) < 7300
        assert 13_000 < len(arrays.faces) < 14_600

    def test_says_what_it_is(self) -> None:
        with np.load(OPEN_BODY) as file:
            metadata = json.loads(str(file["metadata"]))
            assert set(metadata["keys"]) == set(file.files) - {"metadata"}
        assert "CC0" in metadata["licence"]
        assert metadata["version"] >= 1

    def test_has_smpl_keys_for_other_readers(self) -> None:
        struct = pytest.importorskip("smplx.utils", reason="smplx is not installed").Struct
        import smplx

        with np.load(OPEN_BODY) as file:
            data = struct(**{key: file[key] for key in file.files})
        face = {"nose": 0, "reye": 1, "leye": 2, "rear": 3, "lear": 4}
        other = smplx.SMPL(
            "", data_struct=data, vertex_ids=face, use_hands=False, use_feet_keypoints=False
        )
        rotations, betas, transl = random_people(1)
        theirs = other(
            betas=betas,
            global_orient=rotations[:, :1],
            body_pose=rotations[:, 1:],
            transl=transl,
            pose2rot=False,
        )
        ours = load_body("open")(rotations, betas, transl)
        assert (theirs.vertices - ours.vertices).abs().max() < 1e-5
        assert (theirs.joints[:, :24] - ours.joints).abs().max() < 1e-5


class TestRestPose:
    def test_bones_point_as_smpls(self, body: BodyModel) -> None:
        angles = rest_angles(body.rest_joints(extremes()).numpy())
        limbs = [joint - 1 for joint in LIMB_JOINTS]
        assert angles[:, limbs].max() < 2
        assert angles.max() < 6

    def test_yardstick_finds_a_turned_bone(self) -> None:
        joints = np.zeros((24, 3))
        for joint, parent in enumerate(SMPL_PARENTS[1:], start=1):
            joints[joint] = joints[parent] + SMPL_OFFSETS[joint]
        assert rest_angles(joints).max() < 1e-5
        wrist = SMPL_JOINTS.index("left_wrist")
        bone = joints[wrist] - joints[SMPL_PARENTS[wrist]]
        joints[wrist] += 0.1 * np.linalg.norm(bone) * np.array([0, 1, 0])
        assert rest_angles(joints)[wrist - 1] == pytest.approx(5.7, abs=0.3)

    def test_left_is_left(self, body: BodyModel) -> None:
        rest = body.rest_points(torch.zeros(10))
        for joint, name in enumerate(SMPL_JOINTS):
            if name.startswith("left"):
                assert rest[joint, 0] > 0.01

    def test_tips_lie_at_the_ends(self, body: BodyModel, arrays: BodyArrays) -> None:
        tips = body.rest_points(torch.zeros(10))[24:].numpy()
        template = arrays.v_template
        assert template[:, 1].max() - tips[0, 1] < 0.02
        assert template[:, 0].max() - tips[1, 0] < 0.02
        assert tips[3, 2] - body.rest_joints(torch.zeros(10))[10, 2].item() > 0.04


class TestSymmetry:
    def test_mesh(self, arrays: BodyArrays) -> None:
        mirror = arrays.mirror
        assert mirror is not None
        np.testing.assert_array_equal(mirror[mirror], np.arange(len(mirror)))
        np.testing.assert_allclose(arrays.v_template[mirror], arrays.v_template * MIRROR, atol=1e-6)
        turned = {tuple(np.roll(f, -f.argmin())) for f in mirror[arrays.faces][:, ::-1]}
        assert turned == {tuple(np.roll(f, -f.argmin())) for f in arrays.faces}

    def test_shapes_weights_and_regressors(self, arrays: BodyArrays) -> None:
        mirror = arrays.mirror
        flipped = arrays.shapedirs[mirror] * MIRROR[:, None]
        np.testing.assert_allclose(flipped, arrays.shapedirs, atol=1e-7)
        np.testing.assert_allclose(arrays.weights[mirror][:, SMPL_FLIP], arrays.weights, atol=1e-7)
        matrices = {"coco17": COCO_FLIP, "h36m17": H36M_FLIP}
        pairs = [(arrays.keypoint_regressors[which], flip) for which, flip in matrices.items()]
        for matrix, flip in [(arrays.J_regressor, SMPL_FLIP), *pairs]:
            np.testing.assert_allclose(matrix[list(flip)][:, mirror], matrix, atol=1e-6)

    def test_a_mirrored_pose_gives_the_mirrored_body(self, body: BodyModel) -> None:
        rotations, betas, transl = random_people(2)
        sign = torch.tensor([-1.0, 1.0, 1.0])
        flipped = rotations[:, list(SMPL_FLIP)] * sign[:, None] * sign
        output, other = body(rotations, betas, transl), body(flipped, betas, transl * sign)
        torch.testing.assert_close(
            other.vertices[:, body.mirror], output.vertices * sign, atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            other.points[:, list(POINT_FLIP)], output.points * sign, atol=1e-5, rtol=0
        )


class TestMesh:
    def test_watertight_and_outwards(self, arrays: BodyArrays) -> None:
        assert is_watertight(arrays.faces)
        corners = arrays.v_template[arrays.faces]
        volume = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
        assert 0.05 < volume.sum() / 6 < 0.09  # [m^3], a person of 50 to 90 kg

    def test_a_hole_is_noticed(self, arrays: BodyArrays) -> None:
        assert not is_watertight(arrays.faces[1:])

    def test_weights(self, arrays: BodyArrays) -> None:
        assert (arrays.weights >= 0).all()
        assert (arrays.weights > 0).sum(1).max() <= 4
        np.testing.assert_allclose(arrays.weights.sum(1), 1, atol=1e-6)

    def test_every_vertex_is_used(self, arrays: BodyArrays) -> None:
        assert len(np.unique(arrays.faces)) == len(arrays.v_template)


class TestShapes:
    def test_unit_betas_look_like_adults(self, body: BodyModel) -> None:
        betas = torch.randn(300, 10, generator=torch.Generator().manual_seed(0))
        rest = torch.eye(3).expand(300, 24, 3, 3)
        heights = body(rest, betas, torch.zeros(300, 3)).vertices[..., 1]
        stature = heights.amax(1) - heights.amin(1)
        assert 1.64 < stature.mean() < 1.76
        assert 0.07 < stature.std() < 0.14
        assert stature.min() > 1.3
        assert stature.max() < 2.15

    def test_the_first_component_is_stature(self, body: BodyModel) -> None:
        heights = body(torch.eye(3).expand(21, 24, 3, 3), extremes(), torch.zeros(21, 3))
        stature = np.ptp(heights.vertices[..., 1].numpy(), axis=1)
        assert stature[1] - stature[11] > 0.3
        assert np.abs(stature[2:11] - stature[0]).max() < 0.1

    def test_components_are_ordered_by_how_much_they_move(self, arrays: BodyArrays) -> None:
        size = np.linalg.norm(arrays.shapedirs, axis=(0, 1))
        assert (np.diff(size) <= 1e-6).all()


class TestKeypoints:
    def test_weights_are_convex(self, arrays: BodyArrays) -> None:
        for regressor in arrays.keypoint_regressors.values():
            assert (regressor >= 0).all()
            np.testing.assert_allclose(regressor.sum(1), 1, atol=1e-5)

    def test_coco_lies_at_the_named_joints(self, body: BodyModel) -> None:
        _, betas, transl = random_people(8)
        people = torch.eye(3).expand(8, 24, 3, 3), betas, transl
        coco = body.keypoints(*people, "coco17")
        joints = body(*people, vertices=False).joints
        for index, name in enumerate(COCO_KEYPOINTS):
            if name in SMPL_JOINTS and "hip" not in name:
                off = (coco[:, index] - joints[:, SMPL_JOINTS.index(name)]).norm(dim=-1)
                assert off.max() < 0.05, name

    @pytest.mark.parametrize(
        ("first", "second", "length"),
        [
            ("pelvis", "left_hip", 0.134),
            ("left_hip", "left_knee", 0.443),
            ("left_knee", "left_ankle", 0.443),
            ("pelvis", "spine", 0.236),
            ("spine", "thorax", 0.254),
            ("left_shoulder", "left_elbow", 0.277),
            ("left_elbow", "left_wrist", 0.248),
        ],
    )
    def test_h36m_has_its_own_bone_lengths(
        self, body: BodyModel, first: str, second: str, length: float
    ) -> None:
        rest = torch.eye(3).expand(24, 3, 3)
        joints = body.keypoints(rest, torch.zeros(10), torch.zeros(3), "h36m17")
        bone = joints[H36M_JOINTS.index(first)] - joints[H36M_JOINTS.index(second)]
        assert bone.norm().item() == pytest.approx(length, abs=0.012)


class TestWrite:
    def test_a_written_body_reads_back(self, tmp_path: Path, arrays: BodyArrays) -> None:
        write_body(tmp_path / "again.npz", arrays)
        again = read_body_file(tmp_path / "again.npz")
        for key, value in arrays.float_arrays().items():
            np.testing.assert_array_equal(again.float_arrays()[key], value)
