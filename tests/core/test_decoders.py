"""Decoders: outputs built from known boxes must give those boxes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpmesh_core import decoders
from mpmesh_core.decoders import (
    STRIDES,
    YOLOV4_ANCHORS,
    YOLOV4_XY_SCALE,
    MPMeshDecoder,
    RTMDetDecoder,
    YOLOv4AnchorDecoder,
    YOLOv4Decoder,
    YOLOv8Decoder,
    YOLOXDecoder,
    choose_decoder,
)
from mpmesh_core.errors import UsageError

HEIGHT, WIDTH = 96, 160
POINTS = sum(HEIGHT * WIDTH // stride**2 for stride in STRIDES)


def _logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


@st.composite
def boxes(draw: Any) -> np.ndarray:
    """One box inside the input, at least 4 px on each side."""
    x1 = draw(st.floats(0, WIDTH - 12))
    y1 = draw(st.floats(0, HEIGHT - 12))
    x2 = draw(st.floats(x1 + 4, WIDTH))
    y2 = draw(st.floats(y1 + 4, HEIGHT))
    return np.array([x1, y1, x2, y2], np.float32)


def _centre_size(box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (box[:2] + box[2:]) / 2, box[2:] - box[:2]


class TestYOLOX:
    @settings(max_examples=40, deadline=None)
    @given(box=boxes(), level=st.integers(0, 2), score=st.floats(0.05, 1.0))
    def test_round_trip(self, box: np.ndarray, level: int, score: float) -> None:
        rows = np.zeros((1, POINTS, 85), np.float32)
        stride = STRIDES[level]
        before = sum(HEIGHT * WIDTH // s**2 for s in STRIDES[:level])
        centre, size = _centre_size(box)
        column, row = np.minimum(
            (centre // stride).astype(int), [WIDTH // stride - 1, HEIGHT // stride - 1]
        )
        index = before + row * (WIDTH // stride) + column
        rows[0, index, :2] = centre / stride - [column, row]
        rows[0, index, 2:4] = np.log(size / stride)
        rows[0, index, 4:6] = [1.0, score]
        found = YOLOXDecoder().decode({"output": rows}, HEIGHT, WIDTH)
        assert found.scores.argmax() == index
        np.testing.assert_allclose(found.boxes[index], box, atol=2e-3)
        assert found.scores[index] == pytest.approx(score, abs=1e-6)

    def test_other_classes_score_nothing(self) -> None:
        rows = np.zeros((1, POINTS, 85), np.float32)
        rows[0, 3, 4], rows[0, 3, 7] = 1.0, 1.0
        found = YOLOXDecoder().decode({"output": rows}, HEIGHT, WIDTH)
        assert found.scores.max() == 0


class TestYOLOv8:
    @settings(max_examples=20, deadline=None)
    @given(box=boxes(), score=st.floats(0.05, 1.0))
    def test_round_trip(self, box: np.ndarray, score: float) -> None:
        columns = np.zeros((1, 84, POINTS), np.float32)
        centre, size = _centre_size(box)
        columns[0, :5, 7] = [*centre, *size, score]
        found = YOLOv8Decoder().decode({"output0": columns}, HEIGHT, WIDTH)
        np.testing.assert_allclose(found.boxes[7], box, atol=1e-4)
        assert found.scores[7] == pytest.approx(score, abs=1e-6)


class TestYOLOv4:
    @settings(max_examples=20, deadline=None)
    @given(box=boxes(), score=st.floats(0.05, 1.0))
    def test_round_trip(self, box: np.ndarray, score: float) -> None:
        shares = np.zeros((1, 9, 1, 4), np.float32)
        shares[0, 4, 0] = box / [WIDTH, HEIGHT, WIDTH, HEIGHT]
        confidences = np.zeros((1, 9, 80), np.float32)
        confidences[0, 4, 0] = score
        found = YOLOv4Decoder().decode({"boxes": shares, "confs": confidences}, HEIGHT, WIDTH)
        np.testing.assert_allclose(found.boxes[4], box, atol=1e-3)
        assert found.scores[4] == pytest.approx(score, abs=1e-6)

    @settings(max_examples=40, deadline=None)
    @given(box=boxes(), level=st.integers(0, 2), anchor=st.integers(0, 2))
    def test_anchor_round_trip(self, box: np.ndarray, level: int, anchor: int) -> None:
        maps = {
            f"map{s}": np.full((1, HEIGHT // s, WIDTH // s, 3, 85), -20.0, np.float32)
            for s in STRIDES
        }
        stride, scale = STRIDES[level], YOLOV4_XY_SCALE[level]
        centre, size = _centre_size(box)
        column, row = np.minimum(
            (centre // stride).astype(int), [WIDTH // stride - 1, HEIGHT // stride - 1]
        )
        # A scale above 1 lets a cell reach over its border, so the logit stays finite.
        share = (centre / stride - [column, row] + 0.5 * (scale - 1)) / scale
        cell = maps[f"map{stride}"][0, row, column, anchor]
        cell[:2] = [_logit(float(np.clip(p, 1e-6, 1 - 1e-6))) for p in share]
        cell[2:4] = np.log(size / YOLOV4_ANCHORS[level, anchor])
        cell[4:6] = 6.0
        found = YOLOv4AnchorDecoder().decode(maps, HEIGHT, WIDTH)
        best = found.scores.argmax()
        np.testing.assert_allclose(found.boxes[best], box, atol=0.05)
        assert found.scores[best] == pytest.approx((1 / (1 + np.exp(-6.0))) ** 2, abs=1e-5)
        assert (np.delete(found.scores, best) < 1e-6).all()


class TestRTMDet:
    def test_only_people_score(self) -> None:
        rows = np.array([[[1, 2, 30, 40, 0.9], [5, 6, 50, 60, 0.8], [0, 0, 0, 0, 0.0]]], np.float32)
        labels = np.array([[0, 7, -1]])
        found = RTMDetDecoder().decode({"dets": rows, "labels": labels}, HEIGHT, WIDTH)
        np.testing.assert_allclose(found.scores, [0.9, 0, 0])
        np.testing.assert_allclose(found.boxes, rows[0, :, :4])


class TestChooseDecoder:
    @pytest.mark.parametrize(
        ("shapes", "kind"),
        [
            ({"scores": (None, None), "boxes": (None, None, 4)}, MPMeshDecoder),
            ({"dets": (1, None, 5), "labels": (1, None)}, RTMDetDecoder),
            ({"dets": (None, None, None), "labels": (None, None)}, RTMDetDecoder),
            ({"output": (1, 3549, 85)}, YOLOXDecoder),
            ({"output": (None, None, 6)}, YOLOXDecoder),
            ({"output0": (1, 84, 8400)}, YOLOv8Decoder),
            ({"output0": (1, 5, None)}, YOLOv8Decoder),
            ({"boxes": (1, 10647, 1, 4), "confs": (1, 10647, 80)}, YOLOv4Decoder),
            ({f"Identity:{i}": (1, None, None, 3, 85) for i in range(3)}, YOLOv4AnchorDecoder),
        ],
    )
    def test_families(self, shapes: dict[str, decoders.Shape], kind: type) -> None:
        assert isinstance(choose_decoder(shapes, "x.onnx"), kind)

    @pytest.mark.parametrize(
        "shapes", [{}, {"logits": (1, 1000)}, {"a": (1, 4, 100)}, {"a": (None, None, None)}]
    )
    def test_unknown_outputs_are_named(self, shapes: dict[str, decoders.Shape]) -> None:
        with pytest.raises(UsageError, match=r"x\.onnx: outputs \[.*no known detector family"):
            choose_decoder(shapes, "x.onnx")
