"""training.detection_augment: one training picture from a sample.

In   DetectionSample, cut-outs, a random generator
Out  AugmentedImage: canvas (H, W, 3) uint8 RGB with the boxes that can be seen in it

Zoom, shift and mirror as a camera would see it (people cut by the border keep the box of their
visible part), then people pasted beside and in front of others, feet a little lower the nearer
they are, then light and sensor. Boxes always hold what is visible, as COCO's do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mpmesh_core.training.detection_data import MIN_VISIBLE, Cutout, DetectionSample

Array = np.ndarray

ZOOM = (0.7, 1.9)  # of the scale that fits the picture into the canvas
MAX_PASTED = 5
MIN_HEIGHT = 8.0  # [px] smaller people are ignored
COVERED = 0.95  # a row or column of a box covered this much is no longer part of it


@dataclass(frozen=True)
class AugmentedImage:
    """One training picture; boxes (n, 4) x1, y1, x2, y2 [canvas px]."""

    image: Array  # (H, W, 3) uint8 RGB
    people: Array
    ignored: Array


def augment(
    sample: DetectionSample,
    canvas_size: tuple[int, int],
    pasted: Sequence[Cutout],
    rng: np.random.Generator,
) -> AugmentedImage:
    """A random view of one sample.

    Args:
        sample: the picture.
        canvas_size: (height, width) [px].
        pasted: cut-outs to choose from; none are pasted where it is empty.
        rng: the only source of chance.
    """
    picture = sample.decode()
    matrix = _random_view(picture.shape[:2], canvas_size, rng)
    canvas = cv2.warpAffine(
        picture,
        matrix,
        canvas_size[::-1],
        flags=cv2.INTER_AREA if matrix[1, 1] < 0.5 else cv2.INTER_LINEAR,
        borderValue=(114, 114, 114),
    )
    people, cut = _into_canvas(sample.people, matrix, canvas_size)
    ignored, out = _into_canvas(sample.ignored, matrix, canvas_size)
    view = AugmentedImage(canvas, people, np.concatenate([ignored, cut, out]))
    if pasted and rng.random() < 0.5:
        view = paste(view, pasted, int(rng.integers(1, MAX_PASTED + 1)), rng)
    return AugmentedImage(_light(view.image, rng), view.people, view.ignored)


def paste(
    view: AugmentedImage, cutouts: Sequence[Cutout], count: int, rng: np.random.Generator
) -> AugmentedImage:
    """Paste people into a picture and bring every box to what is still visible."""
    canvas = view.image.copy()
    height, width = canvas.shape[:2]
    layers: list[tuple[Array, Array]] = []  # (box, mask (H, W)) of each pasted person
    anchors = list(view.people)
    for _ in range(count):
        cutout = cutouts[int(rng.integers(len(cutouts)))]
        box = _place(cutout, anchors, (height, width), rng)
        mask = _blend(canvas, cutout, box, mirrored=bool(rng.random() < 0.5))
        layers.append((box, mask))
        anchors.append(box)
    people: list[Array] = []
    ignored: list[Array] = [view.ignored]
    cover = np.zeros((height, width), bool)
    for _, mask in reversed(layers):
        visible = mask & ~cover
        _file(visible, visible.sum() / max(mask.sum(), 1), people, ignored)
        cover |= mask
    for box in view.people:
        people_box, share = _uncovered(box, cover)
        (people if share >= 0.35 else ignored).append(people_box[None])
    empty = np.zeros((0, 4), np.float32)
    return AugmentedImage(
        canvas, np.concatenate([empty, *people]), np.concatenate([empty, *ignored])
    )


def _random_view(
    size: tuple[int, int], canvas_size: tuple[int, int], rng: np.random.Generator
) -> Array:
    """(2, 3) affine from picture to canvas: zoom, stretch of a few percent, shift, mirror."""
    height, width = size
    rows, columns = canvas_size
    zoom = np.exp(rng.uniform(*np.log(ZOOM)))
    scale = zoom * min(rows / height, columns / width)
    scale_x, scale_y = scale * np.exp(rng.uniform(-0.08, 0.08, 2))
    shift_x = rng.uniform(*sorted((0.0, columns - scale_x * width)))
    shift_y = rng.uniform(*sorted((0.0, rows - scale_y * height)))
    matrix = np.array([[scale_x, 0, shift_x], [0, scale_y, shift_y]])
    if rng.random() < 0.5:
        matrix[0] = [-scale_x, 0, shift_x + scale_x * (width - 1)]
    return matrix


def _into_canvas(boxes: Array, matrix: Array, canvas_size: tuple[int, int]) -> tuple[Array, Array]:
    """Boxes as the canvas shows them: those still people, and those too small or too cut."""
    corners = boxes.reshape(-1, 2, 2) * matrix[[0, 1], [0, 1]] + matrix[:, 2]
    moved = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    limit = np.array([canvas_size[1] - 1, canvas_size[0] - 1] * 2)
    clipped = np.clip(moved, 0, limit).astype(np.float32)
    share = _area(clipped) / np.maximum(_area(moved), 1e-6)
    height = clipped[:, 3] - clipped[:, 1]
    good = (share >= MIN_VISIBLE) & (height >= MIN_HEIGHT)
    return clipped[good], clipped[~good & (_area(clipped) > 0)]


def _area(boxes: Array) -> Array:
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)


def _place(
    cutout: Cutout, anchors: Sequence[Array], size: tuple[int, int], rng: np.random.Generator
) -> Array:
    """Where a cut-out goes: beside or before someone, else anywhere; (4,) box [px]."""
    height, width = size
    aspect = cutout.mask.shape[1] / cutout.mask.shape[0]
    tall = [a for a in anchors if a[3] - a[1] > 0.15 * height]
    if tall and rng.random() < 0.7:
        anchor = tall[int(rng.integers(len(tall)))]
        scale = np.exp(rng.uniform(-0.15, 0.35))
        new_h = (anchor[3] - anchor[1]) * scale
        centre = (anchor[0] + anchor[2]) / 2 + rng.uniform(-1, 1) * (anchor[2] - anchor[0])
        foot = anchor[3] + (scale - 1) * 0.3 * new_h + rng.uniform(-0.03, 0.03) * new_h
    else:
        new_h = height * np.exp(rng.uniform(np.log(0.15), np.log(1.2)))
        centre, foot = rng.uniform(0, width), rng.uniform(0.4, 1.0) * height + 0.3 * new_h
    new_h = float(np.clip(new_h, 16, 1.5 * height))
    half = max(new_h * aspect, 8) / 2
    return np.array([centre - half, foot - new_h, centre + half, foot], np.float32)


def _blend(canvas: Array, cutout: Cutout, box: Array, mirrored: bool) -> Array:
    """Draw a cut-out into the canvas; returns the (H, W) bool pixels it took."""
    height, width = canvas.shape[:2]
    image, mask = cutout.image, cutout.mask.astype(np.float32)
    if mirrored:
        image, mask = image[:, ::-1], mask[:, ::-1]
    scale = (box[2:] - box[:2]) / [mask.shape[1], mask.shape[0]]
    matrix = np.array([[scale[0], 0, box[0]], [0, scale[1], box[1]]])
    flags = cv2.INTER_AREA if scale[1] < 0.5 else cv2.INTER_LINEAR
    drawn = cv2.warpAffine(np.ascontiguousarray(image), matrix, (width, height), flags=flags)
    alpha = cv2.warpAffine(np.ascontiguousarray(mask), matrix, (width, height), flags=flags)
    alpha = cv2.GaussianBlur(alpha, (3, 3), 0)
    canvas[:] = (canvas + alpha[..., None] * (drawn.astype(np.float32) - canvas)).astype(np.uint8)
    return alpha > 0.5


def _file(visible: Array, share: float, people: list[Array], ignored: list[Array]) -> None:
    """Put a pasted person with the people, the ignored or nowhere, by how much is visible."""
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    if not len(rows):
        return
    box = np.array([[columns[0], rows[0], columns[-1], rows[-1]]], np.float32)
    tall_enough = rows[-1] - rows[0] >= MIN_HEIGHT
    (people if share >= MIN_VISIBLE and tall_enough else ignored).append(box)


def _uncovered(box: Array, cover: Array) -> tuple[Array, float]:
    """A box without its fully covered margins, and the uncovered share of the old box."""
    x1, y1 = np.floor(box[:2]).astype(int)
    x2, y2 = np.ceil(box[2:]).astype(int) + 1
    window = cover[y1:y2, x1:x2]
    if not window.size or not window.any():
        return box, 1.0
    rows = np.flatnonzero(window.mean(axis=1) < COVERED)
    columns = np.flatnonzero(window.mean(axis=0) < COVERED)
    if not len(rows) or not len(columns):
        return box, 0.0
    inner = np.array([x1 + columns[0], y1 + rows[0], x1 + columns[-1], y1 + rows[-1]], np.float32)
    trimmed = np.concatenate([np.maximum(box[:2], inner[:2]), np.minimum(box[2:], inner[2:])])
    return trimmed.astype(np.float32), float(1 - window.mean())


def _light(image: Array, rng: np.random.Generator) -> Array:
    """Exposure, contrast, colour, blur, noise and JPEG, each now and then."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + rng.uniform(-8, 8)) % 180
    hsv[..., 1] *= rng.uniform(0.0 if rng.random() < 0.05 else 0.6, 1.4)
    hsv[..., 2] = 255 * (hsv[..., 2] / 255) ** np.exp(rng.uniform(-0.45, 0.45))
    hsv[..., 2] *= rng.uniform(0.7, 1.2)
    out = cv2.cvtColor(np.clip(hsv, 0, [179, 255, 255]).astype(np.uint8), cv2.COLOR_HSV2RGB)
    if rng.random() < 0.15:
        length = int(rng.choice([3, 5]))
        out = cv2.blur(out, (length, 1) if rng.random() < 0.5 else (length, length))
    if rng.random() < 0.15:
        noise = rng.normal(0, rng.uniform(3, 12), out.shape)
        out = np.clip(out + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 80))]
        out = np.asarray(cv2.imdecode(cv2.imencode(".jpg", out, quality)[1], cv2.IMREAD_COLOR))
    return out
