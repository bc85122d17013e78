"""publishers: every output as a topic; what nobody listens to isn't built."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode

from mpmesh_core.body import BodyModel
from mpmesh_core.drawing import OverlayDrawer
from mpmesh_core.messages import OUTPUTS, MessageBuilder, MessageFrame, Output
from mpmesh_core.messages.navigation import RigidTransform
from mpmesh_core.sources.frames import Header
from mpmesh_core.types import FrameResult
from mpmesh_ros.estimator import Estimate
from mpmesh_ros.humans import Humans
from mpmesh_ros.message_types import RclpyTypes, message_class
from mpmesh_ros.navigation import NavigationFrame
from mpmesh_ros.problems import Problems
from mpmesh_ros.qos import OVERRIDABLE, copied, explained, output_qos, qos_problem
from mpmesh_ros.settings import NodeSettings

try:
    from rclpy.event_handler import PublisherEventCallbacks
except ImportError:  # before Iron
    from rclpy.qos_event import PublisherEventCallbacks

ALWAYS = "people"
WAITS = "navigation_people"  # for TF, so it comes after the others, REP 155's among them
_IN_ORDER = sorted(OUTPUTS, key=lambda output: output.name == WAITS)
SILENCE_S = 1.5  # without a result, after which people are no longer there,
LONGEST_PERIOD_S = 2.5  # or twice the time between two results, where it was no longer than this


class Publishers:
    """The topics of a configured node.

    Args:
        node: the node.
        body: the body that results belong to.
        settings: of the node.
        problems: where what goes wrong is reported.
    """

    def __init__(
        self, node: LifecycleNode, body: BodyModel, settings: NodeSettings, problems: Problems
    ) -> None:
        self._node, self._body, self._problems = node, body, problems
        self._types = RclpyTypes()
        self._builder = MessageBuilder(self._types, settings.messages)
        self._humans: Humans | None = None
        if settings.humans:
            self._humans = Humans(node, self._types, settings.frame_prefix)
        self._drawer = OverlayDrawer(body)
        self._topics: dict[str, Any] = {}
        for output in OUTPUTS:
            self._create(output)
        self._navigation = NavigationFrame(node, problems)
        if settings.navigation_frame:
            self._navigation.open()
        self._last: Header | None = None  # of a picture whose people still stand
        self._last_at = 0.0  # when that was published [s]
        self._period_s = 0.0  # between the last two

    def publish(self, estimate: Estimate, settings: NodeSettings) -> None:
        """The people of a picture, on every topic that somebody listens to."""
        self._builder.options = settings.messages
        self._last = estimate.header
        self._check_frame(estimate.header)
        frame = MessageFrame(estimate.header, estimate.result, self._body)
        self._publish(frame, settings)
        now = time.monotonic()
        self._period_s = now - self._last_at if self._last_at else 0.0
        self._last_at = now
        if self._wanted("overlay"):  # drawn last, since it takes long
            picture = self._drawer.draw(estimate.image, estimate.result, estimate.camera)
            message = self._builder.build("overlay", replace(frame, picture=picture))
            self._topics["overlay"].publish(message)

    def publish_topology(self) -> None:
        """The body's triangles, for everybody who comes."""
        nobody = MessageFrame(Header(0, 0, ""), _nobody(), self._body)
        self._topics["topology"].publish(self._builder.build("topology", nobody))

    def publish_nobody(self, settings: NodeSettings) -> None:
        """Empty messages, so that nobody stays on the screen or in a planner's way."""
        last, self._last = self._last, None
        if last is not None:
            self._publish(MessageFrame(last, _nobody(), self._body), settings)

    def watch(self, settings: NodeSettings) -> None:
        """Say once that nobody is there when no picture has told otherwise for a while."""
        usual = 2.0 * self._period_s if self._period_s <= LONGEST_PERIOD_S else 0.0
        if time.monotonic() - self._last_at > max(SILENCE_S, usual):
            self.publish_nobody(settings)

    def destroy(self) -> None:
        """Take the topics away."""
        for publisher in self._topics.values():
            self._problems.forget(qos_problem(publisher.topic_name))
            self._node.destroy_lifecycle_publisher(publisher)
        self._topics.clear()
        if self._humans is not None:
            self._humans.destroy()
        self._navigation.close()

    def _check_frame(self, header: Header) -> None:
        if header.frame_id:
            self._problems.solved("frame_id")
            return
        self._problems.report(
            "frame_id",
            "pictures name no frame (header.frame_id), so people have no place in TF or RViz; set "
            "the camera's optical frame at its driver",
        )

    def _create(self, output: Output) -> None:
        try:
            kind = message_class(output.type)
        except ModuleNotFoundError:
            package = output.type.split("/")[0]
            self._node.get_logger().info(f"no {output.topic}: {package} isn't installed")
            return
        topic = self._node.resolve_topic_name(output.topic)
        qos = copied(output_qos(output))
        report = explained(self._node, topic, qos, "publisher", self._problems)
        self._topics[output.name] = self._node.create_lifecycle_publisher(
            kind,
            output.topic,
            qos,
            event_callbacks=PublisherEventCallbacks(incompatible_qos=report),
            qos_overriding_options=OVERRIDABLE,
        )

    def _wanted(self, name: str) -> bool:
        publisher = self._topics.get(name)
        return publisher is not None and (name == ALWAYS or publisher.get_subscription_count() > 0)

    def _publish(self, frame: MessageFrame, settings: NodeSettings) -> None:
        for output in _IN_ORDER:
            if output.name == WAITS and self._humans is not None:
                self._humans.publish(frame)
            if output.latched or not self._wanted(output.name):
                continue
            if output.name == "tf" and not (settings.publish_tf and frame.header.frame_id):
                continue
            message = self._message(output.name, frame, settings)
            if message is not None:
                self._topics[output.name].publish(message)

    def _message(self, name: str, frame: MessageFrame, settings: NodeSettings) -> Any:
        target = settings.navigation_frame
        if name != WAITS:
            return self._builder.build(name, frame)
        if target in ("", frame.header.frame_id):
            self._problems.solved("navigation")
            return self._builder.navigation_people(frame)
        if not frame.people:  # nobody is the same everywhere, also where TF has died
            anywhere = RigidTransform(target, np.eye(3), np.zeros(3))
            return self._builder.navigation_people(frame, anywhere)
        transform = self._navigation.transform(target, frame.header, settings.transform_timeout_s)
        return None if transform is None else self._builder.navigation_people(frame, transform)


def _nobody() -> FrameResult:
    return FrameResult(0, 0.0, "", 0, 0, np.eye(3), np.zeros(0))
