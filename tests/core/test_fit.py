"""Fitting bodies to labels: known truth, derivatives, independence of people, conventions."""

from __future__ import annotations

import importlib.util
import math
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import roma
import torch
from torch import Tensor

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.errors import MissingFileError, ShapeError, UsageError
from mpmesh_core.joints import BONE_CHILD, SMPL_FLIP
from mpmesh_core.training.fit import FitConfig, FitInput, FitResult, fit, fit_many
from mpmesh_core.training.fit_labels import (
    CONVENTIONS,
    fit_input,
    reprojection_error,
    scenes,
    trust_3d,
)
from mpmesh_core.training.fit_system import (
    FitState,
    Problem,
    landmarks,
    project,
    project_slope,
    system,
)
from mpmesh_core.training.labels import LabelledImage, PersonLabel
from mpmesh_core.training.landmark_map import body_anchors, landmark_map
from mpmesh_core.training.pose_init import initial_rotations
from mpmesh_core.training.pose_prior import pose_prior
from mpmesh_core.training.real import RealConfig, prepare_real
from mpmesh_core.training.scene import ShardFolder
from mpmesh_core.training.teachers import MEDIAPIPE_FLIP, LandmarkTeacher, Reading, Roi
from mpmesh_core.training.teaching import COCO_IN_MEDIAPIPE, agree

KNEES, ELBOWS = (4, 5), (18, 19)
UPRIGHT = (math.pi, 0.0, 0.0)  # body axes (y up) to the camera's (y down), facing it


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("open")


def random_pose(count: int, seed: int = 0) -> Tensor:
    """(count, 24, 3) rotation vectors that joints can do, turned any way round."""
    g = torch.Generator().manual_seed(seed)
    prior = pose_prior(torch.zeros(1))
    spread = torch.where(prior.precision > 0, prior.precision.clamp(min=1e-6).rsqrt(), 0.0)
    noise = torch.randn(count, 24, 3, generator=g).clamp(-1.5, 1.5)
    pose = prior.mean + 0.5 * spread * noise
    pose = torch.minimum(torch.maximum(pose, prior.low), prior.high)
    yaw = torch.rand(count, generator=g) * 2 * math.pi
    turn = roma.rotvec_to_rotmat(torch.tensor(UPRIGHT)) @ roma.rotvec_to_rotmat(
        torch.stack([torch.zeros(count), yaw, torch.zeros(count)], -1)
    )
    pose[:, 0] = roma.rotmat_to_rotvec(turn)
    return pose


def made_up(body: BodyModel, count: int, seed: int = 0) -> tuple[FitInput, Tensor]:
    """Exact labels of random bodies, and their (count, 24, 3) joints."""
    g = torch.Generator().manual_seed(seed + 100)
    rotations = roma.rotvec_to_rotmat(random_pose(count, seed))
    betas = 0.5 * torch.randn(count, 10, generator=g)
    transl = torch.tensor([0.0, 0.0, 4.0]) + 0.3 * torch.randn(count, 3, generator=g)
    anchors, turned = body_anchors(body, rotations, betas, transl)
    K = torch.tensor([[400.0, 0, 160], [0, 400, 120], [0, 0, 1]]).expand(count, 3, 3)
    keypoints, points = {}, torch.zeros(count, 33, 3)
    for name, size in CONVENTIONS.items():
        points = landmark_map(name).place(anchors, turned, torch.zeros(size, 3))
        ones = torch.ones(count, size, 1)
        keypoints[name] = torch.cat([project(points, K), ones], -1)
    world = points - points[:, 23:25].mean(1, keepdim=True)
    size = torch.full((count,), 180.0)
    return FitInput(keypoints, 0.8 * world, torch.ones(count, 33), K, size), anchors[:, :24]


def rows(data: FitInput, chosen: slice) -> FitInput:
    keypoints = {name: value[chosen] for name, value in data.keypoints.items()}
    rest = (data.world, data.world_weight, data.K, data.size)
    return FitInput(keypoints, *(value[chosen] for value in rest))


def no_offsets() -> dict[str, Tensor]:
    return {name: torch.zeros(size, 3) for name, size in CONVENTIONS.items()}


