"""cli.body_sheet: many bodies in one picture, for looking at a body model.

In   posed vertices (N, V, 3) [m], y up, each facing +z, and a caption for each
Out  picture (H, W, 3) uint8 RGB, one cell per body
"""

from __future__ import annotations

import cv2
import numpy as np

from mpmesh_core.canvas import put_text
from mpmesh_core.rasterizer import Meshes
from mpmesh_core.shading import shaded_layer
from mpmesh_core.types import Array

CELL = (260, 320)  # [px] width, height
HEIGHT = 2.15  # [m] of a cell
TURN = 0.45  # [rad] a little from the side
BACKGROUND = (246, 246, 244)
LEFT, RIGHT, MIDDLE = (226, 120, 96), (96, 140, 226), (205, 186, 168)
SUPERSAMPLE = 2


def draw_sheet(vertices: Array, faces: Array, sides: Array, captions: list[str]) -> Array:
    """Draw bodies side by side, left limbs reddish and right limbs bluish.

    Args:
        vertices: (N, V, 3) [m].
        faces: (F, 3).
        sides: (F,) +1 for faces of the left limbs, -1 for the right ones, 0 otherwise.
        captions: N short texts.

    Returns:
        (rows * 320, columns * 260, 3) uint8.
    """
    columns = min(10, max(1, len(vertices)))
    cells = [_draw_one(body, faces, sides) for body in vertices]
    for cell, caption in zip(cells, captions):
        put_text(cell, caption, 6, CELL[1] - 8, 9, (70, 70, 70))
    blank = np.full((CELL[1], CELL[0], 3), BACKGROUND, np.uint8)
    cells += [blank] * (-len(cells) % columns)
    rows = [np.hstack(cells[at : at + columns]) for at in range(0, len(cells), columns)]
    return np.vstack(rows) if rows else blank


def _draw_one(vertices: Array, faces: Array, sides: Array) -> Array:
    cos, sin = np.cos(TURN), np.sin(TURN)
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    to_view = np.diag([1.0, -1.0, -1.0]) @ turn  # the viewer stands in front, y down
    centre = (vertices.max(0) + vertices.min(0)) / 2
    seen = ((vertices - centre) @ to_view.T + [0, 0, 5]).astype(np.float32)
    size = (CELL[0] * SUPERSAMPLE, CELL[1] * SUPERSAMPLE)
    pixels = seen[:, :2] * (size[1] / HEIGHT) + (np.array(size) - 1) / 2
    meshes = Meshes(seen, faces.astype(np.int32), (sides + 1).astype(np.int32))
    colours = np.array([RIGHT, MIDDLE, LEFT])
    layer, (u, v) = shaded_layer(
        meshes, pixels.astype(np.float32), seen[:, 2], size, colours, np.ones(3)
    )
    picture = np.full((size[1], size[0], 3), BACKGROUND, np.uint8)
    part = picture[v : v + layer.shape[0], u : u + layer.shape[1]]
    part[layer[..., 3] > 0] = layer[layer[..., 3] > 0][:, :3]
    return cv2.resize(picture, CELL, interpolation=cv2.INTER_AREA)
