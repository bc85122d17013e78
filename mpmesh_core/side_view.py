"""side_view: the people from the side, with a metre grid.

In   people's meshes [m, camera frame]
Out  a panel (H, W, 3) uint8 RGB: z (away from the camera) to the right, y downwards, seen from the
     camera's right along its x axis

The panel fits the people; where they are is told by the grid, whose labels are distances along z.
Drawn twice as large and averaged down, for smooth lines.
"""

from __future__ import annotations

import cv2
import numpy as np

from mpmesh_core.canvas import blend_part, put_text
from mpmesh_core.rasterizer import Meshes
from mpmesh_core.shading import shaded_layer
from mpmesh_core.top_view import BACKGROUND, GRID, INK, Figures, draw_title

Array = np.ndarray
_SUPERSAMPLE = 2
_MARGIN = 0.3  # [m] around the people
_FEWEST = 2.0  # [m] that a panel shows at least


def draw_side_view(figures: Figures, size: tuple[int, int]) -> Array:
    """Draw the panel.

    Args:
        figures: who to draw.
        size: (width, height) of the panel [px].

    Returns:
        (height, width, 3) uint8 RGB.
    """
    width, height = (_SUPERSAMPLE * length for length in size)
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = BACKGROUND
    if figures.people:
        _draw_people(canvas, figures)
    draw_title(canvas, "seen from the side")
    return cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)


def _draw_people(canvas: Array, figures: Figures) -> None:
    height, width = canvas.shape[:2]
    # seen from the right: z is to the right, y stays, and what lies to the right is near
    turned = [np.stack([v[:, 2], v[:, 1], -v[:, 0]], axis=-1) for v in figures.vertices]
    meshes = Meshes.join(turned, [figures.faces] * len(turned))
    low = meshes.vertices[:, :2].min(axis=0) - _MARGIN
    high = meshes.vertices[:, :2].max(axis=0) + _MARGIN
    scale = float((np.array([width, height]) / np.maximum(high - low, _FEWEST)).min())
    corner = 0.5 * (low + high) - 0.5 * np.array([width, height]) / scale
    _draw_grid(canvas, corner, scale)
    depth = meshes.vertices[:, 2] - meshes.vertices[:, 2].min() + 1.0
    layer, first = shaded_layer(
        meshes,
        (meshes.vertices[:, :2] - corner) * scale,
        depth,
        (width, height),
        np.array(figures.colours),
        np.ones(len(turned)),
    )
    blend_part(canvas, layer, first)


def _draw_grid(canvas: Array, corner: Array, scale: float) -> None:
    """A line a metre, or every 2, 5, ... metres where they would be dense."""
    height, width = canvas.shape[:2]
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100) if s * scale > 0.08 * height or s == 100)
    thin, text = max(2, height // 480), height / 50
    ends = corner + np.array([width, height]) / scale
    for z in np.arange(np.ceil(corner[0] / step), ends[0] / step) * step:
        column = round(float((z - corner[0]) * scale))
        cv2.line(canvas, (column, 0), (column, height), GRID, thin)
        put_text(canvas, f"{z:g} m", column + 0.4 * text, height - 0.8 * text, text, INK)
    for y in np.arange(np.ceil(corner[1] / step), ends[1] / step) * step:
        row = round(float((y - corner[1]) * scale))
        cv2.line(canvas, (0, row), (width, row), GRID, thin)
