"""skeleton_sources: where labelled people come from, one generator each.

Each yields (picture (H, W, 3) uint8 RGB, `PersonSample`) for `write_people`.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mpmesh_core.camera import Camera
from mpmesh_core.training.scene import decode_jpeg
from mpmesh_core.training.skeleton_data import PersonSample

Array = np.ndarray
DEFAULT_FOV_DEG = 60.0  # on the longer side, where a photo does not tell
_FLESH = 0.06  # how far a person reaches beyond its landmarks, in box sides


def lsp_people(labels: Path | str, images: Path | str) -> Iterator[tuple[Array, PersonSample]]:
    """LSP-extended: human 2D joints, and landmarks of a teacher in 2D and hip-centred 3D.

    Args:
        labels: .npz with image_id, joints2d, teacher2d, teacher3d, teacher_error.
        images: .tar of im00001.jpg, ...
    """
    with np.load(labels) as file:
        table = {name: file[name] for name in file.files}
    rows = {f"im{image:05d}.jpg": row for row, image in enumerate(table["image_id"])}
    with tarfile.open(images) as archive:
        for member in archive:
            stream = archive.extractfile(member)
            row = rows.get(Path(member.name).name)
            if stream is not None and row is not None:
                picture = decode_jpeg(stream.read())
                yield picture, _lsp_sample(table, row, picture.shape[1], picture.shape[0])


def _lsp_sample(table: dict[str, Array], row: int, width: int, height: int) -> PersonSample:
    joints = table["joints2d"][row].astype(np.float32)
    joints[:, 2] = joints[:, 2] == 1
    marks = table["teacher2d"][row].astype(np.float32)
    trust = marks[:, 3].clip(0.05, 1) * (1 - 3 * float(table["teacher_error"][row]))
    marks3d = np.concatenate((table["teacher3d"][row].astype(np.float32), trust[:, None]), 1)
    seen = np.concatenate((marks[:, :2], joints[joints[:, 2] > 0, :2]))
    low, high = seen.min(0), seen.max(0)
    flesh = (high - low).max() * _FLESH
    return PersonSample(
        K=Camera.from_fov(width, height, DEFAULT_FOV_DEG).K,
        box=np.concatenate((low - flesh, high + flesh)),
        points3d={"mediapipe": marks3d},
        points2d={"lsp": joints, "mediapipe": np.concatenate((marks[:, :2], trust[:, None]), 1)},
    )
