"""showcase: the one picture that shows what a run did, such as the README's.

In   the results of a run and its pictures
Out  which frame shows most, and that frame's overlay drawn large
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from mpmesh_core.body import BodyModel
from mpmesh_core.camera import Camera
from mpmesh_core.drawing import DrawingStyle, draw_overlay
from mpmesh_core.outputs import prepare_folder, write_file
from mpmesh_core.types import FrameResult, Person

Array = np.ndarray
HEIGHT = 960  # [px] that small pictures are enlarged to
_MOVING = 0.4  # [m/s]


_DOUBLE = 0.5  # [m] between pelvises: nearer than that, one person was found twice


def best_frame(results: Sequence[FrameResult]) -> int | None:
    """Place in `results` of the frame that shows most; None where no frame shows anybody.

    Most people seen and whole in the picture, then those who are large and move; the boxes' overlap
    counts a little too, since people before one another are the hard case.
    """
    scores = [_score(result) for result in results]
    if not scores or max(scores) <= 0:
        return None
    return int(np.argmax(scores))


def _score(result: FrameResult) -> float:
    people = result.seen
    if not people:
        return 0.0
    size = np.array([result.width, result.height])
    whole = sum(float((_box(p)[:2] > 1).all() and (_box(p)[2:] < size - 2).all()) for p in people)
    moving = sum(p.velocity is not None and np.linalg.norm(p.velocity) > _MOVING for p in people)
    heights = [min(1.0, (_box(p)[3] - _box(p)[1]) / result.height) for p in people]
    boxes = [_box(p) for p in people]
    touching = sum(
        bool((a[:2] < b[2:]).all() and (b[:2] < a[2:]).all())
        for i, a in enumerate(boxes)
        for b in boxes[:i]
    )
    doubles = sum(
        bool(np.linalg.norm(a.position - b.position) < _DOUBLE)
        for i, a in enumerate(people)
        for b in people[:i]
    )
    return (
        len(people)
        - 3 * doubles
        + whole
        + 0.6 * float(np.mean(heights))
        + 0.3 * moving
        + 0.2 * min(touching, 1)
    )


def _box(person: Person) -> Array:
    """Box x1, y1, x2, y2 [px] of the projected joints."""
    return np.concatenate([person.joints_2d.min(axis=0), person.joints_2d.max(axis=0)])


def draw_showcase(
    image: Array,
    result: FrameResult,
    body: BodyModel,
    camera: Camera,
    style: DrawingStyle | None = None,
) -> Array:
    """The overlay of one frame, small pictures enlarged so that meshes and text are crisp.

    Args:
        image: (H, W, 3) uint8 RGB.
        result: its people.
        body: the body that their parameters belong to.
        camera: the camera of the picture.
        style: as for `draw_overlay`.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    scale = max(1, round(HEIGHT / image.shape[0]))
    if scale > 1:
        size = (scale * image.shape[1], scale * image.shape[0])
        image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
        camera = camera.scaled(*size)
        result = replace(result, width=size[0], height=size[1], K=camera.K)
    return draw_overlay(image, result, body, camera, style)


def write_showcase(
    path: str | Path,
    images: Sequence[Array],
    results: Sequence[FrameResult],
    body: BodyModel,
    camera: Camera,
) -> Path | None:
    """Write the best frame's picture; None where nobody was found.

    Args:
        path: a .jpg or .png file.
        images: (H, W, 3) uint8 RGB, the pictures by frame number.
        results: results of these pictures; bad frames may be missing.
        body: the body that the people's parameters belong to.
        camera: the camera of all pictures.
    """
    best = best_frame(results)
    if best is None:
        return None
    result = results[best]
    picture = draw_showcase(images[result.frame], result, body, camera)
    path = Path(path)
    prepare_folder(path.parent)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(path.suffix, bgr, [cv2.IMWRITE_JPEG_QUALITY, 90])
    write_file(path, data.tobytes())
    return path
