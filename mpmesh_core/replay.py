"""replay: a recorded bag through the line, into a bag that a live node might have recorded.

In   a ROS 1 or ROS 2 bag, without ROS; every picture of one topic, none dropped
Out  one .mcap file, the same bytes each time: all outputs, and topics of the bag to be kept

A finished file names the bag and the settings that it was made from (`fingerprint`); made again
from the same ones, it is kept as it is. So a stopped replay of many bags goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from mpmesh_core import __version__
from mpmesh_core.body.files import find_body_file
from mpmesh_core.camera import Camera
from mpmesh_core.drawing import OverlayDrawer
from mpmesh_core.errors import InputError, MPMeshError
from mpmesh_core.mcap_output import McapFile, read_note
from mpmesh_core.messages import MessageFrame, MessageOptions
from mpmesh_core.paths import HomePath
from mpmesh_core.people_recording import (
    NODE_NAME,
    PeopleRecorder,
    chosen_outputs,
    is_own_topic,
    node_prefix,
)
from mpmesh_core.pipeline import Pipeline, PipelineConfig
from mpmesh_core.run_outputs import DEFAULT_FOV
from mpmesh_core.runner import RunSummary, run_frame
from mpmesh_core.sources.bags import Bag
from mpmesh_core.sources.frames import BadFrame, Frame
from mpmesh_core.sources.kept_topics import RawMessage
from mpmesh_core.types import FrameResult
from mpmesh_core.weights import weights_path

logger = logging.getLogger(__name__)
EVERY_TOPIC = "all"
_NOTE = "mpmesh.replay"
_SAMPLE = 1 << 20  # bytes of a bag's beginning and end that tell it from others


class ReplayConfig(BaseModel):
    """What a replay assumes and writes; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pipeline: PipelineConfig = PipelineConfig()
    topic: str | None = Field(None, description="image topic of bags that have several")
    keep: tuple[str, ...] = Field((), description="topics of the bag to copy; `all` takes each")
    outputs: tuple[str, ...] | None = Field(None, description="what to write; None is everything")
    node: str = Field(NODE_NAME, description="name before the outputs' topics")
    vertices: bool = Field(False, description="meshes in SmplPersonArray too")
    joint_frames: bool = Field(False, description="a TF frame for each joint")
    camera_file: HomePath | None = Field(None, description="CameraInfo YAML instead of the bag's")
    fov_degrees: Annotated[float, Field(ge=1, le=175)] | None = Field(
        None, description="field of view on the longer side instead of the bag's camera"
    )


@dataclass(frozen=True)
class ReplayJob:
    """One bag."""

    bag: Path
    output: Path


@dataclass(frozen=True)
class ReplayReport:
    """What became of one bag."""

    job: ReplayJob
    summary: RunSummary = field(default_factory=RunSummary)
    seconds: float = 0.0
    backend: str = ""  # what ran the networks
    skipped: bool = False  # it was finished before
    error: str | None = None  # why there is no file
    exit_code: int = 0  # of the command, where there is an error


@dataclass(frozen=True)
class _KnownCamera:
    """The camera as the settings say it."""

    camera: Camera | None
    fov: float

    @classmethod
    def of(cls, config: ReplayConfig) -> _KnownCamera:
        file, fov = config.camera_file, config.fov_degrees
        return cls(None if file is None else Camera.from_file(file), fov or DEFAULT_FOV)


Tell = Callable[[FrameResult | BadFrame], None]


def replay_or_report(
    job: ReplayJob, config: ReplayConfig, tell: Tell | None = None
) -> ReplayReport:
    """`replay_bag`, with an error in the report instead of raised."""
    try:
        return replay_bag(job, config, tell)
    except (MPMeshError, OSError) as error:
        return ReplayReport(job, error=str(error), exit_code=getattr(error, "exit_code", 1))


def replay_bag(job: ReplayJob, config: ReplayConfig, tell: Tell | None = None) -> ReplayReport:
    """Replay one bag, unless that was done before.

    Args:
        job: the bag and the file to write.
        config: how.
        tell: is told of each frame.

    Returns:
        Counts and timings.

    Raises:
        MPMeshError: nothing is written then.
    """
    start = time.perf_counter()
    rule = _KnownCamera.of(config)
    known = config.camera_file is not None or config.fov_degrees is not None
    bag = Bag(job.bag, config.topic, camera_info=not known)
    note = {"bag": job.bag.name, "fingerprint": fingerprint(job.bag, config)}
    if read_note(job.output, _NOTE) == note:
        return ReplayReport(job, skipped=True)
    replay = _Replay(bag, config, rule)
    with McapFile(job.output) as file:
        file.note(_NOTE, note)
        summary = replay.write(file, tell or (lambda outcome: None))
    return ReplayReport(job, summary, time.perf_counter() - start, replay.backend)


