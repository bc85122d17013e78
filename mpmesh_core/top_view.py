"""top_view: the people from above, with a metre grid.

In   people's meshes [m, camera frame], positions, covariances and velocities; the camera
Out  a panel (H, W, 3) uint8 RGB: camera at the bottom with its field of view, x to the right,
     z (away from the camera) upwards, seen along the camera's y axis

Drawn twice as large and averaged down, for smooth lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import cv2
import numpy as np

from mpmesh_core.camera import Camera
from mpmesh_core.canvas import Colour, blend_part, put_text, text_size
from mpmesh_core.rasterizer import Meshes
from mpmesh_core.shading import shaded_layer
from mpmesh_core.types import Person

Array = np.ndarray

RANGES = (4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 80.0, 100.0)  # [m]
_SUPERSAMPLE = 2
BACKGROUND: Colour = (24, 27, 33)
GRID: Colour = (44, 49, 58)
GRID_AXIS: Colour = (66, 73, 86)
_WEDGE: Colour = (38, 44, 54)
_WEDGE_EDGE: Colour = (92, 102, 120)
_WHITE: Colour = (255, 255, 255)
INK: Colour = (158, 168, 184)
_TWO_SIGMA = 2.0  # of the covariance ellipse


@dataclass(frozen=True)
class Figures:
    """People as they are drawn."""

    people: Sequence[Person]
    vertices: Sequence[Array]  # their meshes (V, 3) [m, camera frame]
    faces: Array  # (F, 3) triangles of every mesh
    colours: Sequence[Colour]


@dataclass(frozen=True)
class _View:
    """Where a metre is on the panel, in supersampled pixels."""

    width: int
    height: int
    origin_u: float
    origin_v: float
    scale: float  # [px/m]
    depth: float  # [m] range shown

    def px(self, x: Array | float, z: Array | float) -> Array:
        """Pixels (..., 2) of ground positions x to the right, z ahead [m]."""
        return np.stack([self.origin_u + self.scale * x, self.origin_v - self.scale * z], axis=-1)


def fitting_range(people: Sequence[Person]) -> float:
    """The smallest of `RANGES` [m] that shows everybody."""
    farthest = max((float(person.position[2]) + 0.6 for person in people), default=0.0)
    return next((distance for distance in RANGES if distance >= farthest), RANGES[-1])


def draw_top_view(
    figures: Figures, camera: Camera, size: tuple[int, int], depth: float | None = None
) -> Array:
    """Draw the panel.

    Args:
        figures: who to draw.
        camera: gives the field of view.
        size: (width, height) of the panel [px].
        depth: range to show [m]; fits the people where not given.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    people = figures.people
    view = _make_view(people, size, depth or fitting_range(people))
    canvas = np.empty((view.height, view.width, 3), np.uint8)
    canvas[:] = BACKGROUND
    _draw_wedge(canvas, view, camera)
    _draw_grid(canvas, view)
    _draw_ellipses(canvas, view, people, figures.colours)
    _draw_bodies(canvas, view, figures)
    _draw_camera(canvas, view)
    for person, mesh, colour in zip(people, figures.vertices, figures.colours):
        _draw_motion(canvas, view, person, colour)
        _draw_name(canvas, view, person, mesh, colour)
    draw_title(canvas, "seen from above")
    return cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)


def _make_view(people: Sequence[Person], size: tuple[int, int], depth: float) -> _View:
    width, height = (_SUPERSAMPLE * length for length in size)
    origin_v = height - 0.055 * height
    widest = max((abs(float(person.position[0])) + 0.6 for person in people), default=0.0)
    scale = (origin_v - 0.065 * height) / depth
    if widest > 0:
        scale = min(scale, 0.5 * width / widest)
    return _View(width, height, 0.5 * width, origin_v, scale, depth)


def _unit(view: _View) -> float:
    """Length that text and lines scale with [px]."""
    return view.height / 480.0


