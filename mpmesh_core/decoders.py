"""decoders: what the outputs of a detector network mean, family by family.

In   a network's outputs by name and the size of its input image
Out  one score and one box (x1, y1, x2, y2) a candidate, in input pixels counted from the corner of
     the first pixel, nothing suppressed unless the file itself did

| family | input | outputs |
|---|---|---|
| mpmesh  | RGB 0..255                                 | scores (1, P), boxes (1, P, 4) px |
| rtmdet  | BGR, mean 103.5 116.3 123.7, std 57.4 57.1 58.4 | dets (1, P, 5), labels (1, P) |
| yolox   | BGR 0..255                                 | (1, P, 5 + C) on the grid, not decoded |
| yolov8  | RGB 0..1                                   | (1, 4 + C, P) centre, size, class scores |
| yolov4  | RGB 0..1                                   | boxes (1, P, 1, 4) 0..1, confs (1, P, C) |
| yolov4-anchors | RGB 0..1, (1, H, W, 3)              | three (1, H/s, W/s, 3, 5 + C) |

Person is class 0 in all of them (COCO's order). Padding is grey, below and to the right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from mpmesh_core.errors import UsageError

Array = np.ndarray
Shape = tuple[int | None, ...]  # None where an ONNX dimension is free

STRIDES = (8, 16, 32)
YOLOV4_ANCHORS = np.array(  # (3, 3, 2) width, height [px] at strides 8, 16, 32
    [
        [[12, 16], [19, 36], [40, 28]],
        [[36, 75], [76, 55], [72, 146]],
        [[142, 110], [192, 243], [459, 401]],
    ],
    np.float32,
)
YOLOV4_XY_SCALE = (1.2, 1.1, 1.05)


class Candidates(NamedTuple):
    """Scored boxes before suppression."""

    boxes: Array  # (P, 4) float32 x1, y1, x2, y2 [input px, from the corner of the first pixel]
    scores: Array  # (P,) float32 in 0..1


@dataclass(frozen=True)
class InputFormat:
    """How a network wants its image: (value - mean) / std of 0..255, per channel in its order."""

    rgb: bool = True
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channels_last: bool = False


class Decoder(Protocol):
    """One family of detector files."""

    family: ClassVar[str]
    input_format: ClassVar[InputFormat]

    def decode(self, outputs: Mapping[str, Array], height: int, width: int) -> Candidates:
        """Candidates of one image from the network's outputs (leading dimension 1).

        Args:
            outputs: by name.
            height: of the network's input [px].
            width: likewise.
        """
        ...


_UNIT = InputFormat(std=(255.0, 255.0, 255.0))


class MPMeshDecoder:
    """The shipped network (`networks.detector`)."""

    family: ClassVar[str] = "mpmesh"
    input_format: ClassVar[InputFormat] = InputFormat()

    def decode(self, outputs: Mapping[str, Array], height: int, width: int) -> Candidates:
        """See `Decoder.decode`."""
        return Candidates(outputs["boxes"][0], outputs["scores"][0])


class RTMDetDecoder:
    """RTMDet as MMDeploy exports it, with suppression inside; unused places have label -1."""

    family: ClassVar[str] = "rtmdet"
    input_format: ClassVar[InputFormat] = InputFormat(
        rgb=False, mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395)
    )

    def decode(self, outputs: Mapping[str, Array], height: int, width: int) -> Candidates:
        """See `Decoder.decode`."""
        rows, labels = outputs["dets"][0], outputs["labels"][0]
        return Candidates(rows[:, :4], np.where(labels == 0, rows[:, 4], 0).astype(np.float32))


class YOLOXDecoder:
    """YOLOX without decoding in the graph: centre offset and log size in strides, P rows."""

    family: ClassVar[str] = "yolox"
    input_format: ClassVar[InputFormat] = InputFormat(rgb=False)

    def decode(self, outputs: Mapping[str, Array], height: int, width: int) -> Candidates:
        """See `Decoder.decode`."""
        (rows,) = (value[0] for value in outputs.values())
        grid, stride = _grid(height, width)
        centre = (rows[:, :2] + grid) * stride
        size = np.exp(np.minimum(rows[:, 2:4], 10.0)) * stride
        return Candidates(_corners(centre, size), rows[:, 4] * rows[:, 5])


class YOLOv8Decoder:
    """YOLOv8 and its successors of the same head: decoded boxes, one score a class."""

    family: ClassVar[str] = "yolov8"
    input_format: ClassVar[InputFormat] = _UNIT

    def decode(self, outputs: Mapping[str, Array], height: int, width: int) -> Candidates:
        """See `Decoder.decode`."""
        (columns,) = (value[0] for value in outputs.values())
        return Candidates(_corners(columns[:2].T, columns[2:4].T), columns[4])


class YOLOv4Decoder:
    """YOLOv4 with boxes as shares of the input and class confidences."""

    family: ClassVar[str] = "yolov4"
    input_format: ClassVar[InputFormat] = _UNIT

    def decode(self, outputs: Mapping[str, Array], height: int, width: int) -> Candidates:
        """See `Decoder.decode`."""
        size = np.array([width, height, width, height], np.float32)
        return Candidates(outputs["boxes"][0, :, 0] * size, outputs["confs"][0, :, 0])


class YOLOv4AnchorDecoder:
    """YOLOv4 before its last step: three raw maps, relative to cells and anchors."""

    family: ClassVar[str] = "yolov4-anchors"
    input_format: ClassVar[InputFormat] = InputFormat(std=_UNIT.std, channels_last=True)

    def decode(self, outputs: Mapping[str, Array], height: int, width: int) -> Candidates:
        """See `Decoder.decode`."""
        maps = sorted((value[0] for value in outputs.values()), key=len, reverse=True)
        boxes, scores = [], []
        for level, cells in enumerate(maps):  # (h, w, 3, 5 + C)
            y, x = np.mgrid[: cells.shape[0], : cells.shape[1]]
            grid = np.stack([x, y], axis=-1)[:, :, None]
            scale = YOLOV4_XY_SCALE[level]
            offset = _sigmoid(cells[..., :2]) * scale - 0.5 * (scale - 1)
            size = np.exp(np.minimum(cells[..., 2:4], 10.0)) * YOLOV4_ANCHORS[level]
            boxes.append(_corners((grid + offset) * STRIDES[level], size).reshape(-1, 4))
            scores.append((_sigmoid(cells[..., 4]) * _sigmoid(cells[..., 5])).ravel())
        return Candidates(
            np.concatenate(boxes).astype(np.float32), np.concatenate(scores).astype(np.float32)
        )


def choose_decoder(output_shapes: Mapping[str, Shape], where: str) -> Decoder:
    """The family that an ONNX file's outputs belong to.

    Args:
        output_shapes: by name, in the file's order; None where a dimension is free.
        where: the file, for the message.

    Raises:
        UsageError: outputs of no known family.
    """
    names, shapes = set(output_shapes), list(output_shapes.values())
    if names == {"scores", "boxes"}:
        return MPMeshDecoder()
    if {"dets", "labels"} <= names:
        return RTMDetDecoder()
    if names == {"boxes", "confs"}:
        return YOLOv4Decoder()
    if len(shapes) == 3 and all(len(s) == 5 and s[3] == 3 for s in shapes):
        return YOLOv4AnchorDecoder()
    if len(shapes) == 1 and len(shapes[0]) == 3:
        rows, columns = shapes[0][1:]
        # Classes are fewer than candidates; a free dimension is the candidates'.
        if columns is not None and columns > 5 and (rows is None or rows > columns):
            return YOLOXDecoder()
        if rows is not None and rows > 4 and (columns is None or columns > rows):
            return YOLOv8Decoder()
    found = ", ".join(f"{name} {shape}" for name, shape in output_shapes.items())
    raise UsageError(
        f"{where}: outputs [{found}] are of no known detector family; export a YOLOv4, YOLOX, "
        "YOLOv8-style or RTMDet model (tables of shapes: mpmesh_core.decoders)"
    )


def _grid(height: int, width: int) -> tuple[Array, Array]:
    """Cells (P, 2) as x, y of all strides one after another, and their stride (P, 1)."""
    cells, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: height // stride, : width // stride]
        cells.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full((x.size, 1), stride))
    return (
        np.concatenate(cells).astype(np.float32),
        np.concatenate(strides).astype(np.float32),
    )


def _corners(centre: Array, size: Array) -> Array:
    return np.concatenate([centre - size / 2, centre + size / 2], axis=-1)


def _sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -80, 80)))
