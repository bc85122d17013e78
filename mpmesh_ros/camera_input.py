"""camera_input: the subscriptions of one camera; messages become Pictures, nothing more.

The callbacks do next to nothing, so the executor is never busy: decoding is the worker's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from mpmesh_ros.camera_cache import CameraCache, info_topic
from mpmesh_ros.depth_matcher import DepthMatcher
from mpmesh_ros.pictures import Picture, StampWatch, age_by_stamp, foreign_stamp
from mpmesh_ros.problems import Problems
from mpmesh_ros.qos import DEPTH, LATCHED, NEWEST, OVERRIDABLE, copied, explained, qos_problem
from mpmesh_ros.settings import NodeSettings

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # before Iron
    from rclpy.qos_event import SubscriptionEventCallbacks


class CameraInput:
    """Subscribes to a camera while open.

    Args:
        node: the node.
        settings: of the node.
        cameras: is given each camera_info.
        problems: where what goes wrong is reported.
        deliver: is given each picture.
    """

    def __init__(
        self,
        node: Node,
        settings: NodeSettings,
        cameras: CameraCache,
        problems: Problems,
        deliver: Callable[[Picture], None],
    ) -> None:
        self._node, self._cameras, self._problems = node, cameras, problems
        self._deliver = deliver
        self._compressed = settings.image_transport == "compressed"
        self._type = f"sensor_msgs/msg/{'CompressedImage' if self._compressed else 'Image'}"
        self._depth = DepthMatcher(settings.depth_slop_s, deliver) if settings.use_depth else None
        self._stamps = StampWatch()
        self._subscriptions: list[Any] = []
        self._heard = False  # a camera_info, since it listens
        self._latched = False  # whether what was said before is asked for
        self.topic = picture_topic(node, self._compressed)
        self.info_topic = camera_info_topic(node, self._compressed)

    def open(self) -> None:
        """Begin to listen."""
        self.close()  # what an attempt that failed has left
        kind = CompressedImage if self._compressed else Image
        self._heard = self._latched = False
        # executors serve subscriptions in this order: a picture's camera_info comes before it
        self._subscribe(CameraInfo, self.info_topic, self._on_info, NEWEST)
        self._subscribe(kind, self.topic, self._on_image, NEWEST)
        if self._depth is not None:
            topic = self._node.resolve_topic_name("depth")
            self._subscribe(Image, topic, self._depth.add_depth, DEPTH)

    def close(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions:
            self._problems.forget(qos_problem(subscription.topic_name))
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def publishers(self) -> int:
        """How many publish pictures."""
        return self._node.count_publishers(self.topic)

    def silence(self) -> str:
        """Why no pictures come, as far as one can see."""
        others = self._node.get_publishers_info_by_topic(self.topic)
        if not others:
            return "nobody publishes them"
        types = {other.topic_type for other in others}
        if self._type not in types:
            return (
                f"what is published there is {', '.join(sorted(types))}, not {self._type}; "
                "image_transport says which is wanted, and image names the topic without it"
            )
        return f"{len(others)} there, but nothing comes"

    def _subscribe(
        self, kind: Any, topic: str, callback: Callable[[Any], None], qos: QoSProfile
    ) -> None:
        qos = copied(qos)
        report = explained(self._node, topic, qos, "subscription", self._problems)
        self._subscriptions.append(
            self._node.create_subscription(
                kind,
                topic,
                lambda message: self._guarded(topic, callback, message),
                qos,
                event_callbacks=SubscriptionEventCallbacks(incompatible_qos=report),
                qos_overriding_options=OVERRIDABLE,
            )
        )

    def _ask_for_latched(self) -> None:
        """Hear a camera_info that was published once, before the node began, where it is kept.

        Only then: a camera that keeps nothing would be warned of a subscription that asks for it.
        """
        topic = self.info_topic
        offers = [other.qos_profile for other in self._node.get_publishers_info_by_topic(topic)]
        wanted = (LATCHED.durability, LATCHED.reliability)
        if wanted in [(offer.durability, offer.reliability) for offer in offers]:
            self._latched = True
            # neither overrides nor explanations: those are of the other subscription to the topic
            self._subscriptions.append(
                self._node.create_subscription(
                    CameraInfo,
                    topic,
                    lambda message: self._guarded(topic, self._on_info, message),
                    LATCHED,
                    event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
                )
            )

    def _on_info(self, message: Any) -> None:
        self._heard = True
        self._cameras.update(message)

    def _on_image(self, message: Any) -> None:
        if not (self._heard or self._latched or self._cameras.fixed):
            self._ask_for_latched()
        stamp = message.header.stamp
        stamp_ns = 1_000_000_000 * stamp.sec + stamp.nanosec
        now_ns = self._node.get_clock().now().nanoseconds
        arrived = time.monotonic()
        standstill = self._stamps.standstill(stamp_ns, arrived)
        age = None if standstill else age_by_stamp(stamp_ns, now_ns)
        if age is None:
            text = foreign_stamp(stamp_ns, now_ns, standstill)
            self._problems.report("stamps", f"{self.topic}: {text}")
        else:
            self._problems.solved("stamps")
        picture = Picture(message, self._compressed, arrived, age, standstill=standstill)
        if self._depth is None:
            self._deliver(picture)
            return
        self._depth.add_picture(picture)
        if self._depth.missing:
            self._problems.report(
                "depth",
                "no depth image within depth_slop_s of the pictures: distances come from "
                "people's size",
            )

    def _guarded(self, topic: str, callback: Callable[[Any], None], message: Any) -> None:
        """Nothing that one message does may end the node."""
        name = f"messages on {topic}"
        try:
            callback(message)
            self._problems.solved(name)
        except Exception as error:
            self._problems.report(name, f"{topic}: left out: {type(error).__name__}: {error}")


def picture_topic(node: Node, compressed: bool) -> str:
    """Where pictures come from; either `image` or `image/compressed` may be remapped."""
    name = node.resolve_topic_name("image")
    return node.resolve_topic_name(f"{name}/compressed") if compressed else name


def image_topic(node: Node, compressed: bool) -> str:
    """The same without its transport."""
    topic = picture_topic(node, compressed)
    return topic.removesuffix("/compressed") if compressed else topic


def camera_info_topic(node: Node, compressed: bool) -> str:
    """`camera_info` where that is remapped, else the one beside the image topic."""
    name = node.resolve_topic_name("camera_info")
    remapped = name != node.resolve_topic_name("camera_info", only_expand=True)
    return name if remapped else info_topic(image_topic(node, compressed))
