"""datasets.mpii: MPII Human Pose.

In   MPII/mpii_human_pose_v1_u12_1.mat (also in mpii_human_pose_v1_u12_2/), images/015601864.jpg
Out  2D `mpii16`; boxes from centre and scale (person height / 200 px)

MATLAB's pixels count from 1 and are moved by one. Only people with keypoints can be used, and only
photos of the training split have them; people without any are left out, so `complete` is False.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mpmesh_core.datasets.boxes import keypoint_box
from mpmesh_core.datasets.catalogue import dataset_info
from mpmesh_core.datasets.files import home, need, read_mat, reading, variable
from mpmesh_core.datasets.pictures import picture_size
from mpmesh_core.datasets.record import FrameRecord, PersonRecord, Picture
from mpmesh_core.types import Array

INFO = dataset_info("mpii")
_FILE = "mpii_human_pose_v1_u12_1.mat"
_BODY = 200.0  # [px] of height at scale 1


def read(root: Path, split: str) -> Iterator[FrameRecord]:
    """Photos of the training split with labelled people, in the order of the file."""
    folder = home(INFO, root)
    path = need(INFO, folder / _FILE, folder / "mpii_human_pose_v1_u12_2" / _FILE)
    release = variable(INFO, path, read_mat(INFO, path, squeeze=True), "RELEASE")
    images = need(INFO, folder / "images")
    with reading(INFO, path):
        rows = list(zip(_each(release.annolist), np.atleast_1d(release.img_train), strict=True))
    for number, (row, trains) in enumerate(rows):
        with reading(INFO, path):
            people = tuple(_people(row)) if trains else ()
            name = str(row.image.name) if people else ""
        if people:
            picture = need(INFO, images / name)
            width, height = picture_size(picture)
            yield FrameRecord(
                dataset=INFO.name,
                sequence=split,
                number=number,
                picture=Picture(picture),
                width=width,
                height=height,
                people=people,
                complete=False,
            )


def _people(row: Any) -> Iterator[PersonRecord]:
    for rect in _each(row.annorect):
        marks = getattr(getattr(rect, "annopoints", None), "point", None)
        if marks is None:
            continue
        points = np.zeros((16, 3), np.float32)
        for mark in _each(marks):
            points[int(mark.id)] = float(mark.x) - 1, float(mark.y) - 1, 1
        if points[:, 2].sum() >= 2:
            yield PersonRecord(_box(rect, points), {"mpii16": points})


def _box(rect: Any, points: Array) -> Array:
    """Square of the person's height about its centre; around the keypoints where that's unknown."""
    scale: Any = getattr(rect, "scale", None)
    place: Any = getattr(rect, "objpos", None)
    if not isinstance(scale, (int, float)) or not hasattr(place, "x"):
        return keypoint_box(points)
    centre, half = np.array([place.x, place.y], np.float64) - 1, scale * _BODY / 2
    return np.concatenate((centre - half, centre + half)).astype(np.float32)


def _each(value: Any) -> list[Any]:
    """A MATLAB struct array as a list; loadmat makes a single one no array, an absent one empty."""
    return list(np.atleast_1d(np.asarray(value, object)).ravel())
