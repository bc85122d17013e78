"""message_types: message classes of rclpy for the builders of mpmesh_core.messages."""

from __future__ import annotations

import os
from array import array
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from rclpy.serialization import serialize_message

_CHECK = os.environ.get("ROS_PYTHON_CHECK_FIELDS") == "1"  # as generated messages read it


class RclpyTypes:
    """`mpmesh_core.messages.MessageTypes` of the ROS that is sourced.

    A package that isn't installed (vision_msgs, people_msgs) raises ModuleNotFoundError when one of
    its messages is asked for.
    """

    def __getitem__(self, name: str) -> Any:
        """What makes a message of all its fields; it has the message's constants, too."""
        return _maker(name)

    def sequence(self, values: np.ndarray) -> array:
        """An array.array, which rclpy takes as it is; everything else it converts item by item."""
        flat = array(values.dtype.char)
        flat.frombytes(np.ascontiguousarray(values).data.cast("B"))
        return flat

    def serialize(self, message: Any) -> bytes:
        """CDR as the middleware makes it."""
        return serialize_message(message)


class _Maker:
    """Makes messages without the default of every field, which takes most of a constructor's time.

    All fields have to be given. Where messages are made in a way that this doesn't know, their own
    constructor is called.
    """

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        self._checked = "_check_fields" in getattr(cls, "__slots__", ())
        self._bare = True
        default = cls()
        fields = {name: getattr(default, name) for name in cls.get_fields_and_field_types()}
        try:
            self._bare = self(**fields) == default
        except AttributeError:
            self._bare = False

    def __call__(self, **fields: Any) -> Any:
        if not self._bare:
            return self._cls(**fields)
        message = self._cls.__new__(self._cls)
        if self._checked:
            message._check_fields = _CHECK
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    def __getattr__(self, constant: str) -> Any:
        return getattr(self._cls, constant)


def message_class(name: str) -> Any:
    """The class of a message, as publishers take it.

    Raises:
        ModuleNotFoundError: its package isn't installed.
    """
    package, kind, message = name.split("/")
    return getattr(import_module(f"{package}.{kind}"), message)


@cache
def _maker(name: str) -> _Maker:
    return _Maker(message_class(name))
