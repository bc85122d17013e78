"""messages.types: what the builders ask of those who provide message classes."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

Array = np.ndarray


class MessageTypes(Protocol):
    """Message classes by name, and the two things that differ between their makers.

    Classes take every field by keyword. Fields of fixed length are numpy arrays, message lists
    are lists; both makers agree on those.
    """

    def __getitem__(self, name: str) -> Any:
        """The class of a name such as `geometry_msgs/msg/Point`, with the message's constants."""
        ...  # pragma: no cover

    def sequence(self, values: Array) -> Any:
        """A flat array of numbers as a field of free length takes it; its dtype is the field's."""
        ...  # pragma: no cover

    def serialize(self, message: Any) -> bytes:
        """Little-endian CDR with its four bytes of encapsulation."""
        ...  # pragma: no cover
