"""stage_output: pictures of how the line came to its people.

In   pictures, their cameras and FrameResults with `stages`
Out  DIR/stages/NAME.jpg and DIR/attention/NAME.jpg, as asked for; frames of a video, camera or bag
     are numbered
"""

from __future__ import annotations

from pathlib import Path

from mpmesh_core.attention_picture import draw_attention
from mpmesh_core.body import BodyModel
from mpmesh_core.camera import Camera
from mpmesh_core.overlay_output import OverlayImages
from mpmesh_core.sources import Frame, Source
from mpmesh_core.stage_strip import draw_stages
from mpmesh_core.types import FrameResult

FOLDERS = ("stages", "attention")


class StagePictures:
    """Writes the pictures that a run was asked for.

    Args:
        folder: output folder DIR.
        body: the body that the results' parameters belong to.
        stages: whether to draw the stages of every frame.
        attention: whether to draw who looks at whom, of every frame with refined people.
    """

    def __init__(self, folder: Path, body: BodyModel, stages: bool, attention: bool) -> None:
        self._body = body
        self._stages = OverlayImages(folder, FOLDERS[0]) if stages else None
        self._attention = OverlayImages(folder, FOLDERS[1]) if attention else None
        self._numbered = False

    def start(self, source: Source) -> None:
        """Say which source the next frames come from."""
        self._numbered = source.kind != "images"

    def write(self, frame: Frame, camera: Camera, result: FrameResult) -> None:
        """Draw one frame."""
        index = frame.index if self._numbered else None
        if self._stages is not None:
            self._stages.write(
                draw_stages(frame.image, result, self._body, camera), frame.source, index
            )
        if self._attention is not None:
            picture = draw_attention(frame.image, result)
            if picture is not None:
                self._attention.write(picture, frame.source, index)
