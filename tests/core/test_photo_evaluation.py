"""Photos with keypoints: labels beside their people are moved onto outlines, others are not."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from people_samples import random_person, result_of

from mpmesh_core.camera import Camera
from mpmesh_core.evaluation.outlines import FARTHEST, sideways
from mpmesh_core.evaluation.photos import SHIFTED, evaluate_photos, merge_boxes
from mpmesh_core.training.labels import LabelledImage, PersonLabel
from mpmesh_core.types import FrameResult

WIDTH, HEIGHT = 320, 240
STANDING = np.array(
    [
        [0, -90], [3, -93], [-3, -93], [6, -90], [-6, -90], [14, -70], [-14, -70], [17, -40],
        [-17, -40], [17, -15], [-17, -15], [9, -10], [-9, -10], [10, 30], [-10, 30], [10, 70],
        [-10, 70],
    ],
    np.float32,
)  # fmt: skip


def body(x: float) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (17, 3) of somebody at x, and their mask, a few pixels wider."""
    points = STANDING + np.array([x, 130], np.float32)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    chains = ((15, 13, 11, 5, 7, 9), (16, 14, 12, 6, 8, 10), (0, 5), (0, 6), (11, 12), (5, 6))
    for chain in chains:
        cv2.polylines(mask, [points[list(chain)].round().astype(np.int32)], False, 1, 9)
    cv2.circle(mask, tuple(map(int, points[0])), 10, 1, -1)
    return np.c_[points, np.ones(17, np.float32)], mask.astype(bool)


class TestSideways:
    @settings(deadline=None, max_examples=30)
    @given(st.integers(-80, 80), st.floats(130, 190))
    def test_the_shift_is_found(self, shift: int, x: float) -> None:
        keypoints, mask = body(x)
        found = sideways(keypoints + np.array([shift, 0, 0]), mask)
        assert found is not None and abs(found + shift) <= 4

    def test_unlabelled_keypoints_count_nothing(self) -> None:
        keypoints, mask = body(160)
        keypoints[::2, :2] += 500
        keypoints[::2, 2] = 0
        found = sideways(keypoints, mask)
        assert found is not None and abs(found) <= 4

    def test_nobody_can_say(self) -> None:
        keypoints, mask = body(160)
        assert sideways(keypoints, np.zeros_like(mask)) is None
        keypoints[2:, 2] = 0
        assert sideways(keypoints, mask) is None

    def test_far_from_the_picture(self) -> None:
        keypoints, mask = body(160)
        assert sideways(keypoints + np.array([5000, 0, 0]), mask) is None

    def test_larger_shifts_may_be_as_good(self) -> None:
        keypoints, _ = body(160)
        wide = np.ones((HEIGHT, WIDTH), bool)
        assert sideways(keypoints, wide) is None
        wide[:, 200:] = False  # now they cannot go farther to the right
        assert sideways(keypoints + np.array([FARTHEST - 60, 0, 0]), wide) is None

    def test_of_two_places_the_nearer(self) -> None:
        keypoints, mask = body(120)
        twins = mask | body(200)[1]
        found = sideways(keypoints + np.array([20, 0, 0]), twins)
        assert found is not None and abs(found + 20) <= 4


def photo(*people: PersonLabel) -> LabelledImage:
    encoded = cv2.imencode(".png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))[1].tobytes()
    return LabelledImage("photo", "coco_keypoints", encoded, WIDTH, HEIGHT, people)


def box(x: float) -> np.ndarray:
    return np.array([x - 25, 25, x + 25, 205], np.float32)


class Seer:
    """A pipeline that says where people truly are."""

    def __call__(self, image: np.ndarray, camera: Camera, source: str) -> FrameResult:
        people = [
            replace(random_person(np.random.default_rng(0)), bbox=box(x), coco_2d=body(x)[0][:, :2])
            for x in (80.0, 240.0)
        ]
        return result_of(camera, people)


class TestPhotos:
    def test_shifted_labels_are_moved_onto_outlines(self) -> None:
        (left, mask), (right, _) = body(80), body(240)
        shift = np.array([40, 0, 0], np.float32)
        labels = photo(
            PersonLabel(box(80), {"coco17": left + shift}),
            PersonLabel(box(240), {"coco17": right}),
        )
        outlines = photo(PersonLabel(box(80), mask=mask), PersonLabel(box(240)))
        merged = replace(merge_boxes(labels, outlines), source=SHIFTED)
        report = evaluate_photos(Seer(), [merged])  # type: ignore[arg-type]
        assert report.keypoints == 34 and report.pck_02 < 0.6  # one of two is beside the person
        assert report.moved_keypoints == 17  # the other has no outline
        assert report.moved_pck_02 == 1.0

    def test_published_labels_stay(self) -> None:
        (left, _), (right, _) = body(80), body(240)
        labels = photo(
            PersonLabel(box(80), {"coco17": left}), PersonLabel(box(240), {"coco17": right})
        )
        report = evaluate_photos(Seer(), [labels])  # type: ignore[arg-type]
        assert report.moved_keypoints == report.keypoints == 34
        assert report.moved_pck_02 == report.pck_02 == 1.0

    def test_boxes_without_keypoints_are_people_too(self) -> None:
        keypoints, mask = body(80)
        labels = photo(PersonLabel(box(80), {"coco17": keypoints}))
        merged = merge_boxes(labels, photo(PersonLabel(box(240)), PersonLabel(box(81), mask=mask)))
        assert len(merged.people) == 2
        first, second = merged.people
        assert first.mask is mask and "coco17" in first.keypoints
        np.testing.assert_array_equal(second.box, box(240))

    def test_either_file_may_be_empty(self) -> None:
        somebody = PersonLabel(box(80), {"coco17": body(80)[0]})
        assert merge_boxes(photo(), photo(somebody)).people == (somebody,)
        assert merge_boxes(photo(somebody), photo()).people == (somebody,)
        assert merge_boxes(photo(), photo()).people == ()
