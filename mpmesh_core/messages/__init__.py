"""messages: the people of a frame as ROS messages, without ROS.

In   MessageFrame: a FrameResult and the header of its picture
Out  messages of whatever classes a `MessageTypes` gives: those of rclpy in a live node, those of
     the rosbags package in a replay; `MessageBuilder` has one method an output
"""

from mpmesh_core.messages.builder import OUTPUTS, MessageBuilder, MessageOptions, Output
from mpmesh_core.messages.frame import MessageFrame
from mpmesh_core.messages.types import MessageTypes

__all__ = ["OUTPUTS", "MessageBuilder", "MessageFrame", "MessageOptions", "MessageTypes", "Output"]
