"""Scoring detections: cases counted by hand, and laws of the curve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpmesh_core.errors import ShapeError
from mpmesh_core.evaluation.detection import (
    LabelledImage,
    box_iou,
    match_detections,
    score_detections,
)

A, B, C = [0, 0, 100, 200], [150, 0, 250, 200], [300, 0, 320, 40]  # C is only 40 px tall


def boxes(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def scores(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


class TestBoxIou:
    def test_known(self) -> None:
        other = boxes([0, 0, 10, 10], [5, 0, 15, 10], [20, 0, 30, 10])
        np.testing.assert_allclose(
            box_iou(boxes([0, 0, 10, 10]), other), [[1, 1 / 3, 0]], atol=1e-6
        )

    def test_empty(self) -> None:
        assert box_iou(boxes(), boxes(A)).shape == (0, 1)

    def test_wrong_shape(self) -> None:
        with pytest.raises(ShapeError):
            box_iou(np.zeros(4), boxes(A))


class TestMatch:
    def test_one_person_counts_once(self) -> None:
        found = match_detections(boxes(A, A), scores(0.6, 0.9), LabelledImage(boxes(A)))
        assert found.correct.tolist() == [False, True]
        assert not found.ignored.any()
        assert found.person.tolist() == [-1, 0]

    def test_best_overlap_is_taken(self) -> None:
        near, nearer = [10, 0, 110, 200], [2, 0, 102, 200]
        found = match_detections(boxes(A), scores(0.9), LabelledImage(boxes(near, nearer)))
        assert found.person.tolist() == [1]

    def test_low_people_are_ignored_on_both_sides(self) -> None:
        elsewhere = [400, 0, 420, 40]
        found = match_detections(
            boxes(C, elsewhere), scores(0.9, 0.8), LabelledImage(boxes(A, C)), min_height=96
        )
        assert found.ignored.tolist() == [True, True]
        result = score_detections(
            [(boxes(A, C), scores(0.9, 0.8), LabelledImage(boxes(A, C)))], min_height=96
        )
        assert result.people == 1
        assert result.recall.tolist() == [1.0] and result.precision.tolist() == [1.0]

    def test_crowd_excuses_what_lies_in_it(self) -> None:
        labels = LabelledImage(boxes(A), crowds=boxes([120, 0, 400, 300]))
        found = match_detections(boxes(B, [90, 0, 130, 200]), scores(0.9, 0.8), labels)
        assert found.ignored.tolist() == [True, False]

    def test_ignored_person_excuses_only_himself(self) -> None:
        labels = LabelledImage(boxes(A), ignored=boxes(B))
        found = match_detections(boxes(B, [150, 0, 190, 60]), scores(0.9, 0.8), labels)
        assert found.ignored.tolist() == [True, False]


class TestScores:
    def test_by_hand(self) -> None:
        """Right, wrong, right of three people: recall 1/3, 1/3, 2/3; precision 1, 1/2, 2/3."""
        wrong = [500, 0, 600, 200]
        image = (boxes(A, wrong, B), scores(0.9, 0.8, 0.7), LabelledImage(boxes(A, B, C)))
        result = score_detections([image])
        np.testing.assert_allclose(result.recall, [1 / 3, 1 / 3, 2 / 3])
        np.testing.assert_allclose(result.precision, [1, 1 / 2, 2 / 3])
        assert result.recall_at_precision(0.66) == pytest.approx((2 / 3, 0.7))
        assert result.recall_at_precision(0.9) == pytest.approx((1 / 3, 0.9))
        assert result.at_threshold(0.75) == pytest.approx((1 / 3, 1 / 2))
        # 34 of the 101 recalls lie up to 1/3, 33 more up to 2/3.
        assert result.average_precision == pytest.approx((34 + 33 * 2 / 3) / 101)

    def test_perfect(self) -> None:
        image = (boxes(A, B), scores(0.9, 0.8), LabelledImage(boxes(A, B)))
        assert score_detections([image, image]).average_precision == pytest.approx(1.0)

    def test_nothing_found_is_not_success(self) -> None:
        image = (boxes(), scores(), LabelledImage(boxes(A)))
        result = score_detections([image])
        assert result.people == 1
        assert result.average_precision == 0.0
        assert result.recall_at_precision(0.85) == (0.0, float("inf"))

    def test_no_images(self) -> None:
        assert score_detections([]).average_precision == 0.0

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 10_000))
    def test_laws(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        low = rng.uniform(0, 100, (12, 2))
        found = np.concatenate([low, low + rng.uniform(20, 60, (12, 2))], axis=1)
        found = found.astype(np.float32)
        labels = LabelledImage(found[:6] + rng.normal(0, 4, (6, 4)).astype(np.float32))
        values = rng.uniform(0, 1, 12).astype(np.float32)
        result = score_detections([(found, values, labels)])
        assert (np.diff(result.recall) >= 0).all() and result.recall[-1] <= 1
        assert ((result.precision >= 0) & (result.precision <= 1)).all()
        # Only the order of the scores matters.
        again = score_detections([(found, values**3, labels)])
        np.testing.assert_allclose(again.precision, result.precision)
        assert 0 <= result.average_precision <= 1
