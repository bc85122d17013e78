"""labels.lspet: LSP-extended, one person a photo, human 2D and teacher 3D.

In   `lspet_images.tar` and `lspet_labels.npz` in one folder
Out  a `LabelledImage` a photo; keypoints `lsp14` (human) and `mediapipe33` (teacher, weight =
     visibility), teacher3d (33, 3) [m]

The photos are cropped around one person; others may stand in them, so `complete` is False.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mpmesh_core.datasets.boxes import keypoint_box
from mpmesh_core.training.labels.base import LabelledImage, PersonLabel, existing

Array = np.ndarray


def read_lspet(
    folder: str | Path, start: int = 0, stop: int | None = None
) -> Iterator[LabelledImage]:
    """Yield the photos `start:stop` in the order of the label file.

    Args:
        folder: holds `lspet_images.tar` and `lspet_labels.npz`.
        start: first photo.
        stop: one past the last photo, negative counts from the end, None for all.

    Raises:
        MissingFileError: the tar or the label file is missing.
    """
    labels_path = existing(Path(folder) / "lspet_labels.npz", "LSP-extended labels")
    tar_path = existing(Path(folder) / "lspet_images.tar", "LSP-extended photos")
    with np.load(labels_path) as stored:
        labels = {name: stored[name] for name in stored.files}
    with tarfile.open(tar_path) as tar:
        members = {Path(member.name).name: member for member in tar.getmembers()}
        for row in range(*slice(start, stop).indices(len(labels["image_id"]))):
            name = f"im{int(labels['image_id'][row]):05d}.jpg"
            if name not in members:
                existing(tar_path / name, "LSP-extended photo")
            stream = tar.extractfile(members[name])
            yield _image(name, stream.read() if stream else b"", labels, row)


def _image(name: str, encoded: bytes, labels: dict[str, Array], row: int) -> LabelledImage:
    human = labels["joints2d"][row].astype(np.float32)
    teacher = labels["teacher2d"][row].astype(np.float32)[:, [0, 1, 3]]
    body = np.concatenate([human, teacher[11:] * np.array([1, 1, 0.5], np.float32)])
    person = PersonLabel(
        box=keypoint_box(body),
        keypoints={"lsp14": human, "mediapipe33": teacher},
        teacher3d=labels["teacher3d"][row].astype(np.float32),
    )
    width, height = int(labels["width"][row]), int(labels["height"][row])
    return LabelledImage(name, "lspet", encoded, width, height, (person,), complete=False)
