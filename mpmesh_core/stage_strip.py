"""stage_strip: one frame through the line, picture by picture (Fig. 1 of the paper).

In   the picture (H, W, 3) uint8 RGB, its FrameResult with `stages`, the body and the camera
Out  (H', W', 3) uint8 RGB, six panels in two rows: picture, 3D skeletons, meshes of inverse
     kinematics; refined meshes, the same from above and from the side
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from mpmesh_core.body import BodyModel
from mpmesh_core.camera import Camera
from mpmesh_core.canvas import Colour, draw_pill
from mpmesh_core.drawing import DrawingStyle, colours, draw_meshes, person_vertices
from mpmesh_core.joints import POINT_PARENTS
from mpmesh_core.side_view import draw_side_view
from mpmesh_core.top_view import BACKGROUND, Figures, draw_top_view
from mpmesh_core.types import FrameResult, Person, Stages

Array = np.ndarray
PANEL = 720  # [px] longer side of a panel
GAP = 6  # [px] between panels
_DIMMED = 0.4  # brightness of the picture under skeletons
_TITLE: Colour = (158, 168, 184)


def seen_people(result: FrameResult) -> list[tuple[Person, Stages]]:
    """People of whom this frame has stages; not those whose track only goes on."""
    return [
        (person, person.stages)
        for person in result.people
        if person.stages is not None and person.state not in ("coasted", "lost")
    ]


def draw_stages(image: Array, result: FrameResult, body: BodyModel, camera: Camera) -> Array:
    """Draw one frame.

    Args:
        image: (H, W, 3) uint8 RGB, the picture that the result is of.
        result: the people, from a pipeline that keeps stages.
        body: the body that their parameters belong to.
        camera: the camera of the picture, lens included.
    """
    image, camera = _fitted(image, camera)
    size = (camera.width, camera.height)
    people, stages = [p for p, _ in seen_people(result)], [s for _, s in seen_people(result)]
    tints, faces = colours(people), body.faces.cpu().numpy()
    final = Figures(people, person_vertices(body, people), faces, tints)
    initial = Figures(people, initial_vertices(body, stages), faces, tints)
    style = DrawingStyle()
    pictures = {
        "image": image.copy(),
        "3D skeletons": draw_skeletons(image, stages, tints, camera),
        "inverse kinematics": draw_meshes(image, initial, camera, style),
        "refined": draw_meshes(image, final, camera, style),
    }
    height = max(7.0, size[1] / 40)
    for title, picture in pictures.items():
        draw_pill(picture, title, (round(height), round(height)), height, _TITLE)
    views = [draw_top_view(final, camera, size), draw_side_view(final, size)]
    return tiled([*pictures.values(), *views], columns=3)


def _fitted(image: Array, camera: Camera) -> tuple[Array, Camera]:
    """A picture and its camera of the size of a panel."""
    scale = PANEL / max(image.shape[:2])
    size = (max(2, round(image.shape[1] * scale)), max(2, round(image.shape[0] * scale)))
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, size, interpolation=smooth), camera.scaled(*size)


def initial_vertices(body: BodyModel, stages: list[Stages]) -> list[Array]:
    """Meshes (V, 3) [m, camera frame] of inverse kinematics."""
    if not stages:
        return []
    like = body.v_template
    rotations, betas, transl = (
        torch.as_tensor(np.stack([getattr(s, name) for s in stages])).to(like)
        for name in ("rotations", "betas", "transl")
    )
    with torch.inference_mode():
        return list(body(rotations, betas, transl).vertices.cpu().numpy())


def draw_skeletons(
    image: Array, stages: list[Stages], tints: list[Colour], camera: Camera
) -> Array:
    """Placed skeletons over the darkened picture, the farthest first."""
    picture = (image * _DIMMED).astype(np.uint8)
    thick = max(2, round(min(image.shape[:2]) / 160))
    for i in sorted(range(len(stages)), key=lambda i: -float(stages[i].skeleton[0, 2])):
        points = np.asarray(stages[i].skeleton, np.float64)
        pixels, ahead = camera.project(points), points[:, 2] > 0.1
        for child, parent in enumerate(POINT_PARENTS):
            if parent >= 0 and ahead[child] and ahead[parent]:
                draw_line(picture, pixels[parent], pixels[child], tints[i], thick)
        for pixel in pixels[ahead]:
            draw_line(picture, pixel, pixel, (255, 255, 255), thick + 1)
    return picture


def draw_line(
    picture: Array, start: Array, end: Array, colour: tuple[int, ...], thick: int
) -> None:
    """A smooth line between two pixels, to a sixteenth of a pixel; a dot where they are one."""
    limits = -(2**20), 2**20
    first, last = (
        np.clip(np.nan_to_num(16 * p).round(), *limits).astype(int) for p in (start, end)
    )
    cv2.line(picture, first.tolist(), last.tolist(), colour, thick, cv2.LINE_AA, shift=4)


def tiled(panels: list[Array], columns: int) -> Array:
    """Panels of one size in rows, with gaps between them."""
    height, width = panels[0].shape[:2]
    rows = -(-len(panels) // columns)
    columns = min(columns, len(panels))
    size = (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3)
    sheet = np.empty(size, np.uint8)
    sheet[:] = BACKGROUND
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        v, u = row * (height + GAP), column * (width + GAP)
        sheet[v : v + height, u : u + width] = panel
    return sheet
