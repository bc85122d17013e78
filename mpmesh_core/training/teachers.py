"""teachers: published networks that label people in photos without labels.

In   a picture (H, W, 3) uint8 RGB and boxes (4,) [px]; network files given by the user
Out  boxes (`PersonFinder`, RTMDet), 33 landmarks in px and metres (`LandmarkTeacher`, MediaPipe
     Pose landmark), COCO-17 in px (`HeatmapTeacher`)

Used only to make training labels, never at run time. Whom to believe is decided in `teaching`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx

from mpmesh_core.errors import MissingPackageError
from mpmesh_core.joints import COCO_FLIP
from mpmesh_core.training.labels.base import existing

Array = np.ndarray

_PAIRS = tuple(i + 1 if i % 2 else i - 1 for i in range(11, 33))
MEDIAPIPE_FLIP = (0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9, *_PAIRS)
"""Index of each MediaPipe landmark's mirror twin."""

_CROP = 256  # side of MediaPipe's landmark input [px]
_HIP_CENTRE, _CIRCLE = 33, 34  # its extra landmarks: middle of the body circle, point on it


@dataclass(frozen=True)
class Reading:
    """What the landmark network says about one person."""

    landmarks: Array  # (33, 3) px, weight: visibility times agreement with the mirrored picture
    world: Array  # (33, 3) [m], hip-centred, camera axes
    presence: float  # its belief that a person is there, 0..1


