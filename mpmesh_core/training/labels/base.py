"""labels.base: what every label reader hands on.

A reader yields `LabelledImage`s: the encoded picture at its own resolution and, per person, a box,
keypoints in the convention of their data set, and a mask or teacher 3D where the set has one.
Pixels with the centre of the first pixel at (0, 0); masks (H, W) bool. Nothing is resized,
converted between conventions or guessed here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from mpmesh_core.errors import InputError, MissingFileError

Array = np.ndarray


@dataclass(frozen=True)
class PersonLabel:
    """One labelled person."""

    box: Array  # (4,) float32 x1, y1, x2, y2 [px]
    keypoints: dict[str, Array] = field(default_factory=dict)  # convention -> (K, 3) px, weight
    teacher3d: Array | None = None  # (33, 3) [m], hip-centred, camera axes, MediaPipe order
    mask: Array | None = None  # (H, W) bool, visible pixels
    crowd: bool = False  # the box holds several people


@dataclass(frozen=True)
class LabelledImage:
    """One picture with its people."""

    name: str  # unique within the source
    source: str  # lspet, pennfudan, coco128, coco_keypoints
    encoded: bytes  # JPEG or PNG file content
    width: int  # [px]
    height: int  # [px]
    people: tuple[PersonLabel, ...]
    complete: bool = True  # False where unlabelled people may be in the picture

    def decode(self) -> Array:
        """Return the picture as (H, W, 3) uint8 RGB."""
        return decode_rgb(self.encoded, f"{self.source}/{self.name}")


def decode_rgb(encoded: bytes, name: str) -> Array:
    """Decode JPEG or PNG bytes to (H, W, 3) uint8 RGB; `name` is for the error message."""
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR) if encoded else None
    if image is None:
        raise InputError(f"{name}: not a readable picture; check or remove the file")
    return np.ascontiguousarray(image[..., ::-1])


def picture_size(encoded: bytes, name: str) -> tuple[int, int]:
    """Return (width, height) [px] of an encoded picture."""
    height, width = decode_rgb(encoded, name).shape[:2]
    return width, height


def existing(path: Path, what: str) -> Path:
    """Return `path`, or raise a one-line error that says what is missing and where."""
    if not path.exists():
        raise MissingFileError(f"{what} not found at {path}; check --data or the folder's README")
    return path
