"""messages.templates: messages serialised with placeholders, in whose places numbers are put.

In   a function that makes a message from a header and float64 numbers; or a serialised message
     with short sequences
Out  the message's CDR with other numbers and another stamp, or with long sequences; byte by byte
     what the plain way gives

Messages of hundreds of parts (markers) cost a Python object each to build and more to serialise,
and from frame to frame only numbers change. So it is serialised with numbers that nobody has, and
where those stand is where the true ones go.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from mpmesh_core.errors import NumericalError
from mpmesh_core.messages.types import MessageTypes
from mpmesh_core.sources.frames import Header
from mpmesh_core.types import Array

_FIRST = 0x3A5C96E17B2D0000  # bits of the first placeholder, a small float64; the others count on
_SEC, _NANOSEC = 0x35C9A6E1, 0x2B71D36F
_ENCAPSULATION = 4  # bytes before the message, from which its numbers are aligned


class MessageTemplate:
    """A message of float64 numbers and stamps that change, and all else that doesn't.

    Args:
        types: message classes.
        make: makes the message from a header and numbers (K,); the message has each number once,
            in their order.
        frame_id: of the header.
        count: K.

    Raises:
        NumericalError: a number that isn't in the message, or not in its turn.
    """

    def __init__(
        self,
        types: MessageTypes,
        make: Callable[[Header, Array], Any],
        frame_id: str,
        count: int,
    ) -> None:
        bits = _FIRST + np.arange(count, dtype=np.uint64)
        message = make(Header(_SEC, _NANOSEC, frame_id), bits.view(np.float64))
        self._data = types.serialize(message)
        self._numbers = np.empty(count, np.intp)  # places as float64 after the encapsulation
        place = _ENCAPSULATION
        for k, pattern in enumerate(bits.astype("<u8").tolist()):
            place = self._data.find(struct.pack("<Q", pattern), place)
            if place < 0:
                raise NumericalError(f"number {k} of {count} has no place in the message")
            self._numbers[k] = (place - _ENCAPSULATION) // 8
        self._stamps = self._data.split(struct.pack("<II", _SEC, _NANOSEC))

    def fill(self, header: Header, numbers: Array) -> bytes:
        """The message with the stamp of a header and these numbers (K,)."""
        stamped = struct.pack("<iI", header.sec, header.nanosec).join(self._stamps)
        data = bytearray(stamped)
        whole = (len(data) - _ENCAPSULATION) // 8
        np.frombuffer(data, "<f8", whole, _ENCAPSULATION)[self._numbers] = numbers
        return bytes(data)


def with_sequences(
    template: bytes, placeholder: bytes, items: int, arrays: Iterable[Array]
) -> bytes:
    """Put long sequences where a serialised message holds short ones.

    What follows a sequence keeps its alignment if both lengths are multiples of 8 bytes, or if
    nothing follows that is aligned.

    Args:
        template: CDR, little-endian.
        placeholder: content of every sequence to be exchanged, and of nothing else.
        items: of a placeholder.
        arrays: what to put in, one for each of them; contiguous, at least one item.
    """
    head, *tails = template.split(placeholder)
    length, item = struct.pack("<I", items), len(placeholder) // items
    parts: list[bytes | memoryview] = []
    for values, tail in zip(arrays, tails):
        # the length stands right before its items, or four bytes of padding earlier
        end = len(head) if head.endswith(length) else len(head) - 4
        parts += [head[: end - 4], struct.pack("<I", values.nbytes // item), head[end:]]
        parts.append(values.data)
        head = tail
    return b"".join([*parts, head])
