"""teachers: published networks that label the people of photos that have no labels.

In   a picture (H, W, 3) uint8 RGB and boxes (4,) [px]; network files given by the user
Out  `TeacherPose` a person: 33 landmarks in px with weights and in metres (hip-centred, camera
     axes), COCO-17 in px with weights, and how far the two networks disagree

`PersonFinder` (RTMDet) finds boxes, `LandmarkTeacher` (MediaPipe Pose landmark) and
`HeatmapTeacher` (COCO-17 heatmaps) label one box each, `agree` weighs one against the other.
Used only to make training labels, never at run time; it fits no body: that is `fit`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mpmesh_core.errors import MissingPackageError
from mpmesh_core.joints import COCO_FLIP
from mpmesh_core.training.labels.base import LabelledImage, PersonLabel, existing

Array = np.ndarray

_PAIRS = tuple(i + 1 if i % 2 else i - 1 for i in range(11, 33))
MEDIAPIPE_FLIP = (0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9, *_PAIRS)
"""Index of each MediaPipe landmark's mirror twin."""

COCO_IN_MEDIAPIPE = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
"""The MediaPipe landmark nearest in meaning to each COCO keypoint."""

FOLLOWS = {17: 9, 19: 9, 21: 9, 18: 10, 20: 10, 22: 10, 29: 15, 31: 15, 30: 16, 32: 16}
"""Landmarks without a COCO twin, and whose trust they share: fingers the wrist, feet the ankle."""

_CROP = 256  # side of MediaPipe's landmark input [px]
_HIP_CENTRE, _CIRCLE = 33, 34  # its extra landmarks: middle of the body circle, point on it


@dataclass(frozen=True)
class TeacherPose:
    """What the teachers say about one person."""

    mediapipe33: Array  # (33, 3) px, weight 0..1
    coco17: Array  # (17, 3) px, weight 0..1
    world: Array  # (33, 3) [m], hip-centred, camera axes
    presence: float  # the landmark network's belief that a person is there, 0..1
    disagreement: float  # median distance of the limb joints [torso lengths], inf if none agree


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

    def __call__(self, image: Array, box: Array) -> tuple[Array, Array, float]:
        """Label one person: find the upright window from the box, then read it both ways round.

        Returns:
            landmarks (33, 3) px and weight (visibility times agreement with the mirrored
            picture), world (33, 3) [m] hip-centred in camera axes, presence 0..1.
        """
        extent = 1.25 * float(max(box[2] - box[0], box[3] - box[1], 2))
        roi = Roi((box[:2] + box[2:]) / 2.0, extent, 0.0)
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
        return landmarks, metres.astype(np.float32), min(presence, twin_presence)

    def _read(self, crop: Array) -> tuple[Array, Array, float]:
        """Run the network: (39, 3) window x, y in 0..1 and visibility, world (33, 3), presence."""
        self._model.set_tensor(self._input, crop[None])
        self._model.invoke()
        flat, world, presence = (self._model.get_tensor(i)[0] for i in self._outputs)
        rows = flat.reshape(39, 5)
        seen = 1 / (1 + np.exp(-np.minimum(rows[:, 3], rows[:, 4])))
        points = np.column_stack([rows[:, :2] / _CROP, seen])
        return points, world.reshape(39, 3)[:33], float(presence[0])


class Teachers:
    """All teachers together, from a folder with their files.

    Args:
        folder: holds rtmdet-nano/end2end.onnx, mediapipe-pose/pose_landmark_lite.tflite and
            ultralight-simplepose/model/deploy.onnx.
        most_disagreement: people on whom the two pose teachers differ more are left out
            [torso lengths].
        least_presence: people whom the landmark network believes in less are left out.
    """

    def __init__(
        self, folder: str | Path, most_disagreement: float = 0.15, least_presence: float = 0.8
    ) -> None:
        root = Path(folder)
        self._find = PersonFinder(root / "rtmdet-nano" / "end2end.onnx")
        self._landmarks = LandmarkTeacher(root / "mediapipe-pose" / "pose_landmark_lite.tflite")
        self._heatmaps = HeatmapTeacher(root / "ultralight-simplepose" / "model" / "deploy.onnx")
        self._limits = most_disagreement, least_presence

    def label(self, image: LabelledImage, least_height: float) -> LabelledImage:
        """Return the photo with those of its people whom the teachers agree on.

        Args:
            image: with boxes, or without people: then they are looked for.
            least_height: of a box [px].
        """
        picture = image.decode()
        people = image.people or [PersonLabel(row[:4]) for row in self._find(picture)]
        tall = [p for p in people if p.box[3] - p.box[1] >= least_height and not p.crowd]
        taught = [(person, self._read(picture, person.box)) for person in tall]
        most, least = self._limits
        kept = tuple(
            replace(
                person,
                keypoints={**person.keypoints, "coco17": t.coco17, "mediapipe33": t.mediapipe33},
                teacher3d=t.world,
            )
            for person, t in taught
            if t.disagreement <= most and t.presence >= least
        )
        complete = image.complete and len(kept) == len(image.people)
        return replace(image, people=kept, complete=complete)

    def _read(self, picture: Array, box: Array) -> TeacherPose:
        landmarks, world, presence = self._landmarks(picture, box)
        return agree(landmarks, world, presence, self._heatmaps(picture, box))


def agree(
    landmarks: Array, world: Array, presence: float, coco: Array, reach: float = 0.2
) -> TeacherPose:
    """Weigh two teachers by how well they agree.

    Args:
        landmarks: (33, 3) px and weight from the landmark network.
        world: (33, 3) [m].
        presence: of the landmark network.
        coco: (17, 3) px and heatmap peak.
        reach: distance at which the weight has dropped to 0.37 [torso lengths].
    """
    twins = list(COCO_IN_MEDIAPIPE)
    torso = landmarks[[11, 12], :2].mean(0) - landmarks[[23, 24], :2].mean(0)
    shoulders = landmarks[11, :2] - landmarks[12, :2]
    size = max(float(np.linalg.norm(torso)), 1.2 * float(np.linalg.norm(shoulders)), 1.0)
    apart = np.linalg.norm(landmarks[twins, :2] - coco[:, :2], axis=1) / size
    trust = np.exp(-((apart / reach) ** 2))
    both = landmarks.copy()
    both[twins, 2] *= trust
    for extra, owner in FOLLOWS.items():
        both[extra, 2] *= trust[owner]
    seen = np.minimum(1, coco[:, 2] / 0.5) * (coco[:, 2] > 0.2)
    keypoints = np.column_stack([coco[:, :2], seen * trust]).astype(np.float32)
    limbs = np.arange(17) >= 5
    judged = limbs & (landmarks[twins, 2] > 0.5) & (coco[:, 2] > 0.2)
    disagreement = float(np.median(apart[judged])) if judged.sum() >= 4 else float("inf")
    return TeacherPose(both, keypoints, world, presence, disagreement)


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
    file = str(existing(Path(path), "teacher network"))
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
