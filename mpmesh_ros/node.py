"""node: people from a camera's topics; receive, estimate, publish, measure.

A lifecycle node: `configure` loads the networks, `activate` subscribes, `deactivate` says that
nobody is there and unsubscribes. One thread spins, another runs the networks and publishes.
"""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_srvs.srv import SetBool, Trigger

from mpmesh_core.camera import Camera
from mpmesh_core.configuration import PipelineConfig
from mpmesh_core.errors import MPMeshError
from mpmesh_core.pipeline import Pipeline
from mpmesh_core.weights import weights_path
from mpmesh_ros.camera_cache import CameraCache, is_rectified
from mpmesh_ros.camera_input import CameraInput, camera_info_topic, image_topic
from mpmesh_ros.diagnostics import Diagnostics, Situation
from mpmesh_ros.estimator import Estimator
from mpmesh_ros.memory import keep_memory
from mpmesh_ros.parameters import Parameters
from mpmesh_ros.pictures import Picture
from mpmesh_ros.problems import Problems
from mpmesh_ros.publishers import Publishers
from mpmesh_ros.settings import NodeSettings
from mpmesh_ros.signals import start
from mpmesh_ros.statistics import Statistics
from mpmesh_ros.worker import Worker

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@dataclass(frozen=True)
class _Loaded:
    """What a configured node has."""

    estimator: Estimator
    publishers: Publishers
    input: CameraInput
    facts: dict[str, str]


