"""labels.pennfudan: Penn-Fudan street photos with boxes and masks of all larger pedestrians.

In   folder with JPEGImages/*.jpg (or PNGImages/*.png) and PedMasks/*_mask.png (0 background, i =
     person i)
Out  a `LabelledImage` a photo, each person with box and mask
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from mpmesh_core.datasets.boxes import mask_box
from mpmesh_core.errors import InputError
from mpmesh_core.training.labels.base import LabelledImage, PersonLabel, existing


def read_pennfudan(folder: str | Path) -> Iterator[LabelledImage]:
    """Yield the photos in the order of their names.

    The boxes are those of the masks: the annotation files' own agree to a pixel or so and lack
    the people that were added later.

    Raises:
        MissingFileError: a folder or a photo's mask is missing.
        InputError: a mask that cannot be read.
    """
    root = existing(Path(folder), "Penn-Fudan")
    pictures = sorted([*root.glob("JPEGImages/*.jpg"), *root.glob("PNGImages/*.png")])
    if not pictures:
        existing(root / "JPEGImages", "Penn-Fudan photos")
    for path in pictures:
        mask_path = existing(root / "PedMasks" / f"{path.stem}_mask.png", "Penn-Fudan mask")
        ids = cv2.imread(str(mask_path), cv2.IMREAD_UNCHANGED)
        if ids is None or ids.ndim != 2:
            raise InputError(f"{mask_path}: not a readable one-channel mask; check the file")
        masks = [ids == number for number in np.unique(ids) if number > 0]
        people = tuple(PersonLabel(box=mask_box(mask), mask=mask) for mask in masks)
        height, width = ids.shape
        yield LabelledImage(path.name, "pennfudan", path.read_bytes(), width, height, people)
