"""datasets.record: what every data set hands on: frames, each with its labelled people.

Labels stay in their data set's own convention of joints (`datasets.conventions` names them);
nothing is guessed or converted here but units and frames, which are those of all of MPMesh: metres,
radians, camera optical frame (x right, y down, z forward), pixels with the centre of the first
pixel at (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mpmesh_core.camera import Camera
from mpmesh_core.types import Array

Gender = Literal["neutral", "male", "female"]


@dataclass(frozen=True)
class Picture:
    """Where a picture lies; nothing is read before it is needed."""

    path: Path  # of an image file or a video
    frame: int | None = None  # index in the video; None for an image file


@dataclass(frozen=True)
class SmplLabel:
    """A body as SMPL parameters.

    A set that gives the pelvis rather than `transl` (which needs the licensed body to derive) has
    `pelvis` and a `transl` of NaN.
    """

    global_orient: Array  # (3,) axis-angle, camera frame
    body_pose: Array  # (69,) axis-angle
    betas: Array  # (10,)
    transl: Array  # (3,) [m], camera frame; pelvis = transl + J0(betas)
    gender: Gender = "neutral"
    pelvis: Array | None = None  # (3,) [m], camera frame, where the set gives it
    shape_known: bool = True  # False where betas stand for no measured shape
    body: Literal["smpl", "open"] = "smpl"  # whose parameters these are


@dataclass(frozen=True)
class PersonRecord:
    """One labelled person."""

    box: Array  # (4,) float32 x1, y1, x2, y2 [px]
    points2d: dict[str, Array] = field(default_factory=dict)  # convention -> (K, 3) u, v, weight
    points3d: dict[str, Array] = field(default_factory=dict)
    """Convention -> (K, 4) x, y, z [m] in the camera frame, weight (0 = not labelled)."""
    smpl: SmplLabel | None = None
    identity: int | None = None  # the same within a sequence
    valid: bool = True  # counts in the data set's evaluation
    crowd: bool = False  # the box holds several people
    vertices: Array | None = None  # (V, 3) [m], camera frame, where the data set stores meshes
    occlusion: float | None = None  # [%] of the person that is hidden, where the data set tells
    kid: bool = False


@dataclass(frozen=True)
class FrameRecord:
    """One picture with its people."""

    dataset: str  # name on the command line, such as "3dpw"
    sequence: str
    number: int  # of the frame in its sequence
    picture: Picture
    width: int  # [px]
    height: int  # [px]
    people: tuple[PersonRecord, ...]
    camera: Camera | None = None  # None where the data set gives none
    complete: bool = True  # False where unlabelled people may be in the picture