class MpmeshNode(LifecycleNode):
    """The node `mpmesh`.

    Raises:
        UsageError: a parameter that isn't possible.
    """

    def __init__(self) -> None:
        super().__init__("mpmesh")
        self.parameters = Parameters(self)
        log = self.get_logger()
        self._problems = Problems(log.warning, log.info)
        self._statistics = Statistics()
        self._loaded: _Loaded | None = None
        self._worker: Worker[Picture] | None = None
        self._active = False
        self._next_id = 1  # identities are never used twice, also when networks are loaded again
        self._failure = ""  # of the last transition
        self._diagnostics = Diagnostics(self, self._statistics, self._problems, self._situation)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/reset_tracks", self._on_reset_tracks)

    @property
    def settings(self) -> NodeSettings:
        """As they are now."""
        return self.parameters.settings

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the networks and make the topics."""
        return self._attempt("configure", self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to work."""
        super().on_activate(state)
        return self._attempt("activate", self._activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, and say that nobody is there."""
        self._stop()
        self._active = False
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of networks and topics."""
        self.release()
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """The same, from any state."""
        self.release()
        return SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """The same, so that the node can be configured again."""
        self.release()
        return SUCCESS

    def release(self) -> None:
        """Stop, say that nobody is there, let go of networks and topics."""
        self._stop()
        self._active = False
        self._failure = ""
        if self._loaded is not None:
            tracker = self._loaded.estimator.pipeline.tracker
            self._next_id = tracker.state.next_id if tracker is not None else self._next_id
            self._loaded.publishers.destroy()
            self._loaded = None

    def _attempt(self, name: str, action: Callable[[], None]) -> TransitionCallbackReturn:
        """A transition that may fail, whatever the reason: the node stays and says it."""
        self._failure = ""
        try:
            action()
        except Exception as error:
            kind = "" if isinstance(error, MPMeshError) else f"{type(error).__name__}: "
            self._failure = f"cannot {name}: {kind}{error}"
            self.get_logger().error(self._failure)
            return FAILURE
        return SUCCESS

    def _configure(self) -> None:
        self._loaded = self._load(self.settings)
        facts = self._loaded.facts
        self.get_logger().info(f"ready: {facts['backend']}, weights {facts['weights']}")

    def _activate(self) -> None:
        assert self._loaded is not None
        self._start()
        self._active = True
        self._loaded.publishers.publish_topology()

    def _load(self, settings: NodeSettings) -> _Loaded:
        pipeline = Pipeline(settings.pipeline)
        if pipeline.tracker is not None:
            pipeline.tracker.go_on_from(self._next_id)
        compressed = settings.image_transport == "compressed"
        image, info = image_topic(self, compressed), camera_info_topic(self, compressed)
        cameras = CameraCache(
            info,
            is_rectified(image, settings.rectification),
            None if settings.camera_file is None else Camera.from_file(settings.camera_file),
            settings.fov_degrees,
        )
        source = CameraInput(self, settings, cameras, self._problems, self._receive)
        facts = {
            "backend": f"{pipeline.backend} on {pipeline.device}",
            "weights": weights_hash(settings.pipeline),
            "image topic": source.topic,
            "camera_info topic": info,
        }
        publishers = Publishers(self, pipeline.body, settings, self._problems)
        estimator = Estimator(pipeline, cameras, self._problems, self.get_logger().info)
        return _Loaded(estimator, publishers, source, facts)

    def _start(self) -> None:
        """Subscribe and work."""
        assert self._loaded is not None
        if self._worker is None:
            self._loaded.estimator.forget_people()
            self._loaded.input.open()
            self._worker = Worker(self._work, self._failed, self._watch)

    def _stop(self) -> None:
        """Unsubscribe, finish the picture at hand, and take everybody off the topics."""
        if self._worker is not None and self._loaded is not None:
            self._loaded.input.close()
            self._worker.stop()
            self._worker = None
            self._loaded.publishers.publish_nobody(self.settings)
            self._problems.expire(after_s=0.0)  # pictures are of no matter now

    def _receive(self, picture: Picture) -> None:
        """In the executor's thread: leave the picture for the other one."""
        self._statistics.received(time.monotonic())
        if self._worker is not None and self._worker.slot.put(picture):
            self._statistics.dropped("newer")

    def _work(self, picture: Picture) -> None:
        """In the inference thread: everything else."""
        assert self._loaded is not None
        settings = self.settings
        if self._too_old(picture, settings.max_image_age_s):
            return
        estimate = self._loaded.estimator.estimate(picture)
        if estimate is None:
            self._statistics.dropped("unusable")
            return
        self._loaded.publishers.publish(estimate, settings)
        now, result = time.monotonic(), estimate.result
        self._statistics.published(now, picture.age(now), len(result.people), result.timings)

    def _watch(self) -> None:
        """In the inference thread: those of long ago don't stay when pictures end or are bad."""
        assert self._loaded is not None
        self._loaded.publishers.watch(self.settings)

    def _too_old(self, picture: Picture, limit: float) -> bool:
        age = picture.age(time.monotonic())
        if not limit or age <= limit:
            self._problems.solved("age")
            return False
        self._statistics.dropped("old")
        self._problems.report(
            "age", f"pictures are {age:.2f} s old when their turn comes, more than max_image_age_s"
        )
        return True

    def _failed(self, error: Exception) -> None:
        self._statistics.dropped("unusable")
        self._problems.report("pipeline", f"picture left out: {type(error).__name__}: {error}")

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Work or rest, without leaving the active state."""
        response.success = self._active
        if not self._active:
            response.message = "the node isn't active"
        elif request.data:
            self._start()
        else:
            self._stop()
        return response

    def _on_reset_tracks(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        """Forget everybody; identities go on counting."""
        response.success = self._loaded is not None
        if self._loaded is None:
            response.message = "the node isn't configured"
        else:
            self._loaded.estimator.forget_people()
        return response

    def _situation(self) -> Situation:
        """For diagnostics."""
        if self._loaded is None:
            return Situation("unconfigured", {}, self._failure)
        word = "inactive" if not self._active else "active" if self._worker else "disabled"
        if word == "active" and self._loaded.estimator.preparing:
            word = "preparing"
        more = {
            "image publishers": str(self._loaded.input.publishers()),
            "camera_info changes": str(self._loaded.estimator.cameras.changes),
        }
        silence = self._loaded.input.silence
        return Situation(word, {**self._loaded.facts, **more}, self._failure, silence)


def weights_hash(config: PipelineConfig) -> str:
    """A name for the set of checkpoints, 12 hexadecimal digits."""
    digest = hashlib.sha256()
    networks = ["skeleton", "refiner"] if config.refine else ["skeleton"]
    paths = [weights_path(name, config.variant, config.weights) for name in networks]
    detector = config.detector
    if detector is None:
        detector = weights_path("detector", config.variant, config.weights)
    for path in (Path(detector), *paths):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM.

    Returns:
        Exit code: 0, 1 where the engines of build_only cannot be built, 2 for wrong arguments.
    """
    keep_memory()
    try:
        node, ended = start(MpmeshNode, args)
    except MPMeshError as error:
        print(f"mpmesh: {error}", file=sys.stderr)
        return error.exit_code
    code = _run(node, ended)
    node.release()
    node.destroy_node()
    rclpy.shutdown()
    return code


def _run(node: MpmeshNode, ended: threading.Event) -> int:
    if node.settings.build_only:
        return 0 if node.trigger_configure() == SUCCESS else 1
    if node.settings.autostart and node.trigger_configure() == SUCCESS:
        node.trigger_activate()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not ended.is_set():
        executor.spin_once(timeout_sec=0.2)
    return 0