@dataclass(frozen=True)
class Roi:
    """A square window on the picture, turned so that the person in it stands upright."""

    centre: Array  # (2,) [px]
    side: float  # [px]
    angle: float  # [rad], of the window's x axis, clockwise in the picture

    @property
    def axes(self) -> Array:
        """(2, 2) window axes as columns, in the picture."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        return np.array([[c, -s], [s, c]])

    def to_picture(self, points: Array) -> Array:
        """Map (..., 2) window coordinates in 0..1 to picture px."""
        return (points - 0.5) * self.side @ self.axes.T + self.centre

    def crop(self, image: Array, mirrored: bool = False) -> Array:
        """Cut the window out of the picture: (256, 256, 3) float32 RGB 0..1."""
        shrink = max(1.0, self.side / _CROP)
        smooth = cv2.GaussianBlur(image, (0, 0), 0.4 * shrink) if shrink > 1.5 else image
        linear = self.axes * (self.side / _CROP)
        offset = self.to_picture(np.full(2, 0.5 / _CROP))
        matrix = np.column_stack([linear, offset])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        window = cv2.warpAffine(smooth, matrix, (_CROP, _CROP), flags=flags)
        window = window[:, ::-1] if mirrored else window
        return np.ascontiguousarray(window, dtype=np.float32) / 255


class PersonFinder:
    """Boxes of people from an RTMDet ONNX file with built-in suppression."""

    def __init__(self, path: str | Path, side: int = 640) -> None:
        self._session = _onnx_session(path)
        self._side = side

    def __call__(self, image: Array, least: float = 0.4) -> Array:
        """Return (N, 5) x1, y1, x2, y2 [px], score of the people scored at least `least`."""
        scale = self._side / max(image.shape[:2])
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        canvas = np.full((self._side, self._side, 3), 114, np.uint8)
        canvas[: small.shape[0], : small.shape[1]] = small
        mean, spread = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
        tensor = ((canvas - mean) / spread)[..., ::-1].transpose(2, 0, 1)[None]
        found, kinds = self._session.run(None, {"input": tensor.astype(np.float32)})
        people = found[0][(kinds[0] == 0) & (found[0][:, 4] >= least)].astype(np.float32)
        people[:, :4] = people[:, :4] / scale - 0.5
        return people


class HeatmapTeacher:
    """COCO-17 keypoints from a top-down 256x192 heatmap network (ONNX)."""

    def __init__(self, path: str | Path) -> None:
        self._session = _onnx_session(path)
        self._input = self._session.get_inputs()[0].name

    def __call__(self, image: Array, box: Array) -> Array:
        """Return (17, 3) px and heatmap peak 0..1, averaged with the mirrored picture's."""
        size = np.maximum(box[2:] - box[:2], 1) * 1.25
        height = float(max(size[1], size[0] * 4 / 3))
        scale = height / 256
        corner = (box[:2] + box[2:]) / 2 - np.array([96, 128]) * scale + 0.5 * scale
        matrix = np.array([[scale, 0, corner[0]], [0, scale, corner[1]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        crop = cv2.warpAffine(image, matrix, (192, 256), flags=flags).astype(np.float32) / 255
        crop = (crop - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        maps = self._maps(crop) + self._maps(crop[:, ::-1])[list(COCO_FLIP)][..., ::-1]
        peaks = _heatmap_peaks(maps / 2)
        peaks[:, :2] = (peaks[:, :2] * 4 + 1.5) * scale + corner
        return peaks

    def _maps(self, crop: Array) -> Array:
        tensor = np.ascontiguousarray(crop.transpose(2, 0, 1)[None], dtype=np.float32)
        return np.asarray(self._session.run(None, {self._input: tensor})[0][0])


class LandmarkTeacher:
    """MediaPipe's pose landmark network, run from its tflite file with `ai-edge-litert`."""

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        existing(Path(path), "MediaPipe pose landmark model")
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingPackageError(
                "the landmark teacher needs ai-edge-litert; run: pip install ai-edge-litert"
            ) from error
        self._model = Interpreter(str(path), num_threads=threads)
        self._model.allocate_tensors()
        self._input = self._model.get_input_details()[0]["index"]
        shapes = {tuple(d["shape"]): d["index"] for d in self._model.get_output_details()}
        self._outputs = [shapes[shape] for shape in ((1, 195), (1, 117), (1, 1))]

    def readings(self, image: Array, box: Array) -> Iterator[Reading]:
        """Label one person taken to stand upright, lie either way, or stand upside down.

        The network reads only people who are upright in its window; whoever takes the readings
        stops at a good one.
        """
        for turns in (0, 1, -1, 2):
            yield self._label(image, box, turns * np.pi / 2)

    def _label(self, image: Array, box: Array, angle: float) -> Reading:
        """Find the upright window from box and angle, then read it both ways round."""
        extent = 1.25 * float(max(box[2] - box[0], box[3] - box[1], 2))
        roi = Roi((box[:2] + box[2:]) / 2.0, extent, angle)
        for _ in range(2):
            points, _, _ = self._read(roi.crop(image))
            roi = _upright(roi, points, extent)
        points, world, presence = self._read(roi.crop(image))
        twin, twin_world, twin_presence = self._read(roi.crop(image, mirrored=True))
        flip, mirror = list(MEDIAPIPE_FLIP), np.array([-1, 1, 1])
        twin_px = np.column_stack([1 - twin[:33, 0], twin[:33, 1]])[flip]
        apart = np.linalg.norm(points[:33, :2] - twin_px, axis=1) * 5  # about 5 torsos a window
        visible = np.minimum(points[:33, 2], twin[:33, 2][flip])
        weight = visible * np.exp(-((apart / 0.3) ** 2))
        pixels = roi.to_picture((points[:33, :2] + twin_px) / 2)
        metres = (world + (twin_world * mirror)[flip]) / 2
        metres = np.column_stack([metres[:, :2] @ roi.axes.T, metres[:, 2]])
        landmarks = np.column_stack([pixels, weight]).astype(np.float32)
        return Reading(landmarks, metres.astype(np.float32), min(presence, twin_presence))

    def _read(self, crop: Array) -> tuple[Array, Array, float]:
        """Run the network: (39, 3) window x, y in 0..1 and visibility, world (33, 3), presence."""
        self._model.set_tensor(self._input, crop[None])
        self._model.invoke()
        flat, world, presence = (self._model.get_tensor(i)[0] for i in self._outputs)
        rows = flat.reshape(39, 5)
        seen = 1 / (1 + np.exp(-np.minimum(rows[:, 3], rows[:, 4])))
        points = np.column_stack([rows[:, :2] / _CROP, seen])
        return points, world.reshape(39, 3)[:33], float(presence[0])


def _upright(roi: Roi, points: Array, extent: float) -> Roi:
    """MediaPipe's rule: a square around the body circle, hip to circle point upwards.

    Kept within 0.6 to 1.8 times the box's `extent`, so that one bad reading cannot run away.
    """
    centre, rim = (roi.to_picture(points[i, :2]) for i in (_HIP_CENTRE, _CIRCLE))
    dx, dy = rim - centre
    side = float(np.clip(2.5 * np.hypot(dx, dy), 0.6 * extent, 1.8 * extent))
    return Roi(centre, side, float(np.pi / 2 - np.arctan2(-dy, dx)))


def _heatmap_peaks(maps: Array) -> Array:
    """Return (K, 3) x, y and height of the peaks of (K, h, w) maps, moved towards the slope."""
    count, height, width = maps.shape
    flat = maps.reshape(count, -1)
    best = flat.argmax(1)
    y, x = np.divmod(best, width)
    row, inner_x, inner_y = np.arange(count), np.clip(x, 1, width - 2), np.clip(y, 1, height - 2)
    slope_x = maps[row, y, inner_x + 1] - maps[row, y, inner_x - 1]
    slope_y = maps[row, inner_y + 1, x] - maps[row, inner_y - 1, x]
    columns = [x + 0.25 * np.sign(slope_x), y + 0.25 * np.sign(slope_y), flat[row, best]]
    return np.column_stack(columns).astype(np.float32)


def _onnx_session(path: str | Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    model = onnx.load(existing(Path(path), "teacher network"))
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            # The keypoint network says spatial=0 and has statistics for spatial=1, the only way
            # since opset 9. ONNX Runtime ignores it, but for 1.23, the last for Python 3.10.
            kept = [attribute for attribute in node.attribute if attribute.name != "spatial"]
            del node.attribute[:]
            node.attribute.extend(kept)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