class TestFit:
    def test_known_truth(self, body: BodyModel) -> None:
        data, joints = made_up(body, 24)
        result = fit(body, data, offsets=no_offsets())
        found = body(result.rotations, result.betas, result.transl, vertices=False).joints
        relative = (found - found[:, :1]) - (joints - joints[:, :1])
        assert relative.norm(dim=-1).mean() < 0.03
        assert reprojection_error(data, result).mean() < 0.03
        assert result.bone_error.mean() < math.radians(5)
        assert roma.is_rotation_matrix(result.rotations, 1e-4)

    def test_learned_offset_is_found(self, body: BodyModel) -> None:
        data, _ = made_up(body, 64, seed=3)
        labels = data.keypoints["lsp14"].clone()
        shift = 12.0  # px, about 12 cm at 4 m: head tops are labelled too high
        labels[:, 13, 1] -= shift
        learned = fit(body, FitInput({**data.keypoints, "lsp14": labels}, *_rest(data))).offsets
        assert learned["lsp14"][13, 1] > 0.02  # up along the head
        assert learned["lsp14"][13, 0].abs() < 0.02
        twin = learned["lsp14"][list(landmark_map("lsp14").flip)] * torch.tensor([-1.0, 1, 1])
        torch.testing.assert_close(learned["lsp14"], twin, atol=1e-5, rtol=0)

    def test_person_alone_or_among_others(self, body: BodyModel) -> None:
        data, _ = made_up(body, 5)
        together = fit(body, data, FitConfig(steps=4), no_offsets())
        alone = fit(body, rows(data, slice(2, 3)), FitConfig(steps=4), no_offsets())
        torch.testing.assert_close(alone.transl, together.transl[2:3], atol=1e-3, rtol=0)
        torch.testing.assert_close(alone.rotations, together.rotations[2:3], atol=2e-3, rtol=0)

    def test_bad_person_leaves_others_alone(self, body: BodyModel) -> None:
        data, _ = made_up(body, 3)
        clean = fit(body, data, FitConfig(steps=3), no_offsets())
        data.keypoints["coco17"][0] = math.nan
        spoilt = fit(body, data, FitConfig(steps=3), no_offsets())
        torch.testing.assert_close(spoilt.transl[1:], clean.transl[1:], atol=1e-4, rtol=0)

    def test_empty(self, body: BodyModel) -> None:
        data, _ = made_up(body, 1)
        result = fit(body, rows(data, slice(0, 0)), offsets=no_offsets())
        assert result.rotations.shape == (0, 24, 3, 3)
        assert result.projected["lsp14"].shape == (0, 14, 2)

    def test_nothing_labelled_stays_finite(self, body: BodyModel) -> None:
        data, _ = made_up(body, 2)
        blank = {name: torch.zeros_like(value) for name, value in data.keypoints.items()}
        nothing = FitInput(blank, data.world * 0, data.world_weight * 0, data.K, data.size)
        result = fit(body, nothing, FitConfig(steps=2), no_offsets())
        assert torch.isfinite(result.rotations).all()
        assert torch.isfinite(result.transl).all()

    def test_chunks_equal_one_batch(self, body: BodyModel) -> None:
        data, _ = made_up(body, 5)
        many = fit_many(body, data, FitConfig(steps=2), chunk=2)
        once = fit(body, data, FitConfig(steps=2), many.offsets)
        torch.testing.assert_close(many.transl, once.transl, atol=1e-3, rtol=0)
        assert many.projected["coco17"].shape == (5, 17, 2)

    def test_wrong_shape(self, body: BodyModel) -> None:
        data, _ = made_up(body, 2)
        with pytest.raises(ShapeError, match="world"):
            fit(body, FitInput(data.keypoints, data.world[:, :20], *_rest(data)[1:]))


def _rest(data: FitInput) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return data.world, data.world_weight, data.K, data.size


