"""evaluation.worst: a person who was found badly, drawn over the picture."""

from __future__ import annotations

import cv2
import numpy as np

from mpmesh_core.errors import MPMeshError
from mpmesh_core.evaluation.protocol import Case
from mpmesh_core.training.scene import encode_jpeg
from mpmesh_core.types import Array

HEIGHT = 320  # [px] of a picture
MARGIN = 0.25  # around both skeletons, of their size
TRUTH, FOUND = (60, 200, 90), (230, 60, 200)
_EMPTY = 96  # grey where there is no picture


def case_jpeg(case: Case) -> bytes:
    """JPEG of the part of the picture around the person, with both skeletons.

    Skeletons on grey where the picture cannot be read: predictions may be scored without pictures.
    """
    x, y, width, height = _window(case)
    try:
        image = case.picture()
    except MPMeshError:
        image = np.zeros((0, 0, 3), np.uint8)
    part = _cut(image, x, y, width, height)
    scale = HEIGHT / height
    canvas = cv2.resize(part, (max(1, round(width * scale)), HEIGHT), interpolation=cv2.INTER_AREA)
    for points, colour in ((case.true_px, TRUTH), (case.found_px, FOUND)):
        _draw_bones(canvas, (points - (x, y)) * scale, case.parents, colour)
    return encode_jpeg(canvas, quality=85)


def _window(case: Case) -> tuple[int, int, int, int]:
    """x, y, width, height [px] around both skeletons, the truth's alone where they lie apart."""
    true = case.true_px[np.isfinite(case.true_px).all(1)]
    size = max(float(np.ptp(true, axis=0).max()), 16.0) if len(true) else 64.0
    both = np.concatenate([true, case.found_px[np.isfinite(case.found_px).all(1)]])
    near = both[(np.abs(both - true.mean(0)) < 2 * size).all(1)] if len(true) else both
    near = near if len(near) else np.zeros((1, 2))
    low, high = near.min(0) - MARGIN * size, near.max(0) + MARGIN * size
    width, height = np.maximum(np.ceil(high - low), 8).astype(int)
    return int(np.floor(low[0])), int(np.floor(low[1])), int(width), int(height)


def _cut(image: Array, x: int, y: int, width: int, height: int) -> Array:
    part = np.full((height, width, 3), _EMPTY, np.uint8)
    x1, y1 = max(x, 0), max(y, 0)
    x2, y2 = min(x + width, image.shape[1]), min(y + height, image.shape[0])
    if x1 < x2 and y1 < y2:
        part[y1 - y : y2 - y, x1 - x : x2 - x] = image[y1:y2, x1:x2]
    return part


def _draw_bones(canvas: Array, points: Array, parents: object, colour: tuple[int, ...]) -> None:
    fixed = np.round(np.clip(np.nan_to_num(points, nan=-1e4), -1e4, 1e4) * 16).astype(int)
    for joint, parent in enumerate(np.asarray(parents).tolist()):
        if parent >= 0 and np.isfinite(points[[joint, parent]]).all():
            ends = tuple(fixed[joint].tolist()), tuple(fixed[parent].tolist())
            cv2.line(canvas, *ends, colour, 2, cv2.LINE_AA, shift=4)
