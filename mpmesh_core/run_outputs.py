"""run_outputs: everything that one run writes, frame by frame.

In   pictures, their cameras and FrameResults
Out  DIR/results.jsonl, meshes, overlays, a rerun recording, an MCAP recording, pictures of stages
     and of attention
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mpmesh_core.body import BodyModel
from mpmesh_core.camera import Camera
from mpmesh_core.drawing import OverlayDrawer
from mpmesh_core.mcap_output import McapFile
from mpmesh_core.messages import MessageFrame
from mpmesh_core.outputs import ResultsWriter
from mpmesh_core.overlay_output import OverlayWriter
from mpmesh_core.people_recording import PeopleRecorder, chosen_outputs
from mpmesh_core.rerun_output import RerunWriter
from mpmesh_core.sources import Frame, Source
from mpmesh_core.sources.frames import Header
from mpmesh_core.stage_output import StagePictures
from mpmesh_core.types import FrameResult

DEFAULT_FOV = 60.0  # [degree] on the longer side, where nobody knows the camera


@dataclass(frozen=True)
class RunConfig:
    """What a run assumes and writes."""

    folder: Path
    camera: Camera | None = None  # of every frame; None takes the source's own, else the fov
    fov: float = DEFAULT_FOV  # [degree] on the longer side
    overlay: bool = True
    stages: bool = False  # needs a pipeline that keeps stages
    attention: bool = False  # likewise, one that refines
    rerun: Path | None = None
    mcap: Path | None = None  # everything as ROS 2 messages


class RunOutputs:
    """Writes what a run was asked for; a context manager, which finishes every file.

    Args:
        config: what to write.
        body: the body that the results' parameters belong to.
    """

    def __init__(self, config: RunConfig, body: BodyModel) -> None:
        self._config, self._body = config, body
        self._drawer = OverlayDrawer(body)
        self._stack = ExitStack()
        self._overlay: OverlayWriter | None = None
        self._viewer: RerunWriter | None = None
        self._recorder: PeopleRecorder | None = None
        self._explained = StagePictures(config.folder, body, config.stages, config.attention)
        self._sequence = False
        self.last_overlay: Path | None = None  # the file last drawn into

    def __enter__(self) -> RunOutputs:
        config = self._config
        with self._stack as stack:
            faces = self._body.faces.cpu().numpy()
            self._results = stack.enter_context(ResultsWriter(config.folder, faces))
            if config.overlay:
                self._overlay = stack.enter_context(OverlayWriter(config.folder))
            if config.rerun is not None:
                self._viewer = stack.enter_context(RerunWriter(config.rerun, self._body))
            if config.mcap is not None:
                file = stack.enter_context(McapFile(config.mcap, salvage=True))
                self._recorder = PeopleRecorder(file, chosen_outputs(None))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def start(self, source: Source) -> None:
        """Say which source the next frames come from."""
        self._drawer.reset()
        self._sequence = source.sequence
        self._explained.start(source)
        if self._overlay is not None:
            self._overlay.start(source)

    def write(self, frame: Frame, camera: Camera, result: FrameResult) -> None:
        """Write one frame: the picture, its camera and its people."""
        self._results.write(result)
        picture = None
        if self._overlay is not None or self._recorder is not None:
            if not self._sequence:
                self._drawer.reset()  # each photo has a range of its own
            picture = self._drawer.draw(frame.image, result, camera)
        if self._overlay is not None and picture is not None:
            self._overlay.write(picture, frame.source)
            self.last_overlay = self._overlay.last
        self._explained.write(frame, camera, result)
        if self._viewer is not None:
            self._viewer.write(frame.image, result, camera)
        if self._recorder is not None:
            header = frame.header or Header.from_seconds(frame.stamp)
            time_ns = frame.recorded_ns
            recorded = header.nanoseconds if time_ns is None else time_ns
            self._recorder.write(MessageFrame(header, result, self._body, picture), recorded)
