"""runner: the line over whole sources, with everything that is written along the way.

In   sources (pictures, videos, bags), a pipeline, what to write
Out  what `run_outputs` writes, and a RunSummary

A frame that cannot be used is counted, reported and left out; the run goes on. Only when no frame
at all could be used is that an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from mpmesh_core.ahead import work_ahead
from mpmesh_core.camera import Camera
from mpmesh_core.errors import InputError, MPMeshError, UsageError
from mpmesh_core.outputs import RESULTS_NAME
from mpmesh_core.paths import expanded
from mpmesh_core.pipeline import Looked, Pipeline
from mpmesh_core.run_outputs import RunConfig, RunOutputs
from mpmesh_core.samples import Samples
from mpmesh_core.sources import BadFrame, Frame, Source
from mpmesh_core.stage_output import FOLDERS
from mpmesh_core.types import FrameResult

LISTED = 10  # bad frames whose reasons are kept


@dataclass
class RunSummary:
    """What happened, growing from frame to frame."""

    frames: int = 0
    people: int = 0
    bad_frames: int = 0
    bad: list[BadFrame] = field(default_factory=list)  # the first LISTED of them
    timings: dict[str, Samples] = field(default_factory=dict)  # stage -> [ms] of frames
    left_out: int = 0  # frames that gave something up for their deadline
    latency: Samples = field(default_factory=Samples)  # [ms] of frames, all stages
    assumed_camera: bool = False  # some frame had no known camera, so distances are approximate
    last_overlay: Path | None = None

    def count(self, result: FrameResult) -> None:
        """Add a frame; coasted and lost people are none that were seen."""
        self.frames += 1
        self.left_out += bool(result.left_out)
        self.people += len(result.seen)
        self.latency.add(sum(result.timings.values()))
        for stage, milliseconds in result.timings.items():
            self.timings.setdefault(stage, Samples()).add(milliseconds)

    def count_bad(self, frame: Frame | BadFrame, error: MPMeshError) -> BadFrame:
        """Add a frame that cannot be used, and say why."""
        bad = BadFrame(frame.index, frame.source, str(error))
        self.bad_frames += 1
        if self.bad_frames <= LISTED:
            self.bad.append(bad)
        return bad


class CameraRule(Protocol):
    """Which camera took the pictures."""

    @property
    def camera(self) -> Camera | None:
        """That of every frame; None takes the source's own, else the fov."""

    @property
    def fov(self) -> float:
        """[degree] on the longer side, where nobody knows the camera."""


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
    tell = report or (lambda outcome: None)
    with RunOutputs(config, pipeline.body) as outputs:
        for source in sources:
            pipeline.start(source.sequence)
            outputs.start(source)
            look = partial(_look, pipeline, config, summary)
            numbered = enumerate(source, summary.frames + summary.bad_frames)
            for (_, frame), looked in work_ahead(look, numbered, pipeline.at_once):
                try:
                    picture, camera, people = looked()
                    result = pipeline.follow(people, camera)
                except MPMeshError as error:
                    tell(summary.count_bad(frame, error))
                    continue
                outputs.write(picture, camera, result)
                summary.last_overlay = outputs.last_overlay
                summary.count(result)
                tell(result)
    if not summary.frames:
        reason = summary.bad[0].reason if summary.bad else "the sources hold no frame"
        raise InputError(f"no frame could be used: {reason}")
    return summary


def refuse_own_output(sources: Iterable[Source], config: RunConfig) -> None:
    """Refuse sources that the run would write over, or into, and outputs in one another's place.

    Raises:
        UsageError: naming the first of them.
    """
    folder = expanded(config.folder).resolve()
    own = {(folder / name).resolve() for name in ("overlay", *FOLDERS)}
    recordings = [
        (option, expanded(path).resolve())
        for option, path in (("--mcap", config.mcap), ("--rerun", config.rerun))
        if path is not None
    ]
    taken = {folder / RESULTS_NAME: "--output"}
    for option, recording in recordings:
        if other := taken.get(recording):
            raise UsageError(f"{option} {recording} is what {other} writes; give another {option}")
        taken[recording] = option
    for source in sources:
        for path in map(Path.resolve, source.paths):
            video = path.parent == folder and path.match("overlay*.mp4")
            if path.parent in own or video:
                raise UsageError(f"source {path} would be written over; give another --output")
            for option, recording in recordings:
                if path in (recording, recording.parent):  # the latter is a bag's folder
                    raise UsageError(f"source {path} would be written over; give another {option}")


def run_frame(
    frame: Frame | BadFrame, pipeline: Pipeline, rule: CameraRule, summary: RunSummary
) -> tuple[Frame, Camera, FrameResult]:
    """One frame through the line.

    Args:
        frame: the picture.
        pipeline: loaded and ready.
        rule: which camera took it.
        summary: of the frames before; its counts number this one.

    Returns:
        The picture, its camera and its people.

    Raises:
        MPMeshError: it cannot be used.
    """
    numbered = summary.frames + summary.bad_frames, frame
    picture, camera, people = _look(pipeline, rule, summary, numbered)
    return picture, camera, pipeline.follow(people, camera)


def _look(
    pipeline: Pipeline,
    rule: CameraRule,
    summary: RunSummary,
    numbered: tuple[int, Frame | BadFrame],
) -> tuple[Frame, Camera, Looked]:
    """The part of `run_frame` that needs no frame before; also in several threads."""
    number, frame = numbered
    if isinstance(frame, BadFrame):
        raise InputError(frame.reason)
    height, width = frame.image.shape[:2]
    camera = rule.camera or frame.camera
    if camera is None:
        summary.assumed_camera = True
        camera = Camera.from_fov(width, height, rule.fov)
    if (camera.width, camera.height) != (width, height):
        raise InputError(_size_message(camera, width, height))
    people = pipeline.look(frame.image, camera, frame.stamp, number, frame.source)
    return frame, camera, people


def _size_message(camera: Camera, width: int, height: int) -> str:
    return (
        f"the camera is calibrated for {camera.width}x{camera.height}, the picture is "
        f"{width}x{height}; give the camera file of this size"
    )
