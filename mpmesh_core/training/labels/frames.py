"""labels.frames: frames of video clips, without labels.

In   folder with a folder of frames (*.jpg, *.png) for each clip
Out  a `LabelledImage` a frame, without people and not complete
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mpmesh_core.training.labels.base import LabelledImage, existing, picture_size


def read_frames(folder: str | Path, every: int = 1) -> Iterator[LabelledImage]:
    """Yield every n-th frame of each clip, in the order of their names.

    Raises:
        MissingFileError: no such folder.
        InputError: a frame that cannot be read.
    """
    root = existing(Path(folder), "video frames")
    for clip in sorted(path for path in root.iterdir() if path.is_dir()):
        frames = sorted([*clip.glob("*.jpg"), *clip.glob("*.png")])
        for path in frames[::every]:
            name, encoded = f"{clip.name}/{path.name}", path.read_bytes()
            width, height = picture_size(encoded, name)
            yield LabelledImage(name, root.name, encoded, width, height, (), complete=False)