class TestSystem:
    def test_gradient_follows_energy(self, body: BodyModel) -> None:
        """Landmarks are taken as fixed to one joint each, so the match is close, not exact."""
        data, _ = made_up(body, 6)
        pose = random_pose(6, seed=9)
        pelvis = roma.rotvec_to_rotmat(pose[:, 0])
        pose[:, 0] = 0
        state = FitState(
            pelvis, pose, torch.tensor([0.1, 0.0, 4.2]).repeat(6, 1), torch.zeros(6, 10)
        )
        problem = Problem(body, data, FitConfig())
        found = system(problem, state, no_offsets(), 1.0).gradient
        step = torch.zeros(6, 85, requires_grad=True)
        energy = system(problem, state.moved(step), no_offsets(), 1.0).energy
        (true,) = torch.autograd.grad(energy.sum(), step)
        assert (torch.cosine_similarity(2 * found, true, dim=1) > 0.98).all()
        torch.testing.assert_close(2 * found[:, 72:75], true[:, 72:75], rtol=1e-2, atol=1e-1)

    def test_landmark_moves(self, body: BodyModel) -> None:
        """MediaPipe's hand and foot landmarks hang on one joint: their derivatives are exact."""
        pose = random_pose(2)
        pelvis = roma.rotvec_to_rotmat(pose[:, 0])
        pose[:, 0] = 0
        state = FitState(pelvis, pose, torch.zeros(2, 3), torch.zeros(2, 10))
        moves = landmarks(body, state, no_offsets(), moves=True).moves["mediapipe33"]
        step = 0.01 * torch.randn(2, 85, generator=torch.Generator().manual_seed(0))
        before = landmarks(body, state, no_offsets()).points["mediapipe33"]
        after = landmarks(body, state.moved(step), no_offsets()).points["mediapipe33"]
        linear = (moves @ step[:, None, :, None])[..., 0]
        hard = [17, 18, 19, 20, 29, 30, 31, 32]
        assert ((after - before - linear)[:, hard].norm(dim=-1) < 0.004).all()

    def test_project_slope(self) -> None:
        points = torch.tensor([[[0.3, -0.2, 3.0]]], dtype=torch.float64)
        K = torch.tensor([[[300.0, 2, 10], [0, 310, 20], [0, 0, 1]]], dtype=torch.float64)
        true = torch.autograd.functional.jacobian(lambda p: project(p, K), points)
        torch.testing.assert_close(project_slope(points, K)[0, 0], true[0, 0, :, 0, 0])


class TestPosePrior:
    def test_slope_is_derivative(self) -> None:
        vectors = random_pose(3).double() * 1.5
        vectors.requires_grad_()
        prior = pose_prior(vectors)
        (true,) = torch.autograd.grad(prior.penalty(vectors).sum(), vectors)
        torch.testing.assert_close(2 * prior.slope(vectors)[0], true)

    @pytest.mark.parametrize(
        ("joint", "axis", "sign"), [(4, 0, 1), (5, 0, 1), (18, 1, -1), (19, 1, 1)]
    )
    def test_hinges_bend_one_way(self, joint: int, axis: int, sign: int) -> None:
        bent = torch.zeros(2, 24, 3)
        bent[0, joint, axis], bent[1, joint, axis] = sign * 0.6, -sign * 0.6
        right, wrong = pose_prior(bent).penalty(bent)
        assert wrong > right + 20

    def test_mirror_image_costs_the_same(self) -> None:
        pose = random_pose(4)
        mirrored = pose[:, list(SMPL_FLIP)] * torch.tensor([1.0, -1.0, -1.0])
        prior = pose_prior(pose)
        torch.testing.assert_close(prior.penalty(pose), prior.penalty(mirrored))


