"""Scenes of known people against results that are wrong in known ways."""

import dataclasses

import numpy as np
import pytest
import roma
import torch
from people_samples import result_of, standing_person

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.camera import Camera
from mpmesh_core.errors import InputError
from mpmesh_core.evaluation.protocol import ProtocolReport, figure_text
from mpmesh_core.evaluation.synthetic import box_overlaps, score_synthetic
from mpmesh_core.training.scene import PersonTruth, Scene
from mpmesh_core.types import FrameResult, Person

CAMERA = Camera.from_fov(640, 480)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("open")


def truth_of(person: Person, visibility: float = 1.0) -> PersonTruth:
    pose = torch.from_numpy(np.r_[person.global_orient, person.body_pose].reshape(24, 3)).float()
    return PersonTruth(
        rotations=roma.rotvec_to_rotmat(pose).numpy(),
        betas=person.betas.astype(np.float32),
        transl=person.transl,
        box=person.bbox.astype(np.float32),
        visible_box=person.bbox.astype(np.float32),
        visibility=visibility,
    )


def moved(person: Person, shift: list[float]) -> Person:
    step = np.array(shift)
    joints = person.joints + step
    return dataclasses.replace(
        person, joints=joints, position=joints[0], transl=person.transl + step
    )


def score(body: BodyModel, scenes: list[tuple[list[PersonTruth], list[Person]]]) -> ProtocolReport:
    grey = np.full((480, 640, 3), 99, np.uint8)
    results: dict[int, FrameResult] = {}
    pictures = []
    for truths, people in scenes:
        pictures.append(Scene(grey, CAMERA, truths))
        results[id(pictures[-1])] = result_of(CAMERA, people)
    return score_synthetic(pictures, lambda scene: results[id(scene)], body, "made up", "mine")


class TestFigures:
    def test_the_truth_itself(self, body: BodyModel) -> None:
        people = [standing_person(body, CAMERA, x, 4.0) for x in (-1.0, 1.0)]
        report = score(body, [([truth_of(p) for p in people], people[::-1])])
        assert report.figures["F1"] == 1 and report.figures["people"] == 2
        for name in ("MPJPE [mm]", "PA-MPJPE [mm]", "PVE [mm]", "position [mm]"):
            assert report.figures[name] < 0.01

    def test_a_shift_is_an_error_of_the_position_alone(self, body: BodyModel) -> None:
        person = standing_person(body, CAMERA, 0.0, 4.0)
        report = score(body, [([truth_of(person)], [moved(person, [0, 0, 0.4])])])
        assert abs(report.figures["position [mm]"] - 400) < 0.01
        assert abs(report.figures["position [%]"] - 10) < 0.2
        assert report.figures["MPJPE [mm]"] < 0.01 and report.figures["PVE [mm]"] < 0.01

    def test_who_can_hardly_be_seen_is_neither_right_nor_wrong(self, body: BodyModel) -> None:
        people = [standing_person(body, CAMERA, x, 4.0) for x in (-1.5, 0.0, 1.5)]
        truths = [truth_of(p, v) for p, v in zip(people, (1.0, 0.3, 0.4))]
        report = score(body, [(truths, [people[0], moved(people[1], [0, 0.2, 0])])])
        assert report.figures["F1"] == 1 and report.figures["people"] == 1
        rows = {group.title: group.rows for group in report.groups}["Visibility"]
        assert rows["30% - 50%"]["recall"] == 0.5
        assert abs(rows["30% - 50%"]["position [mm]"] - 200) < 0.01
        assert len(report.cases) == 1

    def test_far_off_is_a_miss_and_a_false_positive(self, body: BodyModel) -> None:
        person = standing_person(body, CAMERA, 0.0, 4.0)
        report = score(body, [([truth_of(person)], [moved(person, [0, 0, 1.2])])])
        assert report.figures["F1"] == 0 and report.figures["false positives"] == 1
        assert np.isnan(report.figures["MPJPE [mm]"]) and np.isnan(report.figures["NMJE [mm]"])

    def test_empty_scenes(self, body: BodyModel) -> None:
        person = standing_person(body, CAMERA, 0.0, 4.0)
        report = score(body, [([], [person]), ([truth_of(person)], []), ([], [])])
        assert report.figures["precision"] == report.figures["recall"] == 0
        with pytest.raises(InputError, match="no scenes"):
            score(body, [])

    def test_who_is_only_expected_does_not_count(self, body: BodyModel) -> None:
        person = standing_person(body, CAMERA, 0.0, 4.0)
        gone = dataclasses.replace(person, state="coasted")
        report = score(body, [([truth_of(person)], [gone])])
        assert report.figures["recall"] == 0 and report.figures["false positives"] == 0


class TestParts:
    def test_overlap_of_boxes(self) -> None:
        boxes = np.array([[0.0, 0, 10, 10], [5, 0, 25, 10], [100, 100, 110, 110]])
        assert np.allclose(box_overlaps(boxes), [0.5, 0.25, 0])
        assert box_overlaps(np.zeros((0, 4))).shape == (0,)
        assert box_overlaps(boxes[:1]).tolist() == [0]

    def test_figures_as_text(self) -> None:
        assert figure_text("F1", 1.0) == "1"
        assert figure_text("F1", 0.5) == "0.500"
        assert figure_text("MPJPE [mm]", 12.345) == "12.3"
        assert figure_text("MPJPE [mm]", np.nan) == "–"
