"""predictions.found: what a method found in one picture, whatever file it comes from.

Joints are kept by convention: `smpl24`, `mpi17` (MuPoTS), `h36m17` (as results.jsonl) and
`h36m_rows`, the 17 rows of SMPL's J_regressor_h36m in the file's own order, left leg first.
Camera optical frame, metres, pixels of the picture that the truth is of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mpmesh_core.body import BodyModel
from mpmesh_core.body.files import H36M_FILE
from mpmesh_core.camera import Camera
from mpmesh_core.datasets.agora import picture_stem
from mpmesh_core.datasets.boxes import tight_boxes
from mpmesh_core.datasets.conventions import MPI17
from mpmesh_core.datasets.record import FrameRecord
from mpmesh_core.drawing import person_vertices
from mpmesh_core.errors import InputError
from mpmesh_core.joints import H36M_JOINTS
from mpmesh_core.types import UNSEEN, Array, Person

_NEAREST = {"neck": "thorax", "head": "nose"}
MPI17_OF_H36M = tuple(H36M_JOINTS.index(_NEAREST.get(name, name)) for name in MPI17)
"""MuPoTS' joints in terms of Human3.6M's, which has no neck and no middle of the head."""


@dataclass(frozen=True)
class Found:
    """The P people of one picture; left out what the method didn't give."""

    count: int  # P
    joints: Mapping[str, Array] = field(default_factory=dict)  # convention -> (P, J, 3) [m]
    points: Mapping[str, Array] = field(default_factory=dict)  # convention -> (P, J, 2) [px]
    boxes: Array | None = None  # (P, 4) around all 2D points [px]
    vertices: Array | None = None  # (P, V, 3) [m]
    transl: Array | None = None  # (P, 3) [m] SMPL translation that the vertices contain
    identity: Array | None = None  # (P,) int64, whom of the truth each is meant to be
    source: str = "the method"  # what a complaint calls it: the file, where it comes from one

    def need_joints(self, convention: str) -> Array:
        """Joints (P, J, 3) [m].

        Raises:
            InputError: the method gave none of this convention.
        """
        if convention not in self.joints:
            raise InputError(f"{self.source} gives no {convention} joints in 3D")
        return self.joints[convention]

    def need_points(self, convention: str) -> Array:
        """Points (P, J, 2) [px].

        Raises:
            InputError: the method gave none of this convention.
        """
        if convention not in self.points:
            raise InputError(f"{self.source} gives no {convention} joints in 2D")
        return self.points[convention]

    def need_vertices(self) -> Array:
        """Meshes (P, V, 3) [m].

        Raises:
            InputError: the method gave none.
        """
        if self.vertices is None:
            raise InputError(f"{self.source} gives no meshes, and no SMPL parameters")
        return self.vertices


Find = Callable[[FrameRecord], Found]

NOBODY = Found(0)


def frame_name(dataset: str, path: Path | str) -> str:
    """What a picture is called in predictions, by its path: `SEQUENCE/NUMBER`, AGORA's by stem.

    Example:
        >>> frame_name("mupots", "data/TS3/img_000012.jpg")
        'TS3/12'
        >>> frame_name("agora", "validation/ag_scene_00001_1280x720.png")
        'ag_scene_00001'
    """
    path = Path(str(path))
    if dataset == "agora":
        return picture_stem(path.name)
    number = re.search(r"(\d+)$", path.stem)
    return f"{path.parent.name}/{int(number.group()) if number else path.stem}"


def found_people(
    people: Sequence[Person],
    camera: Camera | None,
    body: BodyModel | None = None,
    identity: Sequence[int] | None = None,
) -> Found:
    """People of results.jsonl or of the pipeline.

    Args:
        people: of one frame; who is only expected (coasted) or lost is left out.
        camera: projects the joints; without it there are no 2D points but SMPL's.
        body: poses meshes where given.
        identity: whom of the truth each is meant to be.
    """
    kept = [i for i, person in enumerate(people) if person.state not in UNSEEN]
    seen = [people[i] for i in kept]
    if not seen:
        return NOBODY
    h36m = np.stack([person.h36m for person in seen]).astype(np.float64)
    joints = {
        "smpl24": np.stack([person.joints for person in seen]).astype(np.float64),
        "h36m17": h36m,
        "h36m_rows": h36m[:, H36M_FILE],  # swapping the legs is its own reverse
        "mpi17": h36m[:, MPI17_OF_H36M],
    }
    points = {"smpl24": np.stack([person.joints_2d for person in seen]).astype(np.float64)}
    if camera is not None:
        points["mpi17"] = camera.project(joints["mpi17"])
    return Found(
        count=len(seen),
        joints=joints,
        points=points,
        boxes=tight_boxes(points["smpl24"]),
        vertices=None if body is None else np.stack(person_vertices(body, seen)),
        transl=np.stack([person.transl for person in seen]).astype(np.float64),
        identity=None if identity is None else np.array([identity[i] for i in kept], np.int64),
    )
