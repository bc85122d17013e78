"""labels.posetrack: frames of short clips, without labels.

In   a folder with one folder of numbered JPEGs a clip
Out  a `LabelledImage` a frame without people, named `CLIP/FRAME.jpg`; teachers find the people
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mpmesh_core.training.labels.base import LabelledImage, existing, picture_size


def read_posetrack(folder: str | Path) -> Iterator[LabelledImage]:
    """Yield all frames, clip after clip, in the order of their names."""
    root = existing(Path(folder), "PoseTrack clips")
    for path in sorted(root.glob("*/*.jpg")):
        encoded, name = path.read_bytes(), f"{path.parent.name}/{path.name}"
        width, height = picture_size(encoded, str(path))
        yield LabelledImage(name, "posetrack", encoded, width, height, (), complete=False)
