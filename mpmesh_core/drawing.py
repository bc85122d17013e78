"""drawing: people as shaded meshes over the picture, beside a view from above.

In   the picture (H, W, 3) uint8 RGB, its FrameResult, the body and the camera
Out  a picture (H, W', 3) uint8 RGB

Meshes go through the camera's own lens model, hide one another by depth, and are drawn twice as
large and averaged down for smooth edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import roma
import torch

from mpmesh_core.body import BodyModel
from mpmesh_core.camera import Camera
from mpmesh_core.canvas import Colour, blend_part, draw_pill, person_colour, pill_size
from mpmesh_core.checks import check_shapes
from mpmesh_core.joints import SMPL_JOINTS
from mpmesh_core.rasterizer import Meshes
from mpmesh_core.shading import shaded_layer
from mpmesh_core.top_view import Figures, draw_top_view, fitting_range
from mpmesh_core.types import FrameResult, Person

Array = np.ndarray


@dataclass(frozen=True)
class DrawingStyle:
    """What an overlay looks like."""

    opacity: float = 0.88  # of people who are seen
    coasted_opacity: float = 0.45  # of people whose track only goes on without a detection
    longest_side: int = 1920  # [px]; larger pictures are drawn smaller
    labels: bool = True
    top_view: bool = True
    top_view_width: float = 0.72  # of the picture's height
    supersample_below: int = 2_000_000  # pixels; larger pictures are drawn without supersampling


def person_vertices(body: BodyModel, people: list[Person]) -> list[Array]:
    """Meshes (V, 3) [m, camera frame] of people, those that they carry or else posed here."""
    missing = [person for person in people if person.vertices is None]
    if not missing:
        return [np.asarray(person.vertices) for person in people]
    pose = np.stack([np.concatenate([p.global_orient, p.body_pose]) for p in missing])
    like = body.v_template
    rotations = roma.rotvec_to_rotmat(torch.as_tensor(pose.reshape(-1, 24, 3)).to(like))
    betas = torch.as_tensor(np.stack([p.betas for p in missing])).to(like)
    transl = torch.as_tensor(np.stack([p.transl for p in missing])).to(like)
    with torch.inference_mode():
        vertices = body(rotations, betas, transl).vertices
    posed = iter(vertices.cpu().numpy())
    return [next(posed) if p.vertices is None else np.asarray(p.vertices) for p in people]


def draw_overlay(
    image: Array,
    result: FrameResult,
    body: BodyModel,
    camera: Camera,
    style: DrawingStyle | None = None,
    depth: float | None = None,
) -> Array:
    """Draw the people of one frame.

    Args:
        image: (H, W, 3) uint8 RGB, the picture that the result is of.
        result: the people.
        body: the body that their parameters belong to.
        camera: the camera of the picture, lens included.
        style: sizes and opacities.
        depth: range of the top view [m]; fits the people where not given.

    Returns:
        (H', W', 3) uint8 RGB: the picture, with the top view to its right.
    """
    check_shapes(image=(image, ("H", "W", 3)))
    style = style or DrawingStyle()
    image, camera = _shrunk(image, camera, style.longest_side)
    people = [person for person in result.people if person.state != "lost"]
    figures = Figures(
        people, person_vertices(body, people), body.faces.cpu().numpy(), colours(people)
    )
    picture = draw_meshes(image, figures, camera, style)
    if style.labels:
        _draw_labels(picture, figures, camera)
    if not style.top_view:
        return picture
    size = (max(2, round(style.top_view_width * picture.shape[0])), picture.shape[0])
    return np.concatenate([picture, draw_top_view(figures, camera, size, depth)], axis=1)


class OverlayDrawer:
    """Draws frame after frame; the top view's range grows when needed and never jumps back.

    Args:
        body: the body that the results' parameters belong to.
        style: sizes and opacities.
    """

    def __init__(self, body: BodyModel, style: DrawingStyle | None = None) -> None:
        self.body = body
        self.style = style or DrawingStyle()
        self._depth = 0.0

    def reset(self) -> None:
        """Forget the range: the next frame is of another source."""
        self._depth = 0.0

    def draw(self, image: Array, result: FrameResult, camera: Camera) -> Array:
        """Draw the people of one frame, see `draw_overlay`."""
        self._depth = max(self._depth, fitting_range(result.people))
        return draw_overlay(image, result, self.body, camera, self.style, self._depth)


def _shrunk(image: Array, camera: Camera, longest: int) -> tuple[Array, Camera]:
    height, width = image.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return image, camera
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), camera.scaled(*size)


def colours(people: list[Person]) -> list[Colour]:
    """By track, or by place in the list where nobody tracks."""
    return [
        person_colour(person.track_id if person.track_id >= 0 else index)
        for index, person in enumerate(people)
    ]


def draw_meshes(image: Array, figures: Figures, camera: Camera, style: DrawingStyle) -> Array:
    """The picture (H, W, 3) with people's meshes over it, without labels."""
    if not figures.people:
        return image.copy()
    height, width = image.shape[:2]
    factor = 2 if height * width <= style.supersample_below else 1
    meshes = Meshes.join(figures.vertices, [figures.faces] * len(figures.people))
    fine = camera.scaled(factor * width, factor * height)
    pixels = fine.project(meshes.vertices)
    depth = np.where(fine.in_view(meshes.vertices), meshes.vertices[:, 2], -1.0)
    size = (fine.width, fine.height)
    opacity = [
        style.coasted_opacity if person.state == "coasted" else style.opacity
        for person in figures.people
    ]
    layer, corner = shaded_layer(
        meshes, pixels, depth, size, np.array(figures.colours), np.array(opacity)
    )
    picture = image.copy()
    if layer.size:
        small = (layer.shape[1] // factor, layer.shape[0] // factor)
        layer = cv2.resize(layer, small, interpolation=cv2.INTER_AREA)
        blend_part(picture, layer, (corner[0] // factor, corner[1] // factor))
    return picture


def _draw_labels(picture: Array, figures: Figures, camera: Camera) -> None:
    """Name and distance above each head; the near ones choose their place first."""
    text_height = float(np.clip(picture.shape[0] / 48, 7, 26))
    people = figures.people
    taken = [_head_box(person, camera) for person in people]
    for i in sorted(range(len(people)), key=lambda i: float(people[i].position[2])):
        ahead = figures.vertices[i][figures.vertices[i][:, 2] > 0.1]
        if not len(ahead):
            continue
        pixels = camera.project(ahead)
        top = pixels[pixels[:, 1].argmin()]
        name = f"{people[i].track_id}  " if people[i].track_id >= 0 else ""
        text = f"{name}{np.linalg.norm(people[i].position):.1f} m"
        size = np.array(pill_size(text, text_height))
        wanted = top - np.array([0.5, 1.0]) * size - np.array([0.0, 0.5 * text_height])
        box = _free_box(wanted, size, taken, picture.shape)
        taken.append(box)
        draw_pill(picture, text, (int(box[0]), int(box[1])), text_height, figures.colours[i])


def _head_box(person: Person, camera: Camera) -> Array:
    """Box x1, y1, x2, y2 [px] around a head, which no label should cover."""
    head = person.joints[SMPL_JOINTS.index("head")]
    if head[2] < 0.1:
        return np.zeros(4)
    centre = camera.project(np.asarray(head, np.float64))
    half = 0.13 * camera.K[0, 0] / head[2]
    return np.concatenate([centre - half, centre + half])


def _free_box(wanted: Array, size: Array, taken: list[Array], shape: tuple[int, ...]) -> Array:
    """Box x1, y1, x2, y2 [px] inside the picture, moved up above the labels it would cover."""
    limit = np.maximum(np.array([shape[1], shape[0]]) - size, 0)
    corner = np.clip(np.round(wanted), 0, limit)
    for _ in taken:
        box = np.concatenate([corner, corner + size])
        covered = [t for t in taken if (box[:2] < t[2:]).all() and (t[:2] < box[2:]).all()]
        if not covered:
            break
        corner[1] = max(0.0, min(t[1] for t in covered) - size[1] - 2)
    return np.concatenate([corner, corner + size])
