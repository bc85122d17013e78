"""From records of data sets to what the trainers read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from dataset_samples import FRAMES, LENS, NEEDS, WRITERS
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mpmesh_core.body import load_body
from mpmesh_core.camera import Camera
from mpmesh_core.datasets import FrameRecord, PersonRecord, Picture, SmplLabel, read_dataset
from mpmesh_core.errors import MissingFileError
from mpmesh_core.ik import twist_from_rotations
from mpmesh_core.joints import COCO_KEYPOINTS, LSP_JOINTS, POINTS
from mpmesh_core.training.augment import AugmentConfig
from mpmesh_core.training.dataset_people import (
    TargetBody,
    dataset_people,
    dataset_scenes,
    person_sample,
    rotations_of,
)
from mpmesh_core.training.skeleton_data import PeopleStore, write_people
from mpmesh_core.training.undistort import flat_box, flat_camera, flat_picture, flat_pixels

BODY = TargetBody(load_body("open"))
K = np.array([[300.0, 0, 150], [0, 310, 110], [0, 0, 1]])
BENT = Camera(K, np.array(LENS), "plumb_bob", 320, 240)
STRAIGHT = Camera.from_fov(320, 240, 60.0)


def label(kind: str = "smpl", seed: int = 0, **values: object) -> SmplLabel:
    rng = np.random.default_rng(seed)
    return SmplLabel(
        global_orient=Rotation.from_euler("xy", (3.0, 0.4)).as_rotvec(),
        body_pose=rng.normal(0, 0.3, 69),
        betas=rng.normal(0, 1, 10),
        transl=np.array([0.1, 0.2, 3.5]),
        body=kind,
        **values,
    )  # type: ignore[arg-type]


def person(smpl: SmplLabel | None = None, **values: object) -> PersonRecord:
    return PersonRecord(np.array([60, 20, 200, 220], np.float32), smpl=smpl, **values)  # type: ignore[arg-type]


class TestEverySet:
    @pytest.mark.parametrize("name", [name for name in WRITERS if name != "3dhp-test"])
    def test_people_can_be_stored_and_cropped(self, name: str, tmp_path: Path) -> None:
        if name in NEEDS:
            pytest.importorskip(NEEDS[name])
        sample = WRITERS[name](tmp_path)
        records = list(read_dataset(sample.name, tmp_path, sample.split))
        count = write_people(tmp_path / "people", dataset_people(records, BODY, 20))
        assert count == FRAMES
        store = PeopleStore(tmp_path / "people")
        crop = store.crop(1, np.random.default_rng(0), AugmentConfig(), 64)
        assert crop["image"].shape == (3, 64, 64)
        has_3d = bool(sample.joints)
        for joint in ("left_wrist", "right_elbow"):
            row = POINTS.index(joint)
            assert store.labels["points2d"][1, row, 2] > 0
            assert (store.labels["points3d"][1, row, 3] > 0) == has_3d
        if has_3d:  # whatever the first point is, the absolute place of all others follows from it
            points, root = store.labels["points3d"][1], store.labels["root"][1]
            assert root[3]
            assert np.allclose(points[0, :3], root[:3])
            mine = points[POINTS.index("left_wrist"), :3] - points[0, :3] + root[:3]
            assert np.abs(mine - records[1].people[0].points3d[sample.convention][
                _index(sample.convention, "left_wrist"), :3
            ]).max() < 1e-5  # fmt: skip
        else:
            assert not store.labels["root"][:, 3].any()
        assert store.labels["twist"][1, :, 2].any() == (name in ("surreal", "aist"))
        assert not store.labels["betas"][:, 10].any()

    @pytest.mark.parametrize("name", ["h36m", "aist", "panoptic"])
    def test_the_spot_stays_under_its_joint_without_the_lens(
        self, name: str, tmp_path: Path
    ) -> None:
        if name in NEEDS:
            pytest.importorskip(NEEDS[name])
        sample = WRITERS[name](tmp_path)
        records = read_dataset(sample.name, tmp_path, sample.split)
        for picture, found in dataset_people(records, BODY):
            u, v = found.points2d["points"][POINTS.index("left_wrist"), :2]
            x, y = np.arange(picture.shape[1]), np.arange(picture.shape[0])
            near = (np.abs(y - v) < 14)[:, None] & (np.abs(x - u) < 14)
            bright = np.where(near & (picture[..., 1] > 12), picture[..., 1], 0).astype(float)
            centre = np.array([(bright.sum(0) * x).sum(), (bright.sum(1) * y).sum()])
            assert np.abs(centre / bright.sum() - (u, v)).max() < 0.6
            wrist = found.points3d["points"][POINTS.index("left_wrist"), :3]
            pixel = found.K @ wrist
            assert np.abs(pixel[:2] / pixel[2] - (u, v)).max() < 0.01


def _index(convention: str, joint: str) -> int:
    from mpmesh_core.datasets.conventions import CONVENTIONS

    return CONVENTIONS[convention].names.index(joint)


class TestUndistort:
    @given(st.floats(0, 319), st.floats(0, 239))
    @settings(max_examples=30, deadline=None)
    def test_pixels_agree_with_another_implementation(self, u: float, v: float) -> None:
        found = flat_pixels(np.array([u, v]), BENT)
        points = np.array([[[u, v]]])
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-10)
        other = cv2.undistortPointsIter(points, BENT.K, BENT.D, None, BENT.K, criteria)
        assert np.abs(found - other[0, 0]).max() < 1e-3

    def test_picture_agrees_with_another_implementation(self) -> None:
        rng = np.random.default_rng(0)
        picture = cv2.GaussianBlur(rng.integers(0, 255, (240, 320, 3), np.uint8), (0, 0), 4)
        other = cv2.undistort(picture, BENT.K, BENT.D)
        middle = np.s_[20:-20, 20:-20]
        found = flat_picture(picture, BENT)
        assert np.abs(found[middle].astype(int) - other[middle]).max() <= 2

    def test_box_holds_what_it_held(self) -> None:
        box = np.array([10, 5, 310, 235], np.float32)
        inside = np.random.default_rng(0).uniform(box[:2], box[2:], (200, 2))
        moved, flat = flat_pixels(inside, BENT), flat_box(box, BENT)
        assert (moved >= flat[:2] - 1.5).all()
        assert (moved <= flat[2:] + 1.5).all()

    def test_nothing_to_do(self) -> None:
        picture = np.zeros((240, 320, 3), np.uint8)
        assert flat_picture(picture, STRAIGHT) is picture
        assert np.array_equal(flat_camera(STRAIGHT).K, STRAIGHT.K)


class TestSample:
    def test_2d_only(self) -> None:
        points = np.column_stack((np.tile([100.0, 90.0], (14, 1)), np.ones(14)))
        found = person_sample(person(points2d={"lsp14": points}), STRAIGHT, BODY)
        assert found is not None
        assert not any(values[:, 3].any() for values in found.points3d.values())
        assert not found.twist.any()
        assert not found.root.any()
        assert found.points2d["lsp"][LSP_JOINTS.index("neck"), 2] == 1
        assert found.points2d["points"][POINTS.index("left_knee"), 2] == 1
        assert found.points2d["points"][POINTS.index("left_hip"), 2] == 0

    def test_nobody_without_labels(self) -> None:
        assert person_sample(person(), STRAIGHT, BODY) is None

    def test_another_body_gives_twist_only(self) -> None:
        smpl = label("smpl")
        found = person_sample(person(smpl), STRAIGHT, BODY)
        assert found is not None
        rest = BODY.model.rest_points(torch.zeros(10))
        twist = twist_from_rotations(rotations_of(smpl), rest).numpy()
        assert np.allclose(found.twist[:, :2], twist, atol=1e-6)
        assert found.twist[:, 2].all()
        assert not found.betas.any()
        assert not found.points3d["points"].any()
        assert not found.root.any()

    def test_the_same_body_gives_everything(self) -> None:
        smpl = label("open")
        found = person_sample(person(smpl), BENT, BODY)
        assert found is not None
        assert np.allclose(found.betas[:10], smpl.betas)
        assert found.betas[10] == 1
        assert found.points3d["points"][:, 3].all()
        pelvis = smpl.transl + BODY.model.rest_joints(torch.tensor(smpl.betas).float())[0].numpy()
        assert np.allclose(found.root, (*pelvis, 1), atol=1e-5)
        projected = flat_camera(BENT).project(found.points3d["coco"][:, :3].astype(float))
        assert np.abs(projected - found.points2d["coco"][:, :2]).max() < 1e-2

    def test_pelvis_instead_of_transl(self) -> None:
        pelvis = np.array([0.2, 0.1, 4.0])
        smpl = label("open", pelvis=pelvis)
        found = person_sample(person(replace(smpl, transl=np.full(3, np.nan))), STRAIGHT, BODY)
        assert found is not None
        assert np.allclose(found.root[:3], pelvis, atol=1e-5)

    def test_human_2d_wins_over_the_bodys(self) -> None:
        points = np.zeros((17, 3), np.float32)
        wrist = COCO_KEYPOINTS.index("left_wrist")
        points[wrist] = 77, 88, 1
        found = person_sample(person(label("open"), points2d={"coco17": points}), STRAIGHT, BODY)
        assert found is not None
        assert found.points2d["coco"][wrist].tolist() == [77, 88, 1]
        assert found.points2d["points"][POINTS.index("left_wrist")].tolist() == [77, 88, 1]
        assert found.points2d["coco"][0, 2] == 1

    def test_unknown_shape_is_another_body(self) -> None:
        assert not BODY.same(label("open", shape_known=False))
        assert BODY.same(label("open"))
        assert not TargetBody(BODY.model, "smpl", "male").same(label("smpl", gender="female"))
        assert TargetBody(BODY.model, "smpl", "male").same(label("smpl", gender="male"))

    def test_behind_the_camera_has_no_pixel(self) -> None:
        points = np.column_stack((np.tile([0.1, 0.1, 2.0], (17, 1)), np.ones(17)))
        points[COCO_KEYPOINTS.index("left_wrist"), 2] = -1
        found = person_sample(person(points3d={"coco17": points}), STRAIGHT, BODY)
        assert found is not None
        assert found.points2d["coco"][COCO_KEYPOINTS.index("left_wrist"), 2] == 0
        assert found.points3d["coco"][COCO_KEYPOINTS.index("left_wrist"), 3] == 1
        assert found.points2d["coco"][0, 2] == 1

    def test_points_of_the_body_behind_the_camera_have_no_pixel(self) -> None:
        smpl = replace(label("open"), transl=np.array([0.0, 0.0, 0.05]))
        found = person_sample(person(smpl), STRAIGHT, BODY)
        assert found is not None
        ahead = found.points3d["points"][:, 2] > 0
        assert 0 < ahead.sum() < 29
        assert np.array_equal(found.points2d["points"][:, 2] > 0, ahead)
        assert found.points3d["points"][:, 3].all()


class TestPeopleAndScenes:
    def record(self, tmp_path: Path, *people: PersonRecord) -> FrameRecord:
        path = tmp_path / "a.png"
        cv2.imwrite(str(path), np.full((240, 320, 3), 60, np.uint8))
        return FrameRecord("x", "s", 0, Picture(path), 320, 240, people, STRAIGHT)

    def test_crowds_and_small_people_are_left_out(self, tmp_path: Path) -> None:
        one = person(label("open"))
        small = replace(one, box=np.array([10, 10, 30, 30], np.float32))
        outside = replace(one, box=np.array([-300, 10, 30, 40], np.float32))
        record = self.record(tmp_path, replace(one, crowd=True), small, outside, one)
        assert len(list(dataset_people([record], BODY))) == 1

    def test_who_is_not_valid_is_left_out(self, tmp_path: Path) -> None:
        one = person(label("open"))
        record = self.record(tmp_path, replace(one, valid=False), one)
        assert len(list(dataset_people([record], BODY))) == 1
        assert not list(dataset_scenes([record], BODY))

    def test_scenes_of_surreal(self, tmp_path: Path) -> None:
        """Its pelvis is known, `transl` follows from the body's own rest pose."""
        WRITERS["surreal"](tmp_path)
        records = list(read_dataset("surreal", tmp_path))
        body = TargetBody(BODY.model, "smpl", "male")  # any SMPL-format body stands in for SMPL
        scenes = list(dataset_scenes(records, body))
        assert len(scenes) == FRAMES
        for record, scene in zip(records, scenes):
            truth = scene.people[0]
            pelvis = BODY.model.rest_joints(torch.from_numpy(truth.betas))[0].numpy()
            expected = record.people[0].points3d["smpl24"][0, :3]
            assert np.allclose(truth.transl + pelvis, expected, atol=1e-5)
        assert not list(dataset_scenes(records, TargetBody(BODY.model, "smpl", "female")))

    def test_frames_without_a_picture_are_noted(self, tmp_path: Path) -> None:
        good = self.record(tmp_path, person(label("open")))
        lost = replace(good, picture=Picture(tmp_path / "b.png"))
        bad: list[str] = []
        assert len(list(dataset_people([lost, good, lost], BODY, bad=bad))) == 1
        assert len(bad) == 2
        assert "b.png does not exist" in bad[0]
        with pytest.raises(MissingFileError):
            list(dataset_people([lost], BODY))

    def test_scenes_where_all_bodies_are_known(self, tmp_path: Path) -> None:
        known = person(label("open"))
        good = self.record(tmp_path, known, person(label("open", seed=3)))
        bad = self.record(tmp_path, known, person(label("smpl")))
        scenes = list(dataset_scenes([good, bad], BODY))
        assert len(scenes) == 1
        truth = scenes[0].people[0]
        smpl = known.smpl
        assert smpl is not None
        assert np.allclose(truth.rotations, rotations_of(smpl).numpy())
        assert np.allclose(truth.transl, smpl.transl)
        assert truth.visible_box is not None
        assert truth.visibility == pytest.approx(1.0)
