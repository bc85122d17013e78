"""humans: the topics of REP 155, which come and go with people; needs hri_msgs.

What they say is made by `mpmesh_core.messages.humans`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpmesh_core.errors import MissingPackageError
from mpmesh_core.messages import MessageFrame
from mpmesh_core.messages.humans import ROOT, bodies

if TYPE_CHECKING:
    from rclpy.node import Node

    from mpmesh_ros.message_types import RclpyTypes


class Humans:
    """The topics of REP 155.

    Args:
        node: the node.
        types: message classes.
        prefix: of ids.

    Raises:
        MissingPackageError: hri_msgs isn't installed.
    """

    def __init__(self, node: Node, types: RclpyTypes, prefix: str = "") -> None:
        from mpmesh_ros.message_types import message_class

        self._node, self._types, self._class = node, types, message_class
        self._prefix = prefix
        try:
            message_class("hri_msgs/msg/IdsList")
        except ModuleNotFoundError:
            raise MissingPackageError(
                "humans needs hri_msgs: apt install ros-$ROS_DISTRO-hri-msgs, or build "
                "https://github.com/ros4hri/hri_msgs; or set humans to false"
            ) from None
        self._topics: dict[str, Any] = {}
        self._publisher(f"{ROOT}/tracked", "hri_msgs/msg/IdsList")
        self._publisher("/tf", "tf2_msgs/msg/TFMessage")

    def publish(self, frame: MessageFrame) -> None:
        """Everybody of a frame; topics of those who are gone go too."""
        messages = bodies(self._types, frame, self._prefix)
        for gone in set(self._topics) - {part.topic for part in messages}:
            self._node.destroy_publisher(self._topics.pop(gone))
        for part in messages:
            if part.topic == "/tf" and not frame.header.frame_id:
                continue  # TF takes no frame without a name
            self._publisher(part.topic, part.type).publish(part.message)

    def destroy(self) -> None:
        """Take the topics away."""
        for publisher in self._topics.values():
            self._node.destroy_publisher(publisher)
        self._topics.clear()

    def _publisher(self, topic: str, kind: str) -> Any:
        if topic not in self._topics:
            depth = 100 if topic == "/tf" else 1
            self._topics[topic] = self._node.create_publisher(self._class(kind), topic, depth)
        return self._topics[topic]
