"""detect: image to people, the first step of the line.

In   image (H, W, 3) uint8 RGB
Out  Detections: boxes (N, 4) x1, y1, x2, y2 [px], scores (N,), best first

The image is scaled into a letterbox whose longer side is the detector's size, the engine runs, the
family's decoder reads its outputs (`decoders`), doubles are suppressed, and the boxes are brought
back and clipped. Boxes use the pixel convention of the whole line: the centre of the first pixel is
(0, 0), so a box of the whole image is (0, 0, W - 1, H - 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch

from mpmesh_core.decoders import Candidates, Decoder, InputFormat, Shape, choose_decoder
from mpmesh_core.engines.base import Engine
from mpmesh_core.errors import NumericalError, ShapeError, UsageError
from mpmesh_core.types import Detections

Array = np.ndarray

STRIDE = 32  # of the coarsest map: input sides are multiples of it
PADDING = 114  # grey the networks were trained with
DEFAULT_SIZE = 416  # [px] longer side
DEFAULT_THRESHOLD = 0.4  # precision 0.96 on held-out pictures
DEFAULT_NMS_IOU = 0.6  # people overlap more than most objects, so doubles need a high overlap
AREA_BELOW = 0.5  # scale below which shrinking averages areas
MAX_CANDIDATES = 300  # best scores that enter suppression


class Detector(Protocol):
    """Finds people in an image."""

    def detect(self, image: Array) -> Detections:
        """Find the people of one image (H, W, 3) uint8 RGB."""
        ...


@dataclass(frozen=True)
class Letterbox:
    """An image scaled into the top left of a canvas, and the way back."""

    canvas: Array  # (h, w, 3) uint8
    scale_x: float  # canvas px per image px
    scale_y: float

    def to_image(self, boxes: Array) -> Array:
        """Canvas boxes (N, 4), counted from the first pixel's corner, to image pixels."""
        scale = np.array([self.scale_x, self.scale_y] * 2, np.float32)
        return (boxes / scale - 0.5).astype(np.float32)

    def to_canvas(self, boxes: Array) -> Array:
        """The reverse of `to_image`."""
        scale = np.array([self.scale_x, self.scale_y] * 2, np.float32)
        return ((boxes + 0.5) * scale).astype(np.float32)


