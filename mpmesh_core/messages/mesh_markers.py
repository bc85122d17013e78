"""messages.mesh_markers: people as triangle lists, serialised by hand.

In   MessageFrame, camera optical frame
Out  visualization_msgs/MarkerArray as bytes of CDR, namespace `mesh`; byte by byte what the plain
     way gives, some fifty times faster

A body has 41 000 marker points, and a message object for each costs 50 ms and more. So the message
is serialised with one point a body, and the points of all its triangles are put in that one's
place: points are three float64 aligned to 8, so what follows keeps its alignment.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mpmesh_core.messages.frame import MessageFrame
from mpmesh_core.messages.geometry import points_message
from mpmesh_core.messages.markers import MarkerMaker, Shown, deletions
from mpmesh_core.messages.templates import with_sequences
from mpmesh_core.messages.types import MessageTypes
from mpmesh_core.types import Array

_PLACEHOLDER = np.array([[-1.2345678912345e-271, 9.8765432198765e-263, -5.4321e-251]])
_POINT_BYTES = _PLACEHOLDER.astype("<f8").tobytes()
_COASTED_ALPHA = 0.4
_SCALE = (1.0, 1.0, 1.0)


class MeshMarkers:
    """Everybody's mesh, frame after frame, and deletions of meshes that are no longer shown.

    Args:
        types: message classes.
    """

    def __init__(self, types: MessageTypes) -> None:
        self._types = types
        self._shown: Shown = frozenset()
        self._corners = np.zeros(0, np.intp)  # vertex of each triangle's corners, all in a row
        self._points = np.zeros((0, 0, 3))  # kept, since fresh memory costs more than the work

    def message(self, frame: MessageFrame) -> bytes:
        """A serialised visualization_msgs/MarkerArray."""
        maker = MarkerMaker(self._types, frame.header)
        point = points_message(self._types, _PLACEHOLDER)
        markers = [mesh_marker(maker, frame, i, point) for i in range(len(frame.people))]
        now = frozenset(("mesh", number) for number in frame.numbers)
        markers += deletions(maker, sorted(self._shown - now))
        self._shown = now
        template = self._types.serialize(maker.array(markers))
        return with_sequences(template, _POINT_BYTES, 1, self._corner_points(frame))

    def _corner_points(self, frame: MessageFrame) -> Array:
        """(N, 3 F, 3) where the corners of everybody's triangles are [m]."""
        count, corners = len(frame.people), frame.body.faces.numel()
        if len(self._corners) != corners:
            self._corners = frame.body.faces.cpu().numpy().reshape(-1).astype(np.intp)
        if len(self._points) < count or self._points.shape[1] != corners:
            self._points = np.empty((count, corners, 3))
        for vertices, points in zip(frame.vertices, self._points):
            np.take(vertices.astype("<f8"), self._corners, axis=0, out=points, mode="clip")
        return self._points[:count]


def mesh_marker(maker: MarkerMaker, frame: MessageFrame, i: int, points: list[Any]) -> Any:
    """The marker of person `i` of the frame, a triangle list with these points."""
    alpha = _COASTED_ALPHA if frame.people[i].state == "coasted" else 1.0
    kind = maker.cls.TRIANGLE_LIST
    return maker.marker("mesh", frame.numbers[i], kind, _SCALE, points=points, alpha=alpha)
