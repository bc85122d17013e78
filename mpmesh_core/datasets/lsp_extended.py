"""datasets.lsp_extended: Leeds Sports Pose Extended, 10 000 crowd-labelled photos of hard poses.

In   LSP-extended/joints.mat (`joints`, 14 x 3 x 10000: x, y, labelled), images/im00001.jpg
Out  2D `lsp14`, weight 1 where labelled

Everything else as in `datasets.lsp`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mpmesh_core.datasets.catalogue import dataset_info
from mpmesh_core.datasets.files import home
from mpmesh_core.datasets.lsp import photos, read_joints
from mpmesh_core.datasets.record import FrameRecord

INFO = dataset_info("lsp-extended")


def read(root: Path, split: str) -> Iterator[FrameRecord]:
    """Photos in the order of the label file; all of them train."""
    folder = home(INFO, root, "lspet_dataset", "hr-lspet")
    joints = read_joints(INFO, folder, (14, 3, -1)).transpose(2, 0, 1)  # (N, 14, 3)
    yield from photos(INFO, folder, "im{:05d}.jpg", joints, 0, len(joints))
