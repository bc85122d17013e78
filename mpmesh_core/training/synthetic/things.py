"""things: what hides people besides other people, and what they sit on.

Boxes and blobs are meshes in the scene; cut-outs of photographed objects are laid over the picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mpmesh_core.training.synthetic.backgrounds import load_picture
from mpmesh_core.training.synthetic.layout import View
from mpmesh_core.training.synthetic.parts import blob
from mpmesh_core.training.synthetic.people import Piece
from mpmesh_core.training.synthetic.poses import turn
from mpmesh_core.training.synthetic.textures import Textures

Array = np.ndarray
Random = np.random.Generator

PERSON = 1  # COCO category
LARGEST = 0.6  # part of a photo that a cut-out may fill


@dataclass(frozen=True)
class CutOut:
    """A photographed object."""

    picture: Array  # (h, w, 3) uint8 RGB
    mask: Array  # (h, w) uint8, 255 inside


def load_cut_outs(
    images: Path | str, labels: Path | str, excluded: Iterable[str] = ()
) -> list[CutOut]:
    """Objects that aren't people, from photos with polygon labels.

    Args:
        images: folder of .jpg photos.
        labels: folder of .txt files of the same stems; a line is a COCO category and a polygon in
            shares of width and height.
        excluded: stems of photos to leave out, e.g. those that are kept for tests.
    """
    found = []
    for path in sorted(Path(labels).glob("*.txt")):
        photo = Path(images) / f"{path.stem}.jpg"
        if path.stem in excluded or not photo.is_file():
            continue
        picture = load_picture(photo, 640)
        for line in path.read_text().splitlines():
            words = line.split()
            polygon = np.array(words[1:], np.float64).reshape(-1, 2)
            cut = _cut(picture, polygon)
            if int(words[0]) != PERSON and cut is not None:
                found.append(cut)
    return found


def _cut(picture: Array, polygon: Array) -> CutOut | None:
    height, width = picture.shape[:2]
    outline = (polygon * [width, height]).astype(np.int32)
    (left, top), (right, bottom) = outline.min(0), outline.max(0) + 1
    area = (right - left) * (bottom - top)
    if min(right - left, bottom - top) < 24 or area > LARGEST * width * height:
        return None
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [outline], 255)
    piece = np.s_[top:bottom, left:right]
    return CutOut(picture[piece].copy(), mask[piece].copy())


def lay_over(rng: Random, image: Array, owner: Array, cut: CutOut, box: Array) -> None:
    """Paste a cut-out so that it hides part of a box (4,) [px]; image and owner are changed.

    The object comes up from below or from a side of the box, more often than from above.
    """
    height, width = image.shape[:2]
    box_wide, box_tall = box[2] - box[0], box[3] - box[1]
    size = max(rng.uniform(0.3, 0.8) * max(box_wide, 0.5 * box_tall), 16)
    scale = size / max(cut.mask.shape)
    wide, tall = (max(int(side * scale), 4) for side in cut.mask.shape[::-1])
    picture = cv2.resize(cut.picture, (wide, tall), interpolation=cv2.INTER_AREA)
    mask = cv2.resize(cut.mask, (wide, tall), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        picture, mask = picture[:, ::-1], mask[:, ::-1]
    centre = box[:2] + [box_wide, box_tall] * rng.uniform([0, 0.25], [1, 1.0])
    left, top = int(centre[0] - wide / 2), int(centre[1] - tall / 2)
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + wide, width), min(top + tall, height)
    if x1 >= x2 or y1 >= y2:
        return
    inside = np.s_[y1 - top : y2 - top, x1 - left : x2 - left]
    alpha = mask[inside][..., None] / np.float32(255)
    target = image[y1:y2, x1:x2]
    target[:] = (alpha * picture[inside] + (1 - alpha) * target).astype(np.uint8)
    owner[y1:y2, x1:x2][mask[inside] > 127] = -2


def box_piece(
    centre: Array, size: Array, yaw: float, view: View, look: Array, power: float = 0.05
) -> Piece:
    """A box-like thing in the world, seen from a view; `power` near 0 has sharp edges, 1 none."""
    vertices, faces = blob(np.zeros(3), size / 2, power, 10)
    world = vertices @ turn("y", yaw).T + centre
    return Piece(view.to_camera(world).astype(np.float32), faces, vertices, None, look[None])


def _random_box(
    rng: Random, centre: Array, size: Array, yaw: float, view: View, textures: Textures
) -> Piece:
    """A box or ball of any stuff."""
    look = textures.fancy[rng.integers(len(textures.fancy))]
    power = float(rng.choice([0.05, 0.05, 0.3, 1.0]))
    return box_piece(centre, size, yaw, view, look, power)


def seat(rng: Random, pelvis: Array, forward: Array, view: View, textures: Textures) -> Piece:
    """Something to sit on: a stool or bench under a pelvis at (3,) in the world [m].

    Args:
        rng: of size and look.
        pelvis: (3,) in the world [m].
        forward: (3,) where the person faces, world.
        view: who looks.
        textures: to choose from.
    """
    height = max(pelvis[1] - 0.1, 0.1)
    size = np.array([rng.choice([0.4, rng.uniform(0.4, 1.6)]), height, rng.uniform(0.34, 0.42)])
    yaw = np.degrees(np.arctan2(forward[0], forward[2]))
    behind = 0.08 * np.array([forward[0], 0, forward[2]])
    centre = np.array([pelvis[0], height / 2, pelvis[2]]) - behind
    return _random_box(rng, centre, size, float(yaw), view, textures)


def obstacle(rng: Random, spot: Array, view: View, textures: Textures) -> Piece:
    """A thing on the ground between the camera and a person at spot (x left, z forward)."""
    share = rng.uniform(0.55, 0.9)
    height = rng.uniform(0.3, 1.1)
    size = np.array([rng.uniform(0.15, 1.2), height, rng.uniform(0.15, 0.6)])
    aside = rng.normal(0, 0.25)
    centre = np.array([spot[0] * share + aside, height / 2, spot[1] * share])
    return _random_box(rng, centre, size, rng.uniform(-30, 30), view, textures)