class TestLandmarkMap:
    @pytest.mark.parametrize("name", ["lsp14", "coco17", "mediapipe33"])
    def test_rest_pose_is_symmetric(self, body: BodyModel, name: str) -> None:
        rest = torch.eye(3).expand(1, 24, 3, 3)
        anchors, turned = body_anchors(body, rest, torch.zeros(1, 10), torch.zeros(1, 3))
        mapping = landmark_map(name)
        points = mapping.place(anchors, turned, torch.zeros(CONVENTIONS[name], 3))[0]
        mirrored = points[list(mapping.flip)] * torch.tensor([-1.0, 1.0, 1.0])
        torch.testing.assert_close(points, mirrored, atol=4e-3, rtol=0)
        assert len(mapping.anchor) == len(mapping.frame) == CONVENTIONS[name]

    def test_left_is_left(self, body: BodyModel) -> None:
        """Body axes have x to the person's left."""
        rest = torch.eye(3).expand(1, 24, 3, 3)
        anchors, turned = body_anchors(body, rest, torch.zeros(1, 10), torch.zeros(1, 3))
        lsp = landmark_map("lsp14").place(anchors, turned, torch.zeros(14, 3))[0]
        assert (lsp[[3, 4, 5, 9, 10, 11], 0] > 0).all()
        assert (lsp[[0, 1, 2, 6, 7, 8], 0] < 0).all()
        assert lsp[13, 1] > lsp[12, 1] > lsp[3, 1] > lsp[4, 1] > lsp[5, 1]

    def test_unknown_name(self) -> None:
        with pytest.raises(UsageError, match="known: coco17, lsp14, mediapipe33"):
            landmark_map("mpii")


class TestInitialRotations:
    def test_bones_point_along_landmarks(self, body: BodyModel) -> None:
        data, joints = made_up(body, 16)
        rotations = initial_rotations(data.world)
        posed = body(rotations, torch.zeros(16, 10), torch.zeros(16, 3), vertices=False)
        for joint in (1, 2, 4, 5, 16, 17, 18, 19):
            ours = posed.points[:, BONE_CHILD[joint]] - posed.points[:, joint]
            true = joints[:, BONE_CHILD[joint]] - joints[:, joint]
            assert (torch.cosine_similarity(ours, true, dim=-1) > 0.9).all(), joint

    def test_hinges_start_bent_forwards(self, body: BodyModel) -> None:
        data, _ = made_up(body, 32, seed=5)
        vectors = roma.rotmat_to_rotvec(initial_rotations(data.world))
        assert (vectors[:, KNEES, 0] >= -1e-5).all()
        assert (vectors[:, ELBOWS[0], 1] <= 1e-5).all()
        assert (vectors[:, ELBOWS[1], 1] >= -1e-5).all()

    @pytest.mark.parametrize(
        "world", [torch.zeros(2, 33, 3), torch.ones(33, 3), torch.zeros(0, 33, 3)]
    )
    def test_degenerate_is_still_a_rotation(self, world: Tensor) -> None:
        rotations = initial_rotations(world)
        assert rotations.shape == (*world.shape[:-2], 24, 3, 3)
        identity = torch.eye(3).expand(rotations.shape)
        torch.testing.assert_close(rotations @ rotations.mT, identity, atol=1e-4, rtol=0)


def one_photo(data: FitInput) -> LabelledImage:
    keypoints = {name: value[0].numpy() for name, value in data.keypoints.items()}
    spots = keypoints["mediapipe33"][:, :2]
    box = np.concatenate([spots.min(0) - 10, spots.max(0) + 10]).astype(np.float32)
    person = PersonLabel(box, keypoints, teacher3d=data.world[0].numpy())
    encoded = bytes(cv2.imencode(".jpg", np.zeros((240, 320, 3), np.uint8))[1])
    return LabelledImage("x.jpg", "lspet", encoded, 320, 240, (person,))


