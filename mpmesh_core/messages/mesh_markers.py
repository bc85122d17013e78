"""messages.mesh_markers: people as triangle lists, serialised by hand.

In   MessageFrame, camera optical frame
Out  visualization_msgs/MarkerArray as bytes of CDR, namespace `mesh`; byte by byte what the plain
     way gives, some fifty times faster

A body has 41 000 marker points, and a message object for each costs 50 ms and more. So the message
is serialised with one point a body, and the points of all its triangles are put in that one's
place: points are three float64 aligned to 8, so what follows keeps its alignment.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from mpmesh_core.messages.frame import MessageFrame
from mpmesh_core.messages.geometry import points_message
from mpmesh_core.messages.markers import MarkerMaker, Shown, deletions, shown_markers
from mpmesh_core.messages.types import MessageTypes
from mpmesh_core.types import Array

_PLACEHOLDER = np.array([[-1.2345678912345e-271, 9.8765432198765e-263, -5.4321e-251]])
_POINT_BYTES = _PLACEHOLDER.astype("<f8").tobytes()
_ONE = struct.pack("<I", 1)
_COASTED_ALPHA = 0.4
_SCALE = (1.0, 1.0, 1.0)


def mesh_markers(types: MessageTypes, frame: MessageFrame, shown: Shown) -> tuple[bytes, Shown]:
    """Everybody's mesh, and deletions of meshes that are no longer shown.

    Args:
        types: message classes.
        frame: the people.
        shown: what the frame before returned; empty at first.

    Returns:
        A serialised visualization_msgs/MarkerArray, and what is shown now.
    """
    maker = MarkerMaker(types, frame.header)
    point = points_message(types, _PLACEHOLDER)
    markers = [mesh_marker(maker, frame, i, point) for i in range(len(frame.people))]
    now = shown_markers(markers)
    template = types.serialize(maker.array(markers + deletions(maker, shown - now)))
    corners = frame.body.faces.cpu().numpy().reshape(-1)
    return with_points(template, [np.take(v, corners, axis=0) for v in frame.vertices]), now


def mesh_marker(maker: MarkerMaker, frame: MessageFrame, i: int, points: list[Any]) -> Any:
    """The marker of person `i` of the frame, a triangle list with these points."""
    alpha = _COASTED_ALPHA if frame.people[i].state == "coasted" else 1.0
    kind = maker.cls.TRIANGLE_LIST
    return maker.marker("mesh", frame.numbers[i], kind, _SCALE, points=points, alpha=alpha)


def with_points(template: bytes, points: list[Array]) -> bytes:
    """Put points where a serialised message holds placeholders.

    Args:
        template: CDR, little-endian, in which each list to be filled is one placeholder point.
        points: for each of them (P, 3) [m], P at least 1.
    """
    head, *tails = template.split(_POINT_BYTES)
    parts = []
    for values, tail in zip(points, tails):
        count = struct.pack("<I", len(values))
        # the list's length stands right before its points, or four bytes of padding earlier
        end = len(head) if head.endswith(_ONE) else len(head) - 4
        parts += [head[: end - 4], count, head[end:], values.astype("<f8").tobytes()]
        head = tail
    return b"".join([*parts, head])
