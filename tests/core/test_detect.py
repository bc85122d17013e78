"""Detection: letterbox there and back, suppression, and the detector around an engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mpmesh_core.decoders import Candidates, MPMeshDecoder, RTMDetDecoder
from mpmesh_core.detect import EngineDetector, letterbox, load_detector, suppress
from mpmesh_core.errors import MissingFileError, NumericalError, ShapeError, UsageError
from mpmesh_core.evaluation.detection import box_iou

SCREEN = (40, 90, 200)  # RGB of the rectangle that the fake network finds


class FakeEngine:
    """Finds the bounding box of everything coloured like `SCREEN`, like a perfect network."""

    name, backend = "detector", "torch"
    device = torch.device("cpu")
    input_names = ("image",)
    output_names = ("scores", "boxes")

    def __init__(self, score: float = 0.9) -> None:
        self.score = score
        self.shapes: list[tuple[int, ...]] = []

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        image = inputs["image"]
        self.shapes.append(tuple(image.shape))
        near = (image[0] - torch.tensor(SCREEN).view(3, 1, 1)).abs().amax(0) < 40
        rows, columns = near.any(1).nonzero(), near.any(0).nonzero()
        boxes, scores = torch.zeros(1, 5, 4), torch.zeros(1, 5)
        if len(rows):
            sides = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            boxes[0, 2], scores[0, 2] = torch.tensor([float(s) for s in sides]), self.score
        return {"scores": scores, "boxes": boxes}


def picture(width: int, height: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """Black with one rectangle over the pixels x1..x2, y1..y2 inclusive."""
    image = np.zeros((height, width, 3), np.uint8)
    image[box[1] : box[3] + 1, box[0] : box[2] + 1] = SCREEN
    return image


class TestLetterbox:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 900), st.integers(1, 900), st.sampled_from([32, 320, 416]), st.data())
    def test_boxes_come_back(self, width: int, height: int, size: int, data: Any) -> None:
        box = letterbox(np.zeros((height, width, 3), np.uint8), size)
        corners = st.floats(-50, 950)
        boxes = np.array([[data.draw(corners) for _ in range(4)]], np.float32)
        np.testing.assert_allclose(box.to_image(box.to_canvas(boxes)), boxes, atol=2e-2)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 900), st.integers(1, 900), st.sampled_from([32, 320, 416]))
    def test_canvas(self, width: int, height: int, size: int) -> None:
        canvas = letterbox(np.zeros((height, width, 3), np.uint8), size).canvas
        assert max(canvas.shape[:2]) == size
        assert canvas.shape[0] % 32 == 0 and canvas.shape[1] % 32 == 0
        longer = canvas.shape[int(width > height)]
        assert longer == size

    def test_640x480(self) -> None:
        assert letterbox(np.zeros((480, 640, 3), np.uint8), 416).canvas.shape == (320, 416, 3)

    def test_whole_image_maps_to_its_pixels(self) -> None:
        box = letterbox(np.zeros((480, 640, 3), np.uint8), 320)
        whole = np.array([[-0.5, -0.5, 639.5, 479.5]], np.float32)
        np.testing.assert_allclose(box.to_canvas(whole), [[0, 0, 320, 240]], atol=1e-4)

    def test_fixed_canvas(self) -> None:
        box = letterbox(np.full((100, 400, 3), 7, np.uint8), 320, canvas_size=(416, 416))
        assert box.canvas.shape == (416, 416, 3)
        assert (box.canvas[:104] == 7).all() and (box.canvas[104:] == 114).all()

    def test_image_is_in_the_canvas(self) -> None:
        image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
        canvas = letterbox(image, 96).canvas
        np.testing.assert_array_equal(canvas, image)


def some_boxes(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 80, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(5, 60, (count, 2))], axis=1).astype(np.float32)
    return boxes, rng.uniform(0, 1, count).astype(np.float32)


class TestSuppress:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 10_000), st.integers(0, 40), st.floats(0.1, 0.9))
    def test_greedy_law(self, seed: int, count: int, iou: float) -> None:
        """No kept pair overlaps more than `iou`; every dropped one does with a better kept one."""
        boxes, scores = some_boxes(seed, count)
        keep = suppress(boxes, scores, iou)
        assert (np.diff(scores[keep]) <= 0).all()
        pairs = box_iou(boxes[keep], boxes[keep])
        assert (pairs[~np.eye(len(keep), dtype=bool)] <= iou + 1e-6).all()
        for index in set(range(count)) - set(keep.tolist()):
            better = keep[scores[keep] >= scores[index]]
            assert (box_iou(boxes[[index]], boxes[better]) > iou - 1e-6).any()

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 10_000))
    def test_order_of_input_is_irrelevant(self, seed: int) -> None:
        boxes, scores = some_boxes(seed, 25)
        shuffle = np.random.default_rng(seed + 1).permutation(25)
        kept = {tuple(b) for b in boxes[suppress(boxes, scores, 0.5)]}
        again = {tuple(b) for b in boxes[shuffle][suppress(boxes[shuffle], scores[shuffle], 0.5)]}
        assert kept == again

    def test_doubles_go_the_best_stays(self) -> None:
        boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [50, 0, 60, 10]], np.float32)
        keep = suppress(boxes, np.array([0.5, 0.9, 0.3], np.float32), 0.6)
        assert keep.tolist() == [1, 2]

    def test_empty(self) -> None:
        assert suppress(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5).shape == (0,)


class TestEngineDetector:
    @pytest.mark.parametrize(
        ("width", "height", "box"),
        [(640, 480, (100, 60, 220, 400)), (480, 640, (0, 0, 100, 500)), (50, 40, (10, 5, 30, 35))],
    )
    def test_finds_the_rectangle(self, width: int, height: int, box: Any) -> None:
        found = EngineDetector(FakeEngine(), MPMeshDecoder()).detect(picture(width, height, box))
        assert found.boxes.shape == (1, 4) and found.boxes.dtype == np.float32
        # One canvas pixel is up to 1.6 image pixels here.
        np.testing.assert_allclose(found.boxes[0], box, atol=1.7)
        np.testing.assert_allclose(found.scores, [0.9])

    @pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 700), (3000, 4), (5000, 3000)])
    def test_any_size(self, width: int, height: int) -> None:
        image = picture(width, height, (0, 0, width - 1, height - 1))
        found = EngineDetector(FakeEngine(), MPMeshDecoder()).detect(image)
        np.testing.assert_allclose(
            found.boxes, [[0, 0, width - 1, height - 1]], atol=max(width, height) / 400
        )

    def test_nobody(self) -> None:
        found = EngineDetector(FakeEngine(), MPMeshDecoder()).detect(
            np.zeros((48, 64, 3), np.uint8)
        )
        assert found.boxes.shape == (0, 4) and found.scores.shape == (0,)

    def test_threshold_and_limit(self) -> None:
        image = picture(64, 64, (5, 5, 40, 40))
        low = EngineDetector(FakeEngine(0.2), MPMeshDecoder(), score_threshold=0.3)
        assert len(low.detect(image).scores) == 0
        boxes, scores = some_boxes(3, 40)
        many = EngineDetector(FakeEngine(), MPMeshDecoder(), nms_iou=1.0, max_people=7)
        kept = many._select(Candidates(boxes, scores))[1]
        np.testing.assert_array_equal(kept, np.sort(scores)[::-1][:7])

    def test_nan_score_is_an_error(self) -> None:
        detector = EngineDetector(FakeEngine(float("nan")), MPMeshDecoder())
        with pytest.raises(NumericalError, match="NaN scores"):
            detector.detect(picture(64, 64, (5, 5, 40, 40)))

    def test_nothing_but_nan_boxes_is_an_error(self) -> None:
        detector = EngineDetector(FakeEngine(), MPMeshDecoder())
        nowhere = np.full((2, 4), np.nan, np.float32)
        with pytest.raises(NumericalError, match="NaN scores or boxes"):
            detector._select(Candidates(nowhere, np.array([0.9, 0.8], np.float32)))

    def test_broken_boxes_are_dropped(self) -> None:
        boxes = np.array([[0, 0, np.nan, 9], [9, 9, 3, 3], [0, 0, 9, 9]], np.float32)
        detector = EngineDetector(FakeEngine(), MPMeshDecoder())
        kept, scores = detector._select(Candidates(boxes, np.array([0.9, 0.8, 0.7], np.float32)))
        np.testing.assert_array_equal(kept, boxes[2:])
        np.testing.assert_allclose(scores, [0.7])

    @pytest.mark.parametrize(
        "image",
        [
            np.zeros((4, 4), np.uint8),
            np.zeros((4, 4, 4), np.uint8),
            np.zeros((4, 4, 3), np.float32),
            np.zeros((0, 4, 3), np.uint8),
        ],
    )
    def test_wrong_image(self, image: np.ndarray) -> None:
        with pytest.raises(ShapeError, match="uint8 RGB of shape"):
            EngineDetector(FakeEngine(), MPMeshDecoder()).detect(image)

    def test_wrong_option(self) -> None:
        with pytest.raises(UsageError, match=r"score_threshold must lie in 0\.\.1"):
            EngineDetector(FakeEngine(), MPMeshDecoder(), score_threshold=2.0)

    def test_channel_order_and_range(self) -> None:
        """RTMDet wants normalised BGR; a red image must arrive in the last channel."""

        class Spy(FakeEngine):
            def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
                self.image = inputs["image"]
                return {"dets": torch.zeros(1, 1, 5), "labels": torch.full((1, 1), -1)}

        spy = Spy()
        red = np.zeros((64, 64, 3), np.uint8)
        red[..., 0] = 255
        EngineDetector(spy, RTMDetDecoder(), size=64).detect(red)
        expected = [-103.53 / 57.375, -116.28 / 57.12, (255 - 123.675) / 58.395]
        np.testing.assert_allclose(spy.image[0, :, 9, 9], expected, atol=1e-4)


class TestLoadDetector:
    def test_engine_of_the_shipped_network(self) -> None:
        detector = load_detector(FakeEngine(), max_people=3, score_threshold=0.5)
        assert (detector.decoder.family, detector.max_people) == ("mpmesh", 3)
        assert detector.score_threshold == 0.5

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="does not exist"):
            load_detector(tmp_path / "none.onnx")

    def test_user_file_is_recognised_and_run(self, tmp_path: Path) -> None:
        path = tmp_path / "yolov8.onnx"
        _write_constant_yolov8(path)
        detector = load_detector(path)
        assert (detector.decoder.family, detector.canvas_size) == ("yolov8", (64, 96))
        found = detector.detect(np.zeros((128, 192, 3), np.uint8))
        # Canvas box 20..40 x 10..50 at half the picture's size, first pixel's centre at zero.
        np.testing.assert_allclose(found.boxes, [[39.5, 19.5, 79.5, 99.5]], atol=1e-3)
        np.testing.assert_allclose(found.scores, [0.75])

    def test_unknown_family(self, tmp_path: Path) -> None:
        path = tmp_path / "classifier.onnx"
        _write_constant_yolov8(path, output_shape=(1, 1000))
        with pytest.raises(UsageError, match="no known detector family"):
            load_detector(path)

    def test_half_precision_file(self, tmp_path: Path) -> None:
        path = tmp_path / "half.onnx"
        _write_constant_yolov8(path, half=True)
        found = load_detector(path).detect(np.zeros((128, 192, 3), np.uint8))
        np.testing.assert_allclose(found.scores, [0.75])

    def test_outputs_with_suppression_are_not_raw_ones(self, tmp_path: Path) -> None:
        """(1, rows, 6) looks like YOLOX until it is decoded."""
        path = tmp_path / "end2end.onnx"
        _write_constant_yolov8(path, output_shape=(1, 300, 6))
        with pytest.raises(UsageError, match="do not read as yolox's"):
            load_detector(path).detect(np.zeros((64, 96, 3), np.uint8))

    def test_input_that_is_no_picture(self, tmp_path: Path) -> None:
        path = tmp_path / "flat.onnx"
        _write_constant_yolov8(path, input_shape=(1, 18432))
        with pytest.raises(UsageError, match="one input of four dimensions"):
            load_detector(path)


def _write_constant_yolov8(
    path: Path,
    output_shape: tuple[int, ...] = (1, 5, 42),
    input_shape: tuple[int, ...] = (1, 3, 64, 96),
    half: bool = False,
) -> None:
    """An ONNX file that finds one person wherever it looks."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    value = np.zeros(output_shape, np.float32)
    if output_shape == (1, 5, 42):
        value[0, :, 6] = [30, 30, 20, 40, 0.75]
    kind, dtype = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
    image = helper.make_tensor_value_info("images", kind, list(input_shape))
    output = helper.make_tensor_value_info("output0", kind, list(output_shape))
    nodes = [
        helper.make_node("ReduceMin", ["images"], ["low"], keepdims=0),
        helper.make_node("Mul", ["low", "nothing"], ["zero"]),
        helper.make_node("Add", ["answer", "zero"], ["output0"]),
    ]
    constants = [
        numpy_helper.from_array(value.astype(dtype), "answer"),
        numpy_helper.from_array(np.zeros((), dtype), "nothing"),
    ]
    graph = helper.make_graph(nodes, "constant", [image], [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
