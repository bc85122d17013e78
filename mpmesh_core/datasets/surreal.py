"""datasets.surreal: SURREAL, one rendered SMPL person in front of a photo.

In   SURREAL/cmu/train/run0/01_01/01_01_c0001_info.mat (also in data/) and the .mp4 beside it
Out  2D and 3D `smpl24`, SMPL; boxes around the joints

The camera is Blender's: f = 600 px, 320 x 240, centre at (160, 120) from the first pixel's corner,
so (159.5, 119.5) here; 2D labels, rounded to whole pixels, move by half a pixel too. Blender's
camera matrix has determinant -1: the pictures show the people in a mirror, where a left hand is on
a right arm. The records speak of the person that the picture shows: sides are swapped, and the
pose is mirrored with them. Betas stay, as SMPL's shapes are all but symmetric.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from mpmesh_core.camera import Camera
from mpmesh_core.datasets.boxes import keypoint_box
from mpmesh_core.datasets.catalogue import dataset_info
from mpmesh_core.datasets.files import finite, home, need, read_mat, variable
from mpmesh_core.datasets.record import FrameRecord, PersonRecord, Picture, SmplLabel
from mpmesh_core.joints import SMPL_FLIP
from mpmesh_core.types import Array

INFO = dataset_info("surreal")
WIDTH, HEIGHT, FOCAL = 320, 240, 600.0
CAMERA = Camera(
    np.array([[FOCAL, 0, (WIDTH - 1) / 2], [0, FOCAL, (HEIGHT - 1) / 2], [0, 0, 1]]),
    np.zeros(0),
    "none",
    WIDTH,
    HEIGHT,
)
_WORLD_TO_CAMERA = np.array([[0.0, 0, -1], [0, 1, 0], [-1, 0, 0]])  # determinant -1: the mirror
_MIRROR = np.diag([-1.0, 1.0, 1.0])
_UPRIGHT = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # SMPL's y up to Blender's z up
_SIZES = {"pose": 72, "shape": 10}


def read(root: Path, split: str) -> Iterator[FrameRecord]:
    """Frames of all runs, clip by clip."""
    folder = need(INFO, home(INFO, root, "cmu", "data/cmu") / split)
    paths = sorted(folder.glob("run*/*/*_info.mat"))
    for path in paths or [need(INFO, folder / "run0" / "01_01" / "01_01_c0001_info.mat")]:
        yield from _clip(path)


def _clip(path: Path) -> Iterator[FrameRecord]:
    content = read_mat(INFO, path)
    stored = {name: variable(INFO, path, content, name) for name in ("joints2D", "joints3D")}
    if getattr(stored["joints2D"], "ndim", 0) == 2:  # clips of one frame lose their last axis
        stored = {name: values[..., None] for name, values in stored.items()}
    pixels = finite(INFO, path, (2, 24, -1), stored["joints2D"])
    frames = pixels.shape[-1]
    joints = finite(INFO, path, (3, 24, frames), stored["joints3D"])
    pose, shape = (
        finite(INFO, path, (size, frames), variable(INFO, path, content, name))
        for name, size in _SIZES.items()
    )
    eye = finite(INFO, path, (3, 1), variable(INFO, path, content, "camLoc"))[:, 0]
    turn = finite(INFO, path, (frames, 1), variable(INFO, path, content, "zrot"))[:, 0]
    gender = finite(INFO, path, (frames, 1), variable(INFO, path, content, "gender"))[:, 0]
    video = need(INFO, path.with_name(path.name.replace("_info.mat", ".mp4")))
    swapped = list(SMPL_FLIP)
    seen = ((joints.transpose(2, 1, 0) - eye) @ _WORLD_TO_CAMERA.T)[:, swapped]  # (F, 24, 3)
    for number in range(frames):
        px = pixels[:, swapped, number].T - 0.5
        points2d = np.column_stack((px, np.ones(24))).astype(np.float32)
        person = PersonRecord(
            box=keypoint_box(points2d),
            points2d={"smpl24": points2d},
            points3d={"smpl24": np.column_stack((seen[number], np.ones(24))).astype(np.float32)},
            smpl=SmplLabel(
                global_orient=_root(pose[:3, number], turn[number]),
                body_pose=_mirrored(pose[:, number])[3:],
                betas=shape[:, number],
                transl=np.full(3, np.nan),
                gender="male" if gender[number] else "female",
                pelvis=seen[number, 0],
            ),
            identity=0,
        )
        yield FrameRecord(
            dataset=INFO.name,
            sequence="/".join(path.parts[-4:-1]) + "/" + path.stem.removesuffix("_info"),
            number=number,
            picture=Picture(video, number),
            width=WIDTH,
            height=HEIGHT,
            people=(person,),
            camera=CAMERA,
        )


def _root(vector: Array, turn: float) -> Array:
    """Axis-angle (3,) of the mirrored person's pelvis in the camera frame."""
    spin = cv2.Rodrigues(np.array([0.0, 0.0, turn]))[0]
    world = _UPRIGHT @ spin @ cv2.Rodrigues(np.ascontiguousarray(vector))[0]
    return cv2.Rodrigues(_WORLD_TO_CAMERA @ world @ _MIRROR)[0].ravel()


def _mirrored(pose: Array) -> Array:
    """Axis-angles (72,) of the left-right mirrored body: sides swapped, y and z negated."""
    return (pose.reshape(24, 3)[list(SMPL_FLIP)] * (1, -1, -1)).ravel()