def _thin(view: _View) -> int:
    """Width of thin lines [px]."""
    return max(2, round(_unit(view)))


def _pixels(points: Array) -> Array:
    return np.round(points).astype(np.int32)


def _draw_wedge(canvas: Array, view: _View, camera: Camera) -> None:
    middle = 0.5 * (camera.height - 1)
    edges = camera.unproject(np.array([[-0.5, middle], [camera.width - 0.5, middle]]))
    reach = 2.0 * (view.width + view.height)  # [px], past every corner
    directions = edges[:, [0, 2]] / np.linalg.norm(edges[:, [0, 2]], axis=-1, keepdims=True)
    apex = view.px(0.0, 0.0)
    ends = apex + reach * directions * np.array([1.0, -1.0])
    corners = np.stack([ends[:, 0], np.full(2, -reach)], axis=-1)
    outline = np.stack([apex, ends[0], corners[0], corners[1], ends[1]])
    cv2.fillPoly(canvas, [_pixels(outline)], _WEDGE, cv2.LINE_AA)
    for end in ends:
        line = _pixels(np.stack([apex, end]))
        cv2.line(canvas, line[0].tolist(), line[1].tolist(), _WEDGE_EDGE, _thin(view), cv2.LINE_AA)


def _draw_grid(canvas: Array, view: _View) -> None:
    half_width = 0.5 * view.width / view.scale
    ahead = view.origin_v / view.scale
    steps = (factor * 10**power for power in count() for factor in (1, 2, 5))
    step = next(s for s in steps if s * view.scale > 0.055 * view.height)
    text = 9.5 * _unit(view)
    for x in np.arange(-np.floor(half_width / step), half_width / step + 1e-6) * step:
        column = round(float(view.px(x, 0.0)[0]))
        colour = GRID_AXIS if x == 0 else GRID
        cv2.line(canvas, (column, 0), (column, round(view.origin_v)), colour, _thin(view))
    for z in np.arange(0, ahead / step + 1e-6) * step:
        row = round(float(view.px(0.0, z)[1]))
        colour = GRID_AXIS if z == 0 else GRID
        cv2.line(canvas, (0, row), (view.width, row), colour, _thin(view))
        if z > 0 and row > 0.09 * view.height:
            put_text(canvas, f"{z:g} m", 0.5 * text, row - 0.4 * text, text, INK)


def _draw_ellipses(
    canvas: Array, view: _View, people: Sequence[Person], colours: Sequence[Colour]
) -> None:
    """A spot under each person, and where they stand at 2 sigma as the placement knows it."""
    if not people:
        return
    tinted = canvas.copy()
    ellipses = [_ellipse(view, person) for person in people]
    spot = round(max(0.3 * view.scale, 9.0 * _unit(view)))  # so that far people are seen
    for (centre, axes, angle), colour in zip(ellipses, colours):
        cv2.ellipse(tinted, centre, axes, angle, 0, 360, colour, -1, cv2.LINE_AA)
        cv2.circle(tinted, centre, spot, colour, -1, cv2.LINE_AA)
    cv2.addWeighted(tinted, 0.26, canvas, 0.74, 0, dst=canvas)
    for (centre, axes, angle), colour in zip(ellipses, colours):
        soft = _mixed(colour, (0, 0, 0), 0.38)
        cv2.ellipse(canvas, centre, axes, angle, 0, 360, soft, _thin(view), cv2.LINE_AA)


def _ellipse(view: _View, person: Person) -> tuple[list[int], tuple[int, int], float]:
    """Centre and half axes [px] and angle [degrees] of the covariance seen from above."""
    covariance = np.asarray(person.position_covariance)[np.ix_([0, 2], [0, 2])]
    values, vectors = np.linalg.eigh(covariance)
    axes = _TWO_SIGMA * view.scale * np.sqrt(np.maximum(values, 0.0))
    short, long = (max(1, round(float(axis))) for axis in np.minimum(axes, view.width))
    angle = np.degrees(np.arctan2(-vectors[1, 1], vectors[0, 1]))  # panel v runs against z
    centre = _pixels(view.px(person.position[0], person.position[2])).tolist()
    return centre, (long, short), float(angle)


