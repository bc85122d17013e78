"""render: figures and things in front of a background, with shadows, as one picture.

In   background (H, W, 3) uint8, View, Figures, props (Pieces), light
Out  `Rendering`: the picture, whose pixel is whose, and how large each person is without occluders
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from mpmesh_core.rasterizer import NEAR, fill_buffers, project_pinhole, vertex_normals
from mpmesh_core.training.synthetic.layout import View
from mpmesh_core.training.synthetic.lighting import Light, Sun, Surroundings, make_light
from mpmesh_core.training.synthetic.people import Figure, Piece
from mpmesh_core.training.synthetic.shading import LAYERS, lit_share, shade
from mpmesh_core.training.synthetic.textures import Textures

Array = np.ndarray

SUPERSAMPLING = 2  # the shading kernel counts on it
GROUND_SCALE = 4  # the ground's shadows are computed at a quarter of the picture's size
COUNTING_SIZE = 160  # [px] longer side of the little picture that counts a whole person


@dataclass(frozen=True)
class Rendering:
    """A picture and who is where in it."""

    image: Array  # (H, W, 3) uint8 RGB
    owner: Array  # (H, W) int32: index of the person, -1 background, -2 a thing in front
    boxes: Array  # (N, 4) float32 [px] of the whole people, beyond the picture too
    areas: Array  # (N,) float32 [px^2] of the whole people


@dataclass(frozen=True)
class Mesh:
    """All pieces joined, as the shading kernel takes them."""

    vertices: Array  # (V, 3) float32 camera frame [m]
    faces: Array  # (F, 3) int32
    piece_of_face: Array  # (F,) int32
    rest: Array  # (V, 3) float32
    fields: Array  # (V, 7) float32
    materials: Array  # (M, 24) float32
    layers: Array  # (pieces, 8) int32 rows of materials


def render(
    background: Array, view: View, figures: list[Figure], props: list[Piece], textures: Textures,
    surroundings: Surroundings, sun: Sun, brightness: float,
) -> Rendering:  # fmt: skip
    """Draw a scene; see `lighting.make_light` for the brightness."""
    pieces = [piece for figure in figures for piece in figure.pieces] + props
    owners = np.array(
        [n for n, figure in enumerate(figures) for _ in figure.pieces] + [-2] * len(props), np.int32
    )
    boxes, areas = zip(*(_extent(figure, view) for figure in figures)) if figures else ((), ())
    if not pieces:
        empty = np.full(background.shape[:2], -1, np.int32)
        return Rendering(background, empty, np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    mesh = join(pieces)
    light = make_light(surroundings, sun, view.R_cam_world, mesh.vertices, mesh.faces, brightness)
    ground = ground_light(view, figures, light, sun)
    image = cv2.multiply(background, cv2.merge([ground] * 3), scale=1 / 255)
    owner = np.full(background.shape[:2], -1, np.int32)
    _draw(mesh, owners, view, light, textures, image, owner)
    return Rendering(image, owner, np.array(boxes, np.float32), np.array(areas, np.float32))


def join(pieces: list[Piece]) -> Mesh:
    """Join pieces; one-material pieces get empty garment fields."""
    starts = np.cumsum([0] + [len(piece.vertices) for piece in pieces])
    rows = np.cumsum([0] + [len(piece.materials) for piece in pieces])
    layers = np.zeros((len(pieces), LAYERS), np.int32)
    for number, piece in enumerate(pieces):
        layers[number, : len(piece.materials)] = np.arange(len(piece.materials)) + rows[number]
    fields = np.full((starts[-1], LAYERS - 1), -1, np.float32)
    for start, piece in zip(starts, pieces):
        if piece.fields is not None:
            fields[start : start + len(piece.fields)] = piece.fields
    return Mesh(
        np.concatenate([piece.vertices for piece in pieces]).astype(np.float32),
        np.concatenate([p.faces + s for p, s in zip(pieces, starts)]).astype(np.int32),
        np.repeat(np.arange(len(pieces), dtype=np.int32), [len(p.faces) for p in pieces]),
        np.concatenate([piece.rest for piece in pieces]).astype(np.float32),
        fields,
        np.concatenate([piece.materials for piece in pieces]).astype(np.float32),
        layers,
    )


def _draw(
    mesh: Mesh, owners: Array, view: View, light: Light, textures: Textures, image: Array,
    owner: Array,
) -> None:  # fmt: skip
    """Draw a mesh over `image` (H, W, 3) and note whose pixel is whose in `owner` (H, W)."""
    pixels, depth = project_pinhole(mesh.vertices, view.camera.K)
    x1, y1, x2, y2 = _window(pixels, depth, view)
    if x1 >= x2 or y1 >= y2:
        return
    s = SUPERSAMPLING
    corner = np.array([x1, y1], np.float32)
    fine = (pixels - corner) * s + (s - 1) / 2  # pixel centres stay at whole numbers
    buffers = fill_buffers(fine, depth, mesh.faces, ((x2 - x1) * s, (y2 - y1) * s))
    colours = np.zeros((y2 - y1, x2 - x1, 4), np.uint8)
    K = view.camera.K
    centre = (K[:2, 2] - corner) * s + (s - 1) / 2
    shade(
        buffers,
        (mesh.faces, mesh.piece_of_face, vertex_normals(mesh.vertices, mesh.faces), mesh.rest,
         mesh.fields),
        (mesh.materials, mesh.layers, textures.patches, textures.noise),
        (light.sun, light.sun_colour, light.harmonics, light.shadow, light.projection),
        np.array([K[0, 0] * s, K[1, 1] * s, centre[0], centre[1]], np.float32),
        colours,
    )  # fmt: skip
    face = buffers[1][::s, ::s]
    owner[y1:y2, x1:x2] = np.where(face >= 0, owners[mesh.piece_of_face[face]], -1)
    _blend(image[y1:y2, x1:x2], colours)


def _window(pixels: Array, depth: Array, view: View) -> tuple[int, int, int, int]:
    """The part x1, y1, x2, y2 of the picture that a mesh can touch."""
    ahead = pixels[depth > NEAR]
    if not len(ahead):
        return 0, 0, 0, 0
    size = [view.camera.width, view.camera.height]
    low = np.clip(np.floor(ahead.min(0)), 0, size).astype(int)
    high = np.clip(np.ceil(ahead.max(0)) + 1, 0, size).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


@njit(cache=True, error_model="numpy")
def _blend(image: Array, colours: Array) -> None:
    for v in range(image.shape[0]):
        for u in range(image.shape[1]):
            alpha = colours[v, u, 3]
            if alpha > 0:
                for d in range(3):
                    value = colours[v, u, d] + image[v, u, d] * (255 - alpha) / 255
                    image[v, u, d] = min(int(value + 0.5), 255)


def _extent(figure: Figure, view: View) -> tuple[Array, float]:
    """Box (4,) [px] and silhouette area [px^2] of a whole person, as if nothing cut them off."""
    vertices = figure.pieces[0].vertices
    pixels, depth = project_pinhole(vertices, view.camera.K)
    low, high = pixels.min(0), pixels.max(0)
    scale = COUNTING_SIZE / max(float((high - low).max()), 1.0)
    size = np.ceil((high - low) * scale).astype(int) + 1
    _, face, _ = fill_buffers(
        (pixels - low) * scale, depth, figure.pieces[0].faces, (int(size[0]), int(size[1])), True
    )
    area = np.count_nonzero(face >= 0) / scale**2
    return np.concatenate([low, high]), float(area)


def visible_boxes(owner: Array, count: int) -> tuple[Array, Array]:
    """Boxes (N, 4) float32 [px] and numbers (N,) of the pixels that each person owns."""
    boxes = np.zeros((count, 4), np.float32)
    boxes[:, :2] = 1e9
    counts = np.zeros(count, np.int64)
    _collect(owner, boxes, counts)
    return boxes, counts


@njit(cache=True)
def _collect(owner: Array, boxes: Array, counts: Array) -> None:
    for v in range(owner.shape[0]):
        for u in range(owner.shape[1]):
            n = owner[v, u]
            if n >= 0:
                counts[n] += 1
                boxes[n, 0], boxes[n, 1] = min(boxes[n, 0], u), min(boxes[n, 1], v)
                boxes[n, 2], boxes[n, 3] = max(boxes[n, 2], u), max(boxes[n, 3], v)


def ground_light(view: View, figures: list[Figure], light: Light, sun: Sun) -> Array:
    """How much light the ground keeps (H, W) uint8: cast shadows and the dark under the feet."""
    camera = view.camera
    width, height = camera.width // GROUND_SCALE, camera.height // GROUND_SCALE
    lens = np.array([camera.K[0, 0], camera.K[1, 1], camera.K[0, 2] - 1.5, camera.K[1, 2] - 1.5])
    lens /= GROUND_SCALE
    points = np.concatenate([figure.points for figure in figures]) if figures else np.zeros((0, 3))
    up = view.R_cam_world[:, 1].copy()
    above = points @ up + view.height
    low = points[(above < 0.45) & (points[:, 2] > 0)]
    share = float(sun.colour.mean() * max(sun.direction[1], 0))
    dark = 0.75 * share / (share + 0.5)  # part of the ground's light that the sun gives
    kept = np.ones((height, width), np.float32)
    _shade_ground(
        kept, lens, up, view.height, low, low @ up + view.height, dark, light.shadow,
        light.projection,
    )  # fmt: skip
    size = (camera.width, camera.height)
    whole = cv2.resize(cv2.GaussianBlur(kept, (0, 0), 1.0), size, interpolation=cv2.INTER_LINEAR)
    return (255 * whole).astype(np.uint8)


@njit(cache=True, fastmath=True, error_model="numpy")
def _shade_ground(
    kept: Array, lens: Array, up: Array, height: float, points: Array, above: Array, dark: float,
    shadow: Array, projection: Array,
) -> None:  # fmt: skip
    for v in range(kept.shape[0]):
        for u in range(kept.shape[1]):
            a, b = (u - lens[2]) / lens[0], (v - lens[3]) / lens[1]
            fall = a * up[0] + b * up[1] + up[2]
            if fall > -0.01:
                continue
            t = -height / fall
            if t > 30:
                continue
            x, y, z = a * t, b * t, t
            light = 1 - dark * (1 - lit_share(shadow, projection, x, y, z))
            for p in range(points.shape[0]):
                dx, dy, dz = points[p, 0] - x, points[p, 1] - y, points[p, 2] - z
                side = dx * dx + dy * dy + dz * dz - above[p] * above[p]
                spread = 0.008 + 0.1 * above[p] * above[p]
                if side < 6 * spread:
                    light *= 1 - 0.38 * np.exp(-side / spread) / (1 + 12 * above[p])
            kept[v, u] = light
