"""runner: the line over whole sources, with everything that is written along the way.

In   sources (pictures, videos, bags), a pipeline, what to write
Out  DIR/results.jsonl, meshes, overlays, a rerun recording; and a RunSummary

A frame that cannot be used is counted, reported and left out; the run goes on. Only when no frame
at all could be used is that an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mpmesh_core.camera import Camera
from mpmesh_core.drawing import OverlayDrawer
from mpmesh_core.errors import InputError, MPMeshError, UsageError
from mpmesh_core.outputs import ResultsWriter
from mpmesh_core.overlay_output import OverlayWriter
from mpmesh_core.pipeline import Pipeline
from mpmesh_core.rerun_output import RerunWriter
from mpmesh_core.sources import BadFrame, Frame, Source
from mpmesh_core.types import Array, FrameResult

DEFAULT_FOV = 60.0  # [degree] on the longer side, where nobody knows the camera


@dataclass(frozen=True)
class RunConfig:
    """What a run assumes and writes."""

    folder: Path
    camera: Camera | None = None  # of every frame; None takes the source's own, else the fov
    fov: float = DEFAULT_FOV  # [degree] on the longer side
    overlay: bool = True
    rerun: Path | None = None


@dataclass
class RunSummary:
    """What happened, growing from frame to frame."""

    frames: int = 0
    people: int = 0
    bad: list[BadFrame] = field(default_factory=list)
    timings: dict[str, list[float]] = field(default_factory=dict)  # stage -> [ms] per frame
    left_out: int = 0  # frames that gave something up for their deadline
    assumed_camera: bool = False  # some frame had no known camera, so distances are approximate
    last_overlay: Path | None = None


class Report(Protocol):
    """Is told of every frame as it is done."""

    def __call__(self, outcome: FrameResult | BadFrame) -> None: ...


def run_sources(
    sources: Iterable[Source],
    pipeline: Pipeline,
    config: RunConfig,
    report: Report | None = None,
    summary: RunSummary | None = None,
) -> RunSummary:
    """Find the people in every frame of every source and write them down.

    Args:
        sources: as `sources.open_sources` gives them.
        pipeline: loaded and ready; its tracker starts anew with each source.
        config: what to assume and to write.
        report: called after each frame.
        summary: grows during the run; give one to have it after Ctrl-C too.

    Returns:
        Counts and timings.

    Raises:
        InputError: no frame could be used, or nothing can be written.
    """
    summary = summary or RunSummary()
    drawer = OverlayDrawer(pipeline.body)
    tell = report or (lambda outcome: None)
    with ExitStack() as stack:
        results = stack.enter_context(ResultsWriter(config.folder, pipeline.faces))
        overlay = stack.enter_context(OverlayWriter(config.folder)) if config.overlay else None
        viewer = (
            stack.enter_context(RerunWriter(config.rerun, pipeline.body)) if config.rerun else None
        )
        for source in sources:
            pipeline.start(source.sequence)
            drawer.reset()
            if overlay is not None:
                overlay.start(source)
            for frame in source:
                try:
                    image, camera, result = _run_frame(frame, pipeline, config, summary)
                except MPMeshError as error:
                    summary.bad.append(BadFrame(frame.index, frame.source, str(error)))
                    tell(summary.bad[-1])
                    continue
                results.write(result)
                if overlay is not None:
                    overlay.write(drawer.draw(image, result, camera), frame.source)
                    summary.last_overlay = overlay.last
                if viewer is not None:
                    viewer.write(image, result, camera)
                _count(result, summary)
                tell(result)
    if not summary.frames:
        reason = summary.bad[0].reason if summary.bad else "the sources hold no frame"
        raise InputError(f"no frame could be used: {reason}")
    return summary


def refuse_own_output(sources: Iterable[Source], folder: Path) -> None:
    """Refuse sources that the run would write over.

    Raises:
        UsageError: naming the first of them.
    """
    overlay = (folder / "overlay").resolve()
    for source in sources:
        for path in map(Path.resolve, source.paths):
            video = path.parent == folder.resolve() and path.match("overlay*.mp4")
            if path.parent == overlay or video:
                raise UsageError(f"source {path} would be written over; give another --output")


def _run_frame(
    frame: Frame | BadFrame, pipeline: Pipeline, config: RunConfig, summary: RunSummary
) -> tuple[Array, Camera, FrameResult]:
    """One frame's picture, camera and people; MPMeshError where it cannot be used."""
    if isinstance(frame, BadFrame):
        raise InputError(frame.reason)
    height, width = frame.image.shape[:2]
    camera = config.camera or frame.camera
    if camera is None:
        summary.assumed_camera = True
        camera = Camera.from_fov(width, height, config.fov)
    if (camera.width, camera.height) != (width, height):
        raise InputError(_size_message(camera, width, height))
    number = summary.frames + len(summary.bad)
    return frame.image, camera, pipeline(frame.image, camera, frame.stamp, number, frame.source)


def _size_message(camera: Camera, width: int, height: int) -> str:
    return (
        f"the camera is calibrated for {camera.width}x{camera.height}, the picture is "
        f"{width}x{height}; give the camera file of this size"
    )


def _count(result: FrameResult, summary: RunSummary) -> None:
    summary.frames += 1
    summary.left_out += bool(result.left_out)
    summary.people += sum(person.state not in ("coasted", "lost") for person in result.people)
    for stage, milliseconds in result.timings.items():
        summary.timings.setdefault(stage, []).append(milliseconds)