def _mixed(colour: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (
        round((1 - share) * a + share * b) for a, b in zip(colour, other, strict=True)
    )
    return red, green, blue


def _draw_bodies(canvas: Array, view: _View, figures: Figures) -> None:
    if not figures.people:
        return
    # seen from above: x stays, the view's down is towards the camera, its depth is the height
    turned = [np.stack([v[:, 0], -v[:, 2], v[:, 1]], axis=-1) for v in figures.vertices]
    meshes = Meshes.join(turned, [figures.faces] * len(turned))
    points = view.px(meshes.vertices[:, 0], -meshes.vertices[:, 1])
    above = meshes.vertices[:, 2] - meshes.vertices[:, 2].min() + 1.0
    layer, corner = shaded_layer(
        meshes,
        points,
        above,
        (view.width, view.height),
        np.array(figures.colours),
        np.ones(len(turned)),
    )
    blend_part(canvas, layer, corner)


def _draw_camera(canvas: Array, view: _View) -> None:
    apex = view.px(0.0, 0.0)
    size = 8.0 * _unit(view)
    shape = np.array([[-0.75, 0.9], [0.75, 0.9], [0.75, 0.1], [0.0, -0.15], [-0.75, 0.1]])
    lens = np.array([[-0.6, -0.75], [0.6, -0.75], [0.0, 0.1]])
    for part in (shape, lens):
        cv2.fillPoly(canvas, [_pixels(apex + size * part)], (226, 230, 238), cv2.LINE_AA)


def _draw_motion(canvas: Array, view: _View, person: Person, colour: Colour) -> None:
    """Arrow to where the velocity leads within a second."""
    if person.velocity is None:
        return
    velocity = np.asarray(person.velocity)[[0, 2]]
    start = np.asarray(person.position)[[0, 2]]
    speed = float(np.linalg.norm(velocity))
    if speed < 0.1:
        return
    ends = view.px(*np.stack([start, start + velocity * min(1.0, 4.0 / speed)]).T)
    length = float(np.linalg.norm(ends[1] - ends[0]))
    tip = min(0.4, 9.0 * _unit(view) / max(length, 1.0))
    a, b = (_pixels(end).tolist() for end in ends)
    cv2.arrowedLine(canvas, a, b, BACKGROUND, 3 * _thin(view), cv2.LINE_AA, 0, tip)
    light = _mixed(colour, _WHITE, 0.55)
    cv2.arrowedLine(canvas, a, b, light, _thin(view) + 1, cv2.LINE_AA, 0, tip)


def _draw_name(canvas: Array, view: _View, person: Person, mesh: Array, colour: Colour) -> None:
    """The track's number, on the side that the person doesn't walk to."""
    if person.track_id < 0:
        return
    text, height = f"{person.track_id}", 10.0 * _unit(view)
    width, gap = text_size(text, height)[0], 0.5 * height
    middle, spot = float(view.px(person.position[0], 0.0)[0]), 9.0 * _unit(view)
    right = max(float(view.px(mesh[:, 0].max(), 0.0)[0]), middle + spot) + gap
    left = min(float(view.px(mesh[:, 0].min(), 0.0)[0]), middle - spot) - gap - width
    walks_right = person.velocity is not None and person.velocity[0] > 0.1
    wanted = left if (walks_right and left > 0) or right + width > view.width else right
    base = float(view.px(0.0, person.position[2])[1]) + 0.5 * height
    put_text(canvas, text, wanted, base, height, _mixed(colour, _WHITE, 0.3))


def draw_title(canvas: Array, title: str) -> None:
    """Say in the corner of a panel what it shows."""
    height = 9.5 * canvas.shape[0] / 480.0
    put_text(canvas, title, height, 2.1 * height, height, INK)
