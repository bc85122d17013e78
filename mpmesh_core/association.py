"""association: parts of `tracking` that know no time: overlaps, moved people, best pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from mpmesh_core.types import Array, Person

_NEAREST = 0.1  # [m], depth below which pixels are not scaled any further
_NEVER = 1e6  # cost of a pair that must not be


def assign(cost: Array, unmatched_cost: float) -> Array:
    """Best one-to-one pairs of T rows with D columns.

    Args:
        cost: (T, D), infinite where a pair must not be.
        unmatched_cost: of each row and of each column left alone, so that a pair which costs more
            than two of these is not made.

    Returns:
        (D,) int64 row of each column, -1 where it stays alone.
    """
    rows, columns = cost.shape
    square = np.full((rows + columns, rows + columns), unmatched_cost)
    square[:rows, :columns] = np.where(np.isfinite(cost), cost, _NEVER)
    square[rows:, columns:] = 0.0
    chosen, partner = linear_sum_assignment(square)
    row_of = np.full(columns, -1, np.int64)
    pair = (chosen < rows) & (partner < columns)
    row_of[partner[pair]] = chosen[pair]
    return row_of


def box_overlap(boxes: Array, others: Array) -> Array:
    """Intersection over union (T, D) of boxes (T, 4) and (D, 4); 0 for empty ones."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (high - low).clip(0).prod(-1)
    areas = ((part[:, 2:] - part[:, :2]).clip(0).prod(-1) for part in (boxes, others))
    mine, theirs = areas
    union = mine[:, None] + theirs[None] - shared
    return shared / np.where(union > 0, union, 1.0)


def moved_boxes(boxes: Array, before: Array, after: Array, K: Array) -> Array:
    """Boxes (T, 4) [px] of people who moved from (T, 3+) to (T, 3+) [m, camera frame]."""
    points = moved_pixels(boxes.reshape(-1, 2, 2), before[:, None, :3], after[:, None, :3], K)
    return points.reshape(-1, 4)


def moved_pixels(px: Array, before: Array, after: Array, K: Array) -> Array:
    """Pixels (..., 2) of a person who moved between points (..., 3) [m, camera frame].

    They shift with the projected point and scale with its depth; lens distortion is left out,
    since over such a small move it changes little.
    """
    near, far = (np.maximum(point[..., 2:], _NEAREST) for point in (before, after))
    focal, centre = K[[0, 1], [0, 1]], K[:2, 2]
    start, end = before[..., :2] / near * focal + centre, after[..., :2] / far * focal + centre
    return end + (px - start) * near / far


def moved_person(person: Person, before: Array, K: Array) -> Person:
    """A person who was last seen with the filtered position `before` (3,), at its `position`."""
    after = person.position
    shift = after - before
    vertices = person.vertices
    return replace(
        person,
        bbox=moved_pixels(person.bbox.reshape(2, 2), before, after, K)
        .reshape(4)
        .astype(np.float32),
        transl=person.transl + shift,
        joints=person.joints + shift,
        h36m=person.h36m + shift,
        joints_2d=moved_pixels(person.joints_2d, before, after, K),
        coco_2d=moved_pixels(person.coco_2d, before, after, K),
        vertices=None if vertices is None else vertices + shift.astype(vertices.dtype),
    )
