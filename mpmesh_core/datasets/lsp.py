"""datasets.lsp: Leeds Sports Pose, one person a photo.

In   LSP/joints.mat (`joints`, 3 x 14 x 2000: x, y, occluded), images/im0001.jpg
Out  2D `lsp14`, all with weight 1: joints that are hidden are labelled too

The first 1000 photos are for training. Pixels are taken as they stand: nothing official says
whether they count from 0 or 1. Others may stand in the photo, so `complete` is False.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mpmesh_core.datasets.boxes import keypoint_box
from mpmesh_core.datasets.catalogue import DatasetInfo, dataset_info
from mpmesh_core.datasets.files import finite, home, need, read_mat, variable
from mpmesh_core.datasets.pictures import picture_size
from mpmesh_core.datasets.record import FrameRecord, PersonRecord, Picture
from mpmesh_core.types import Array

INFO = dataset_info("lsp")


def read(root: Path, split: str) -> Iterator[FrameRecord]:
    """Photos in the order of the label file: the first half trains, the second tests."""
    folder = home(INFO, root, "lsp_dataset_original", "lsp_dataset")
    joints = read_joints(INFO, folder, (3, 14, -1)).transpose(2, 1, 0)  # (N, 14, 3)
    half = len(joints) // 2
    joints[..., 2] = 1.0
    start, stop = (0, half) if split == "train" else (half, len(joints))
    yield from photos(INFO, folder, "im{:04d}.jpg", joints, start, stop)


def read_joints(info: DatasetInfo, folder: Path, shape: tuple[int, ...]) -> Array:
    """The variable `joints` of joints.mat."""
    path = need(info, folder / "joints.mat")
    return finite(info, path, shape, variable(info, path, read_mat(info, path), "joints"))


def photos(
    info: DatasetInfo, folder: Path, name: str, joints: Array, start: int, stop: int
) -> Iterator[FrameRecord]:
    """Photos numbered from 1; joints (N, 14, 3): u, v [px], weight; not those without labels."""
    for index in range(start, stop):
        labels = joints[index].astype(np.float32)
        labels[labels[:, 2] <= 0] = 0
        if (labels[:, 2] > 0).sum() < 2:
            continue
        path = need(info, folder / "images" / name.format(index + 1))
        width, height = picture_size(path)
        yield FrameRecord(
            dataset=info.name,
            sequence="photos",
            number=index,
            picture=Picture(path),
            width=width,
            height=height,
            people=(PersonRecord(keypoint_box(labels), {"lsp14": labels}),),
            complete=False,
        )
