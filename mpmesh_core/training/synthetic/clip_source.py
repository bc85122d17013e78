"""clip_source: rendered scenes as a source of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mpmesh_core.sources.frames import Frame, SourceKind
from mpmesh_core.training.scene import Scene


class ClipSource:
    """Scenes one after the other.

    Args:
        scenes: the clip.
        fps: its rate [Hz].
    """

    name = "demo clip"
    kind: SourceKind = "video"
    sequence = True

    def __init__(self, scenes: Sequence[Scene], fps: float) -> None:
        self.scenes = scenes
        self.paths: list[Path] = []
        self.length: int | None = len(scenes)
        self.fps: float | None = fps

    def __iter__(self) -> Iterator[Frame]:
        """Hand out the scenes' pictures with their cameras."""
        assert self.fps is not None
        for index, scene in enumerate(self.scenes):
            yield Frame(index, index / self.fps, self.name, scene.image, scene.camera)
