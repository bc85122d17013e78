"""messages.frame: what the messages of one frame are made from, computed once for all of them.

In   a FrameResult, the header of its picture, the body
Out  MessageFrame: who is there, their numbers, body axes and meshes; camera optical frame, metres
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial.transform import Rotation

from mpmesh_core.body import BodyModel
from mpmesh_core.drawing import person_vertices
from mpmesh_core.joints import SMPL_JOINTS
from mpmesh_core.sources.frames import Header
from mpmesh_core.types import Array, FrameResult, Person

R_SMPL_BODY = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
"""Axes of REP 155 (x front, y left, z up) in those of SMPL (x left, y up, z front), as columns."""

_SMPL_FROM_BODY = Rotation.from_matrix(R_SMPL_BODY)
STILL = np.zeros(3)  # velocity of those whose velocity isn't known [m/s]
_HIPS = [SMPL_JOINTS.index("left_hip"), SMPL_JOINTS.index("right_hip")]


@dataclass(frozen=True)
class MessageFrame:
    """One frame on its way into messages; N people are there (all but those lost in it)."""

    header: Header
    result: FrameResult
    body: BodyModel
    picture: Array | None = None  # (H, W, 3) uint8 RGB, the people drawn; for the overlay

    @cached_property
    def people(self) -> list[Person]:
        """The N people who are there: seen, or expected (`coasted`)."""
        return [person for person in self.result.people if person.state != "lost"]

    @cached_property
    def numbers(self) -> list[int]:
        """N numbers to tell people apart: track ids, or places in the list without tracking."""
        return [
            person.track_id if person.track_id >= 0 else index
            for index, person in enumerate(self.people)
        ]

    @cached_property
    def vertices(self) -> list[Array]:
        """N meshes (V, 3) float32 [m], posed here where people carry none."""
        return person_vertices(self.body, self.people)

    @cached_property
    def joints(self) -> Array:
        """(N, 24, 3) float64 [m]."""
        return stacked([person.joints for person in self.people], (24, 3))

    @cached_property
    def positions(self) -> Array:
        """(N, 3) filtered pelvises [m]."""
        return stacked([person.position for person in self.people], (3,))

    @cached_property
    def velocities(self) -> Array:
        """(N, 3) [m/s], zero where they aren't known."""
        rows = [STILL if p.velocity is None else p.velocity for p in self.people]
        return stacked(rows, (3,))

    @cached_property
    def body_origins(self) -> Array:
        """(N, 3) [m] between the hips, moved with the filtered pelvis: the origin of REP 155."""
        return self.positions + self.joints[:, _HIPS].mean(1) - self.joints[:, 0]

    @cached_property
    def body_axes(self) -> Rotation:
        """N rotations from REP 155 body axes (x front, y left, z up) to the camera's."""
        return body_axes(self.people)

    @cached_property
    def body_quaternions(self) -> list[list[float]]:
        """`body_axes` as N quaternions x, y, z, w."""
        return self.body_axes.as_quat().tolist()


def body_axes(people: list[Person]) -> Rotation:
    """Rotations from REP 155 body axes to the camera's, one a person."""
    rotvecs = stacked([person.global_orient for person in people], (3,))
    return Rotation.from_rotvec(rotvecs) * _SMPL_FROM_BODY


def stacked(rows: list[Array], shape: tuple[int, ...]) -> Array:
    """(N, *shape) float64, also for N = 0."""
    return np.array(rows, np.float64).reshape(-1, *shape)