class TestFitLabels:
    def test_human_labels_win(self, body: BodyModel) -> None:
        data, _ = made_up(body, 1)
        stacked = fit_input([one_photo(data)])
        assert stacked.keypoints["lsp14"][0, :, 2].tolist() == [1.0] * 14
        assert stacked.keypoints["mediapipe33"][0, 28, 2] < 0.1  # the right ankle, labelled too
        assert stacked.keypoints["mediapipe33"][0, 30, 2] > 0.2  # the right heel, not labelled

    def test_teacher_that_contradicts_is_not_trusted(self, body: BodyModel) -> None:
        photo = one_photo(made_up(body, 1)[0])
        fine = fit_input([photo]).world_weight[0]
        photo.people[0].keypoints["mediapipe33"][26, :2] += 80  # right knee
        wrong = fit_input([photo]).world_weight[0]
        assert wrong[26] < 0.05
        assert wrong[25] == fine[25]

    def test_scene_has_the_truth(self, body: BodyModel) -> None:
        photo = one_photo(made_up(body, 1)[0])
        data = fit_input([photo])
        result = fit(body, data, offsets=no_offsets())
        (scene,) = scenes([photo], body, data, result)
        person = scene.people[0]
        assert person.weight_3d == 1.0
        assert scene.jpeg == photo.encoded
        assert set(person.keypoints) == {"lsp14", "coco17", "mediapipe33"}
        assert np.abs(person.box - photo.people[0].box).max() < 25
        assert 0 < person.visibility <= 1

    def test_trust_falls_with_error(self, body: BodyModel) -> None:
        data, _ = made_up(body, 3)
        good = fit(body, data, FitConfig(steps=6), no_offsets())
        shift = torch.tensor([0.0, 6.0, 60.0])[:, None, None]
        moved = {name: value + shift for name, value in good.projected.items()}
        result = FitResult(**{**vars(good), "projected": moved})
        fine, worse, lost = trust_3d(data, result)
        assert fine == 1.0
        assert 0 < worse < 1
        assert lost == 0

    def test_no_people(self, body: BodyModel) -> None:
        data = fit_input([])
        result = fit(body, data, offsets=no_offsets())
        assert list(scenes([], body, data, result)) == []


class TestTeachers:
    def test_agreement(self) -> None:
        landmarks = np.ones((33, 3), np.float32)
        landmarks[11:13, :2], landmarks[23:25, :2] = [[40, 10], [20, 10]], [[35, 60], [25, 60]]
        landmarks[25:29, :2] = [[35, 90], [25, 90], [35, 120], [25, 120]]
        coco = np.full((17, 3), 0.9, np.float32)
        coco[:, :2] = landmarks[list(COCO_IN_MEDIAPIPE), :2]
        coco[16, 0] += 40  # right ankle
        pose = agree(Reading(landmarks, np.zeros((33, 3), np.float32), 1.0), coco)
        assert pose.disagreement == 0
        assert pose.mediapipe33[27, 2] == 1
        assert pose.mediapipe33[[28, 30, 32], 2].max() < 0.05
        assert pose.coco17[16, 2] < 0.05

    def test_flip_is_an_involution(self) -> None:
        assert [MEDIAPIPE_FLIP[i] for i in MEDIAPIPE_FLIP] == list(range(33))

    def test_window_follows_the_turn(self) -> None:
        picture = np.zeros((100, 200, 3), np.uint8)
        picture[48:53, 148:153] = 255
        roi = Roi(np.array([100.0, 50.0]), 160.0, math.pi / 2)  # right of the picture is up
        crop = roi.crop(picture)
        row, column = np.unravel_index(crop[..., 0].argmax(), (256, 256))
        spot = roi.to_picture(np.array([(column + 0.5) / 256, (row + 0.5) / 256]))
        np.testing.assert_allclose(spot, [150, 50], atol=3.5)
        assert row < 100

    def test_missing_network(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="pose landmark model"):
            LandmarkTeacher(tmp_path / "absent.tflite")


_DATA = Path(os.environ.get("MPMESH_TEST_DATA", "absent"))


@pytest.mark.skipif(
    not (_DATA / "train2d" / "lspet").is_dir(), reason="MPMESH_TEST_DATA has no train2d/lspet"
)
@pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_litert") is None, reason="ai-edge-litert is not installed"
)
def test_prepare_real(tmp_path: Path) -> None:
    config = RealConfig(data=_DATA, output=tmp_path, val=2, limit=2, steps=4)
    counts = prepare_real(config, progress=lambda line: None)
    train, val = ShardFolder(tmp_path / "train"), ShardFolder(tmp_path / "val")
    assert (len(train), len(val)) == (counts["train"], counts["val"])
    assert counts["val"] == 2
    assert counts["train_3d"] >= 2
    assert {person.source for scene in train for person in scene.people} >= {"lspet"}