def letterbox(image: Array, size: int, canvas_size: tuple[int, int] | None = None) -> Letterbox:
    """Scale an image so that its longer side is `size`, on the smallest canvas that holds it.

    Args:
        image: (H, W, 3) uint8.
        size: longer side [px]; sides of the canvas are multiples of 32.
        canvas_size: (height, width) of networks with a fixed input; the image then fills it as far
            as its shape allows.
    """
    height, width = image.shape[:2]
    if canvas_size is None:
        scale = size / max(height, width)
    else:
        scale = min(canvas_size[0] / height, canvas_size[1] / width)
    new_h, new_w = max(1, round(height * scale)), max(1, round(width * scale))
    rows, columns = canvas_size or (-(-new_h // STRIDE) * STRIDE, -(-new_w // STRIDE) * STRIDE)
    canvas = np.full((rows, columns, 3), PADDING, np.uint8)
    filter_ = cv2.INTER_AREA if scale < AREA_BELOW else cv2.INTER_LINEAR
    cv2.resize(image, (new_w, new_h), dst=canvas[:new_h, :new_w], interpolation=filter_)
    return Letterbox(canvas, new_w / width, new_h / height)


def suppress(boxes: Array, scores: Array, iou: float) -> Array:
    """Greedy non-maximum suppression.

    Args:
        boxes: (N, 4).
        scores: (N,).
        iou: a box that overlaps a better one by more than this is dropped.

    Returns:
        Indices (K,) of the boxes that stay, best first; ties in their given order.
    """
    order = np.argsort(-scores, kind="stable")
    x1, y1, x2, y2 = boxes[order].T.copy()  # each (N,), contiguous: this runs every frame
    area = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    width = np.minimum(x2[:, None], x2) - np.maximum(x1[:, None], x1)
    height = np.minimum(y2[:, None], y2) - np.maximum(y1[:, None], y1)
    overlap = np.maximum(width, 0) * np.maximum(height, 0)
    doubles = overlap > iou * (area[:, None] + area - overlap)  # (N, N)
    keep = np.ones(len(order), bool)
    for index in range(len(order)):  # over candidates, each step one row
        if keep[index]:
            keep[index + 1 :] &= ~doubles[index, index + 1 :]
    return order[keep]


class EngineDetector:
    """A detector network behind an engine."""

    def __init__(
        self,
        engine: Engine,
        decoder: Decoder,
        size: int = DEFAULT_SIZE,
        score_threshold: float = DEFAULT_THRESHOLD,
        nms_iou: float = DEFAULT_NMS_IOU,
        max_people: int = 32,
        canvas_size: tuple[int, int] | None = None,
    ) -> None:
        """Take an engine and say how to read it.

        Args:
            engine: one image input, outputs that `decoder` reads.
            decoder: the network's family.
            size: longer side of the network's input [px].
            score_threshold: detections below it are dropped.
            nms_iou: overlap above which the weaker of two boxes is dropped.
            max_people: best scores kept.
            canvas_size: (height, width) where the network has a fixed input.

        Raises:
            UsageError: a value out of its range.
        """
        for name, value, low, high in (
            ("size", size, STRIDE, 4096),
            ("score_threshold", score_threshold, 0, 1),
            ("nms_iou", nms_iou, 0, 1),
            ("max_people", max_people, 1, 10_000),
        ):
            if not low <= value <= high:
                raise UsageError(f"detector {name} must lie in {low}..{high}, got {value}")
        self.engine, self.decoder = engine, decoder
        self.size, self.canvas_size = size, canvas_size
        self.score_threshold, self.nms_iou = score_threshold, nms_iou
        self.max_people = max_people

    def detect(self, image: Array) -> Detections:
        """Find the people of one image.

        Args:
            image: (H, W, 3) uint8 RGB.

        Raises:
            ShapeError: not such an image.
            NumericalError: the network returned NaN.
        """
        check_image(image)
        box = letterbox(image, self.size, self.canvas_size)
        tensor = _to_tensor(box.canvas, self.decoder.input_format).to(self.engine.device)
        outputs = self.engine.run({self.engine.input_names[0]: tensor})
        arrays = {name: value.cpu().numpy() for name, value in outputs.items()}
        try:
            found = self.decoder.decode(arrays, *box.canvas.shape[:2])
        except (ValueError, IndexError, KeyError) as error:
            raise UsageError(
                f"outputs of the detector do not read as {self.decoder.family}'s ({error}); export "
                "the network without post-processing"
            ) from None
        boxes, scores = self._select(found)
        return Detections(_clip(box.to_image(boxes), image.shape[1], image.shape[0]), scores)

    def _select(self, found: Candidates) -> tuple[Array, Array]:
        """Above the threshold, finite, without doubles; best first."""
        if not np.isfinite(found.scores).all():
            raise nan_scores(self.decoder.family, self.engine.backend)
        keep = np.flatnonzero(found.scores >= max(self.score_threshold, 1e-6))
        keep = keep[np.argsort(-found.scores[keep], kind="stable")[:MAX_CANDIDATES]]
        boxes, scores = found.boxes[keep].astype(np.float32), found.scores[keep]
        finite = np.isfinite(boxes).all(axis=1)
        if len(boxes) and not finite.any():
            raise nan_scores(self.decoder.family, self.engine.backend)
        whole = finite & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        boxes, scores = boxes[whole], scores[whole]
        best = suppress(boxes, scores, self.nms_iou)[: self.max_people]
        return boxes[best], scores[best].astype(np.float32)


def load_detector(
    source: Engine | str | Path,
    max_people: int = 32,
    score_threshold: float | None = None,
    threads: int = 0,
) -> EngineDetector:
    """A detector from an engine of the shipped network, or from a user's ONNX file.

    Args:
        source: an engine with outputs `scores` and `boxes`, or an ONNX file of one of the families
            in `decoders`, recognised by its outputs' names and shapes.
        max_people: best scores kept.
        score_threshold: None takes the default.
        threads: CPU threads for an ONNX file, 0 for all.

    Raises:
        MissingFileError, WeightsError: no such file, or not ONNX.
        UsageError: outputs of no known family.
    """
    threshold = DEFAULT_THRESHOLD if score_threshold is None else score_threshold
    if not isinstance(source, str | Path):
        decoder = choose_decoder({name: () for name in source.output_names}, source.name)
        return EngineDetector(source, decoder, score_threshold=threshold, max_people=max_people)
    from mpmesh_core.engines.onnxruntime import OnnxRuntimeEngine

    path = Path(source)
    engine = OnnxRuntimeEngine("detector", path, threads)
    inputs, outputs = _onnx_shapes(path)
    pictures = [inputs.get(name, ()) for name in engine.input_names]
    if len(pictures) != 1 or len(pictures[0]) != 4:
        found = ", ".join(f"{name} {inputs.get(name, ())}" for name in engine.input_names)
        raise UsageError(f"{path}: a detector has one input of four dimensions, this has [{found}]")
    decoder = choose_decoder(outputs, str(path))
    canvas = _fixed_canvas(inputs[engine.input_names[0]], decoder.input_format)
    return EngineDetector(
        engine,
        decoder,
        score_threshold=threshold,
        max_people=max_people,
        canvas_size=canvas,
    )


def _onnx_shapes(path: Path) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Shapes of the inputs and outputs of an ONNX file, None where free."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph

    def shapes(entries: object) -> dict[str, Shape]:
        return {
            entry.name: tuple(d.dim_value or None for d in entry.type.tensor_type.shape.dim)
            for entry in entries  # type: ignore[attr-defined]
        }

    return shapes(graph.input), shapes(graph.output)


def _fixed_canvas(shape: Shape, format_: InputFormat) -> tuple[int, int] | None:
    height, width = shape[1:3] if format_.channels_last else shape[2:4]
    return None if height is None or width is None else (height, width)


def _to_tensor(canvas: Array, format_: InputFormat) -> torch.Tensor:
    """(1, 3, h, w) or (1, h, w, 3) float32 in the network's channel order and range."""
    ordered = canvas if format_.rgb else canvas[..., ::-1]
    tensor = torch.from_numpy(np.ascontiguousarray(ordered)).float()
    if any(format_.mean) or format_.std != (1.0, 1.0, 1.0):
        tensor = (tensor - torch.tensor(format_.mean)) / torch.tensor(format_.std)
    return tensor[None] if format_.channels_last else tensor.permute(2, 0, 1)[None].contiguous()


def _clip(boxes: Array, width: int, height: int) -> Array:
    limit = np.array([width - 1, height - 1] * 2, np.float32)
    return np.clip(boxes, 0, limit)


def nan_scores(family: str, backend: str) -> NumericalError:
    """What to raise where a network's scores are NaN, or all of its boxes."""
    return NumericalError(
        f"detector network ({family}, {backend}) returned NaN scores or boxes: check its weights "
        "and precision"
    )


def check_image(image: Array) -> None:
    """Raise ShapeError unless it is (H, W, 3) uint8."""
    shape, kind = getattr(image, "shape", None), getattr(image, "dtype", None)
    if shape is None or len(shape) != 3 or shape[2] != 3 or kind != np.uint8 or 0 in shape:
        raise ShapeError(f"image must be uint8 RGB of shape (H, W, 3), got {shape} {kind}")
