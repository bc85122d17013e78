"""messages.markers: skeletons, names, velocities and uncertainty for RViz.

In   MessageFrame, camera optical frame
Out  visualization_msgs/MarkerArray with namespaces `skeleton` (lines), `name` (text), `velocity`
     (an arrow as long as a second leads) and `covariance` (ellipsoid of the pelvis that holds
     68 %); ids are the people's numbers, colours those of the overlay
What was shown and no longer is gets deleted; should that message be lost, markers end by
themselves after `LIFETIME_S`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from mpmesh_core.canvas import person_colour
from mpmesh_core.joints import SMPL_JOINTS, SMPL_PARENTS
from mpmesh_core.messages.frame import MessageFrame, stacked
from mpmesh_core.messages.geometry import (
    IDENTITY,
    header_message,
    points_message,
    pose_message,
    xyz,
)
from mpmesh_core.messages.types import MessageTypes
from mpmesh_core.sources.frames import Header
from mpmesh_core.types import Array

LIFETIME_S = 1
ELLIPSOID_SIGMAS = 1.878  # holds 68.27 % in 3D: square root of the chi-square quantile 3.527
_BONES = [(parent, joint) for joint, parent in enumerate(SMPL_PARENTS) if parent >= 0]
_HEAD = SMPL_JOINTS.index("head")
_BONE_WIDTH, _TEXT_HEIGHT, _TEXT_ABOVE = 0.03, 0.2, 0.35  # [m]
_ARROW = (0.03, 0.07, 0.1)  # diameter of shaft and head, length of the head [m]
_COASTED_ALPHA, _ELLIPSOID_ALPHA = 0.4, 0.25
_SHORTEST = 1e-3  # [m] of an ellipsoid's axis, since RViz refuses zero

Shown = frozenset[tuple[str, int]]
"""Namespace and id of every marker that is on the screen."""


class MarkerMaker:
    """Makes the markers of one message; what they have in common is made once."""

    def __init__(self, types: MessageTypes, header: Header) -> None:
        self.types = types
        self.cls = types["visualization_msgs/msg/Marker"]
        self._header = header_message(types, header)
        self._origin = pose_message(types, (0.0, 0.0, 0.0), IDENTITY)
        self._colour = types["std_msgs/msg/ColorRGBA"]
        self._vector = types["geometry_msgs/msg/Vector3"]
        lifetime = types["builtin_interfaces/msg/Duration"]
        self._lifetime = lifetime(sec=LIFETIME_S, nanosec=0)
        empty = types.sequence(np.zeros(0, np.uint8))
        self._texture = types["sensor_msgs/msg/CompressedImage"](
            header=header_message(types, Header(0, 0, "")), format="", data=empty
        )
        self._file = types["visualization_msgs/msg/MeshFile"](filename="", data=empty)

    def marker(
        self, ns: str, number: int, kind: int, scale: tuple[float, float, float], **fields: Any
    ) -> Any:
        """visualization_msgs/Marker that is added or changed.

        Args:
            ns: namespace.
            number: id within it, whose colour it gets.
            kind: LINE_LIST and the like.
            scale: x, y, z [m].
            fields: `alpha`, and any of `pose`, `points`, `text`.
        """
        red, green, blue = (channel / 255 for channel in person_colour(number))
        colour = self._colour(r=red, g=green, b=blue, a=float(fields.get("alpha", 1.0)))
        return self._made(ns, number, kind, self.cls.ADD, scale, colour, fields)

    def deleted(self, ns: str, number: int) -> Any:
        """visualization_msgs/Marker that takes one away."""
        colour = self._colour(r=0.0, g=0.0, b=0.0, a=0.0)
        return self._made(ns, number, 0, self.cls.DELETE, (0.0, 0.0, 0.0), colour, {})

    def array(self, markers: list[Any]) -> Any:
        """visualization_msgs/MarkerArray."""
        return self.types["visualization_msgs/msg/MarkerArray"](markers=markers)

    def _made(
        self, ns: str, number: int, kind: int, action: int, scale: Any, colour: Any, fields: Any
    ) -> Any:
        return self.cls(
            header=self._header,
            ns=ns,
            id=number,
            type=kind,
            action=action,
            pose=fields.get("pose", self._origin),
            scale=xyz(self._vector, scale),
            color=colour,
            lifetime=self._lifetime,
            frame_locked=False,
            points=fields.get("points", []),
            colors=[],
            texture_resource="",
            texture=self._texture,
            uv_coordinates=[],
            text=fields.get("text", ""),
            mesh_resource="",
            mesh_file=self._file,
            mesh_use_embedded_materials=False,
        )


def person_markers(types: MessageTypes, frame: MessageFrame, shown: Shown) -> tuple[Any, Shown]:
    """Markers of everybody who is there, and deletions of what no longer is.

    Args:
        types: message classes.
        frame: the people.
        shown: what the frame before returned; empty at first.

    Returns:
        visualization_msgs/MarkerArray, and what is shown now.
    """
    maker = MarkerMaker(types, frame.header)
    covariances = stacked([person.position_covariance for person in frame.people], (3, 3))
    scales, quaternions = (part.tolist() for part in ellipsoids(covariances))
    markers = []
    for i, person in enumerate(frame.people):
        alpha = _COASTED_ALPHA if person.state == "coasted" else 1.0
        number, joints, position = frame.numbers[i], frame.joints[i], frame.positions[i]
        velocity = None if person.velocity is None else np.asarray(person.velocity)
        markers += [
            _skeleton(maker, number, joints, alpha),
            _name(maker, number, joints[_HEAD], alpha),
            _ellipsoid(maker, number, position, (scales[i], quaternions[i])),
        ]
        if velocity is not None:
            markers.append(_arrow(maker, number, np.stack([position, position + velocity]), alpha))
    now = shown_markers(markers)
    markers += deletions(maker, shown - now)
    return maker.array(markers), now


def shown_markers(markers: Iterable[Any]) -> Shown:
    """What added markers show."""
    return frozenset((marker.ns, marker.id) for marker in markers)


def deletions(maker: MarkerMaker, gone: Shown) -> list[Any]:
    """Markers that take the others away, in a fixed order."""
    return [maker.deleted(ns, number) for ns, number in sorted(gone)]


def ellipsoids(covariances: Array) -> tuple[Array, Array]:
    """Axes of ellipsoids that hold 68 % of a Gaussian.

    Args:
        covariances: (N, 3, 3) [m^2].

    Returns:
        (N, 3) diameters [m] and (N, 4) quaternions x, y, z, w of their axes.
    """
    variances, axes = np.linalg.eigh(covariances)
    axes[..., 0] *= np.linalg.det(axes)[:, None]  # a rotation, never a reflection
    diameters = 2 * ELLIPSOID_SIGMAS * np.sqrt(np.maximum(variances, 0))
    return np.maximum(diameters, _SHORTEST), Rotation.from_matrix(axes).as_quat()


def _skeleton(maker: MarkerMaker, number: int, joints: Array, alpha: float) -> Any:
    points = points_message(maker.types, joints[_BONES].reshape(-1, 3))
    scale = (_BONE_WIDTH, 0.0, 0.0)
    return maker.marker("skeleton", number, maker.cls.LINE_LIST, scale, points=points, alpha=alpha)


def _name(maker: MarkerMaker, number: int, head: Array, alpha: float) -> Any:
    """Above the head: the camera's y axis points down."""
    x, y, z = head.tolist()
    pose = pose_message(maker.types, (x, y - _TEXT_ABOVE, z), IDENTITY)
    scale = (0.0, 0.0, _TEXT_HEIGHT)
    kind = maker.cls.TEXT_VIEW_FACING
    return maker.marker("name", number, kind, scale, pose=pose, text=str(number), alpha=alpha)


def _arrow(maker: MarkerMaker, number: int, ends: Array, alpha: float) -> Any:
    points = points_message(maker.types, ends)
    return maker.marker("velocity", number, maker.cls.ARROW, _ARROW, points=points, alpha=alpha)


def _ellipsoid(
    maker: MarkerMaker, number: int, centre: Array, axes: tuple[list[float], list[float]]
) -> Any:
    (x, y, z), quaternion = axes
    pose = pose_message(maker.types, centre.tolist(), quaternion)
    kind = maker.cls.SPHERE
    return maker.marker("covariance", number, kind, (x, y, z), pose=pose, alpha=_ELLIPSOID_ALPHA)
