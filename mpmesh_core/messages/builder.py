"""messages.builder: every output by name, and what it must remember from frame to frame.

In   MessageFrame
Out  one message, or bytes that are one, for each output asked for
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mpmesh_core.messages import navigation, people
from mpmesh_core.messages.clouds import surface_cloud
from mpmesh_core.messages.frame import MessageFrame
from mpmesh_core.messages.humans import TopicMessage, bodies
from mpmesh_core.messages.images import compressed_picture
from mpmesh_core.messages.markers import PersonMarkers
from mpmesh_core.messages.mesh_markers import MeshMarkers
from mpmesh_core.messages.navigation import RigidTransform
from mpmesh_core.messages.types import MessageTypes


@dataclass(frozen=True)
class MessageOptions:
    """What can be chosen about messages."""

    gender: str = "neutral"  # of an SMPL body
    vertices: bool = False  # fill in the meshes of SmplPersonArray
    joint_frames: bool = False  # <joint>_<id> below body_<id>
    target: int | None = None  # number of the person to follow; None takes the nearest
    prefix: str = ""  # of frames and names, where several cameras publish side by side


@dataclass(frozen=True)
class Output:
    """One topic."""

    name: str
    topic: str  # `~/` stands for the node's own name
    type: str
    meshes: bool = False  # it needs everybody's vertices, so it is built for listeners only
    latched: bool = False  # published once, transient local


OUTPUTS: tuple[Output, ...] = (
    Output("topology", "~/topology", "mpmesh_ros/msg/MeshTopology", latched=True),
    Output("people", "~/people", "mpmesh_ros/msg/SmplPersonArray"),
    Output("detections", "~/detections", "vision_msgs/msg/Detection3DArray"),
    Output("navigation_people", "/people", "people_msgs/msg/People"),
    Output("target_pose", "~/target_pose", "geometry_msgs/msg/PoseStamped"),
    Output("points", "~/points", "sensor_msgs/msg/PointCloud2", meshes=True),
    Output("markers", "~/markers", "visualization_msgs/msg/MarkerArray"),
    Output("mesh_markers", "~/mesh_markers", "visualization_msgs/msg/MarkerArray", meshes=True),
    Output("overlay", "~/overlay/compressed", "sensor_msgs/msg/CompressedImage"),
    Output("tf", "/tf", "tf2_msgs/msg/TFMessage"),
)


class MessageBuilder:
    """Makes the messages of one camera, frame after frame.

    Args:
        types: message classes.
        options: what to put in.
    """

    def __init__(self, types: MessageTypes, options: MessageOptions | None = None) -> None:
        self.types = types
        self.options = options or MessageOptions()
        self._followed: int | None = None
        self._makers: dict[str, Callable[[MessageFrame], Any]] = {
            "topology": lambda frame: people.mesh_topology(types, frame.body),
            "people": self._people,
            "detections": lambda frame: navigation.detections_3d(types, frame),
            "navigation_people": self.navigation_people,
            "target_pose": self._target_pose,
            "points": lambda frame: surface_cloud(types, frame),
            "markers": PersonMarkers(types).message,
            "mesh_markers": MeshMarkers(types).message,
            "overlay": lambda frame: compressed_picture(types, frame),
            "tf": self._transforms,
        }

    def build(self, name: str, frame: MessageFrame) -> Any:
        """The message of an output, or bytes that are one; None where there is nothing to say."""
        return self._makers[name](frame)

    def navigation_people(
        self, frame: MessageFrame, transform: RigidTransform | None = None
    ) -> Any:
        """people_msgs/People in the camera's frame, or where a transform leads to."""
        return navigation.people_message(self.types, frame, transform, self.options.prefix)

    def humans(self, frame: MessageFrame) -> list[TopicMessage]:
        """Messages of REP 155, each with its topic; there are three a person."""
        return bodies(self.types, frame, self.options.prefix)

    def _people(self, frame: MessageFrame) -> Any:
        options = self.options
        return people.people_array(self.types, frame, options.gender, options.vertices)

    def _transforms(self, frame: MessageFrame) -> Any:
        options = self.options
        return navigation.transforms(self.types, frame, options.joint_frames, options.prefix)

    def _target_pose(self, frame: MessageFrame) -> Any:
        target = self.options.target
        if target is None:
            target = self._followed = navigation.choose_target(frame, self._followed)
        return navigation.target_pose(self.types, frame, target)
