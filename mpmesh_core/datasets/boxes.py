"""datasets.boxes: boxes x1, y1, x2, y2 [px, centre of the first pixel at (0, 0)] from labels."""

from __future__ import annotations

import numpy as np

from mpmesh_core.errors import InputError
from mpmesh_core.types import Array


def tight_boxes(points: Array) -> Array:
    """Boxes around point sets, all of their points: (..., K, 2) [px] to (..., 4)."""
    return np.concatenate([points.min(-2), points.max(-2)], axis=-1)


def keypoint_box(keypoints: Array, grow: float = 0.15) -> Array:
    """Return the box around the keypoints with weight, grown on each side by `grow` of its size.

    Args:
        keypoints: (K, 3) px and weight, at least two of them weighted.
        grow: share of the longer side added on every side (joints lie inside the silhouette).
    """
    seen = keypoints[keypoints[:, 2] > 0, :2]
    if len(seen) < 2:
        raise InputError(f"a box needs at least 2 labelled keypoints, got {len(seen)}")
    low, high = seen.min(0), seen.max(0)
    margin = grow * float((high - low).max())
    return np.concatenate([low - margin, high + margin]).astype(np.float32)


def mask_box(mask: Array) -> Array:
    """Return the (4,) float32 box [px] around the set pixels of a non-empty (H, W) mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        raise InputError("a mask without a set pixel has no box")
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)


def corner_box(xywh: Array | list[float]) -> Array:
    """Box from left, top, width, height that count from the first pixel's corner."""
    x, y, w, h = (float(value) for value in xywh)
    return np.array([x, y, x + w, y + h], np.float32) - np.float32(0.5)