class _Replay:
    """One bag on its way through the line."""

    def __init__(self, bag: Bag, config: ReplayConfig, rule: _KnownCamera) -> None:
        self._bag, self._config, self._rule = bag, config, rule
        self._outputs = chosen_outputs(config.outputs)
        node_prefix(config.node)  # a wrong name is told before anything is written
        present = bag.all_topics()
        asked = present if EVERY_TOPIC in config.keep else list(config.keep)
        own = [t for t in asked if t in present and is_own_topic(t, self._outputs, config.node)]
        if own:
            logger.warning(
                "bag %s: %s left out, which the replay writes itself (see --only and --node)",
                bag.path,
                ", ".join(own),
            )
        self._keep = [topic for topic in asked if topic not in own]
        self._kept = bag.kept_topics(self._keep)
        self._summary = RunSummary()

    @cached_property
    def _pipeline(self) -> Pipeline:
        """With everybody's vertices where an output needs them."""
        meshes = self._config.vertices or any(output.meshes for output in self._outputs)
        return _pipeline(self._config.pipeline.model_copy(update={"mesh": meshes}))

    @property
    def backend(self) -> str:
        """What runs the networks."""
        return f"{self._pipeline.backend} on {self._pipeline.device}"

    @cached_property
    def _drawer(self) -> OverlayDrawer | None:
        wanted = any(output.name == "overlay" for output in self._outputs)
        return OverlayDrawer(self._pipeline.body) if wanted else None

    def write(self, file: McapFile, tell: Tell) -> RunSummary:
        """Everything, in the order of the bag; each picture's outputs right after it."""
        config = self._config
        channels = {
            (topic.topic, topic.type): file.add_topic(
                topic.topic, topic.type, topic.definition, topic.encoding, topic.qos
            )
            for topic in self._kept
        }
        options = MessageOptions(
            config.pipeline.gender, config.vertices, joint_frames=config.joint_frames
        )
        recorder = PeopleRecorder(file, self._outputs, options, config.node)
        self._pipeline.start(renumber=True)
        for item in self._bag.read(self._keep):
            if isinstance(item, RawMessage):
                file.write(channels[item.topic, item.type], item.data, item.recorded_ns)
            else:
                self._write_frame(item, recorder, tell)
        if not self._summary.frames:
            bad = self._summary.bad
            reason = bad[0].reason if bad else f"bag {self._bag.path} holds no picture"
            raise InputError(f"no frame could be used: {reason}")
        return self._summary

    def _write_frame(self, item: Frame | BadFrame, recorder: PeopleRecorder, tell: Tell) -> None:
        try:
            frame, camera, result = run_frame(item, self._pipeline, self._rule, self._summary)
        except MPMeshError as error:
            tell(self._summary.count_bad(item, error))
            return
        assert frame.header is not None and frame.recorded_ns is not None  # it is of a bag
        drawer = self._drawer
        picture = None if drawer is None else drawer.draw(frame.image, result, camera)
        message = MessageFrame(frame.header, result, self._pipeline.body, picture)
        recorder.write(message, frame.recorded_ns)
        self._summary.count(result)
        tell(result)


@cache
def _pipeline(config: PipelineConfig) -> Pipeline:
    """Loaded once a process, for all of its bags."""
    return Pipeline(config)


def fingerprint(bag: Path, config: ReplayConfig) -> str:
    """What an output depends on: version, settings, networks, body and the bag, as a hash."""
    pipeline = config.pipeline
    digest = hashlib.sha256(__version__.encode())
    digest.update(json.dumps(config.model_dump(mode="json"), sort_keys=True).encode())
    files = [
        weights_path(name, pipeline.variant, pipeline.weights)
        for name in ("detector", "skeleton", "refiner")
    ]
    files.append(find_body_file(pipeline.body, pipeline.gender))
    files += [path for path in (pipeline.detector, config.camera_file) if path is not None]
    for path in files:
        digest.update(path.read_bytes())
    for path in _parts(bag):
        digest.update(_sample(path))
    return digest.hexdigest()


def _parts(bag: Path) -> Iterable[Path]:
    """The files of a bag, in a fixed order."""
    return sorted(path for path in bag.iterdir() if path.is_file()) if bag.is_dir() else [bag]


def _sample(path: Path) -> bytes:
    """Name, size, beginning and end of a file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        beginning = file.read(_SAMPLE)
        file.seek(max(size - _SAMPLE, 0))
        return f"{path.name} {size}".encode() + beginning + file.read()
