"""message_types: message classes of rclpy for the builders of mpmesh_core.messages."""

from __future__ import annotations

from array import array
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from rclpy.serialization import serialize_message


class RclpyTypes:
    """`mpmesh_core.messages.MessageTypes` of the ROS that is sourced.

    A package that isn't installed (vision_msgs, people_msgs) raises ModuleNotFoundError when one of
    its messages is asked for.
    """

    def __getitem__(self, name: str) -> Any:
        """The class of a message."""
        return _message_class(name)

    def sequence(self, values: np.ndarray) -> array:
        """An array.array, which rclpy takes as it is; everything else it converts item by item."""
        flat = array(np.dtype(values.dtype).char)
        flat.frombytes(np.ascontiguousarray(values).tobytes())
        return flat

    def serialize(self, message: Any) -> bytes:
        """CDR as the middleware makes it."""
        return serialize_message(message)


@cache
def _message_class(name: str) -> Any:
    package, kind, message = name.split("/")
    return getattr(import_module(f"{package}.{kind}"), message)
