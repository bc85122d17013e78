"""messages.markers: skeletons, names, velocities and uncertainty for RViz.

In   MessageFrame, camera optical frame
Out  visualization_msgs/MarkerArray, serialised, with namespaces `skeleton` (lines), `name` (text),
     `velocity` (an arrow as long as a second leads) and `covariance` (ellipsoid of the pelvis that
     holds 68 %); ids are the people's numbers, colours those of the overlay
What was shown and no longer is gets deleted; should that message be lost, markers end by
themselves after `LIFETIME_S`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
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
from mpmesh_core.messages.templates import MessageTemplate
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
_PARTS = (6 * len(_BONES), 3, 10, 6)  # numbers of skeleton, name, ellipsoid and arrow
_SPLITS, _NUMBERS = np.cumsum(_PARTS).tolist(), sum(_PARTS)
_TEMPLATES = 16  # layouts that are remembered: people come, go and coast
NAMESPACES = ("skeleton", "name", "covariance", "velocity")
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


@dataclass(frozen=True)
class MarkerLayout:
    """Everything about the markers of a frame that isn't a length or an angle."""

    frame_id: str
    figures: tuple[tuple[int, bool, bool], ...]  # number, coasted, with a known velocity
    gone: tuple[tuple[str, int], ...]  # namespace and id of those to be deleted


class PersonMarkers:
    """Markers of everybody who is there, frame after frame, and deletions of what no longer is.

    Args:
        types: message classes.
    """

    def __init__(self, types: MessageTypes) -> None:
        self._types = types
        self._shown: Shown = frozenset()
        self._template = lru_cache(maxsize=_TEMPLATES)(self._make_template)

    def message(self, frame: MessageFrame) -> bytes:
        """A serialised visualization_msgs/MarkerArray."""
        layout, self._shown = marker_layout(frame, self._shown)
        return self._template(layout).fill(frame.header, marker_numbers(frame))

    def _make_template(self, layout: MarkerLayout) -> MessageTemplate:
        count = sum(_NUMBERS if moving else _NUMBERS - 6 for _, _, moving in layout.figures)
        make = partial(person_markers, self._types, layout)
        return MessageTemplate(self._types, make, layout.frame_id, count)


def marker_layout(frame: MessageFrame, shown: Shown) -> tuple[MarkerLayout, Shown]:
    """What has to be shown and deleted, and what is shown then."""
    figures = tuple(
        (number, person.state == "coasted", person.velocity is not None)
        for number, person in zip(frame.numbers, frame.people)
    )
    now = frozenset(
        (ns, number)
        for number, _, moving in figures
        for ns in NAMESPACES
        if moving or ns != "velocity"
    )
    return MarkerLayout(frame.header.frame_id, figures, tuple(sorted(shown - now))), now


def marker_numbers(frame: MessageFrame) -> Array:
    """(K,) every length and angle of the markers, in the order of the message."""
    people = frame.people
    moving = np.array([person.velocity is not None for person in people], bool)
    covariances = stacked([person.position_covariance for person in people], (3, 3))
    diameters, quaternions = ellipsoids(covariances)
    rows = np.concatenate(
        [
            frame.joints[:, _BONES].reshape(len(people), _PARTS[0]),
            frame.joints[:, _HEAD] - np.array([0.0, _TEXT_ABOVE, 0.0]),  # y points down
            frame.positions,
            quaternions,
            diameters,
            frame.positions,
            frame.positions + frame.velocities,
        ],
        axis=1,
    )
    kept = np.ones(rows.shape, bool)
    kept[:, -6:] = moving[:, None]
    return rows[kept]


def person_markers(
    types: MessageTypes, layout: MarkerLayout, header: Header, numbers: Array
) -> Any:
    """visualization_msgs/MarkerArray, the plain way.

    Args:
        types: message classes.
        layout: of `marker_layout`.
        header: stamp and frame.
        numbers: (K,) of `marker_numbers`.
    """
    maker = MarkerMaker(types, header)
    rest, markers = np.asarray(numbers, np.float64), []
    for number, coasted, moving in layout.figures:
        alpha = _COASTED_ALPHA if coasted else 1.0
        bones, head, ellipsoid, arrow, rest = np.split(rest, _SPLITS)
        markers += [
            _skeleton(maker, number, bones, alpha),
            _name(maker, number, head, alpha),
            _ellipsoid(maker, number, ellipsoid),
        ]
        if moving:
            markers.append(_arrow(maker, number, arrow, alpha))
        else:
            rest = np.concatenate([arrow, rest])
    return maker.array(markers + deletions(maker, layout.gone))


def deletions(maker: MarkerMaker, gone: Iterable[tuple[str, int]]) -> list[Any]:
    """Markers that take others away."""
    return [maker.deleted(ns, number) for ns, number in gone]


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


def _skeleton(maker: MarkerMaker, number: int, bones: Array, alpha: float) -> Any:
    points = points_message(maker.types, bones.reshape(-1, 3))
    scale = (_BONE_WIDTH, 0.0, 0.0)
    kind = maker.cls.LINE_LIST
    return maker.marker("skeleton", number, kind, scale, points=points, alpha=alpha)


def _name(maker: MarkerMaker, number: int, place: Array, alpha: float) -> Any:
    pose = pose_message(maker.types, place.tolist(), IDENTITY)
    scale = (0.0, 0.0, _TEXT_HEIGHT)
    kind = maker.cls.TEXT_VIEW_FACING
    return maker.marker("name", number, kind, scale, pose=pose, text=str(number), alpha=alpha)


def _ellipsoid(maker: MarkerMaker, number: int, numbers: Array) -> Any:
    """Centre, quaternion and diameters (10,)."""
    values = numbers.tolist()
    pose = pose_message(maker.types, values[:3], values[3:7])
    x, y, z = values[7:]
    kind = maker.cls.SPHERE
    return maker.marker("covariance", number, kind, (x, y, z), pose=pose, alpha=_ELLIPSOID_ALPHA)


def _arrow(maker: MarkerMaker, number: int, ends: Array, alpha: float) -> Any:
    points = points_message(maker.types, ends.reshape(-1, 3))
    return maker.marker("velocity", number, maker.cls.ARROW, _ARROW, points=points, alpha=alpha)
