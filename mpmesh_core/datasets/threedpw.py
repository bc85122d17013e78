"""datasets.threedpw: 3DPW, outdoor people with IMU-fitted SMPL bodies; for evaluation.

In   ROOT/sequenceFiles/{train,validation,test}/SEQUENCE.pkl, ROOT/imageFiles/SEQUENCE/image_N.jpg
Out  FrameRecords: SMPL parameters in the camera frame, 24 joints, 18 OpenPose points, camera

People are labelled in world coordinates and turned into the frame of the frame's camera pose.
`valid` is campose_valid. The box is that of the 2D points, NaN where none was seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from mpmesh_core.camera import Camera
from mpmesh_core.datasets.record import FrameRecord, Gender, PersonRecord, Picture, SmplLabel
from mpmesh_core.datasets.truth_files import home, needed, read_pickle
from mpmesh_core.errors import InputError
from mpmesh_core.types import Array

NAME = "3dpw"
FOLDER = "3DPW"
PAGE = "https://virtualhumans.mpi-inf.mpg.de/3DPW"
SPLITS = ("train", "validation", "test")
KEYS = (
    "sequence", "poses", "betas", "trans", "poses2d", "jointPositions", "genders",
    "cam_intrinsics", "cam_poses", "campose_valid",
)  # fmt: skip
_GENDERS: dict[str, Gender] = {"m": "male", "f": "female"}


def read(root: Path, split: str = "test") -> Iterator[FrameRecord]:
    """All frames of a split, sequence by sequence.

    Args:
        root: folder with sequenceFiles and imageFiles, or the one that holds it as 3DPW.
        split: train, validation or test.

    Raises:
        MissingFileError: no such folder or no sequence in it.
        InputError: a sequence file that cannot be read.
    """
    root = home(root, FOLDER)
    folder = needed(root / "sequenceFiles" / split, f"3DPW's sequence files ({split})", PAGE)
    files = sorted(folder.glob("*.pkl"))
    if not files:
        needed(folder / "*.pkl", f"3DPW's sequence files ({split})", PAGE)
    for path in files:
        yield from _sequence(path, root)


def _sequence(path: Path, root: Path) -> Iterator[FrameRecord]:
    content = read_pickle(path)
    missing = [key for key in KEYS if key not in content]
    if missing:
        raise InputError(f"{path} is no 3DPW sequence: it has no '{missing[0]}'")
    try:
        yield from _frames(content, root)
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no 3DPW sequence: {error}") from None


def _frames(content: dict[str, Any], root: Path) -> Iterator[FrameRecord]:
    name = str(content["sequence"])
    poses = np.asarray(content["cam_poses"], np.float64).reshape(-1, 4, 4)
    pictures = root / "imageFiles" / name
    K = np.asarray(content["cam_intrinsics"], np.float64).reshape(3, 3)
    width, height = _size(pictures / "image_00000.jpg", K)
    camera = Camera(K, np.zeros(0), "none", width, height)
    for number, world_to_camera in enumerate(poses):
        people = tuple(
            _person(content, person, number, world_to_camera)
            for person in range(len(content["poses"]))
        )
        picture = Picture(pictures / f"image_{number:05d}.jpg")
        yield FrameRecord(
            NAME, name, number, picture, width, height, people, camera, complete=False
        )


def _person(content: dict[str, Any], person: int, number: int, pose: Array) -> PersonRecord:
    R, t = pose[:3, :3], pose[:3, 3]
    theta = np.asarray(content["poses"][person], np.float64)[number].reshape(72)
    trans = np.asarray(content["trans"][person], np.float64)[number].reshape(3)
    joints = np.asarray(content["jointPositions"][person], np.float64)[number].reshape(24, 3)
    points = np.asarray(content["poses2d"][person], np.float64)[number].reshape(3, 18).T
    root = R @ Rotation.from_rotvec(theta[:3]).as_matrix()
    # The pelvis stands at trans + J0(betas), and J0 doesn't turn with the camera.
    rest_pelvis = joints[0] - trans
    joints_cam = joints @ R.T + t
    smpl = SmplLabel(
        global_orient=Rotation.from_matrix(root).as_rotvec(),
        body_pose=theta[3:],
        betas=np.asarray(content["betas"][person], np.float64).reshape(-1)[:10],
        transl=joints_cam[0] - rest_pelvis,
        gender=_GENDERS[str(content["genders"][person]).lower()[:1]],
    )
    seen = points[points[:, 2] > 0, :2]
    box = np.concatenate([seen.min(0), seen.max(0)]) if len(seen) else np.full(4, np.nan)
    return PersonRecord(
        box=box.astype(np.float32),
        points2d={"openpose18": points},
        points3d={"smpl24": np.concatenate([joints_cam, np.ones((24, 1))], axis=1)},
        smpl=smpl,
        identity=person,
        valid=bool(np.asarray(content["campose_valid"][person])[number]),
    )


def _size(picture: Path, K: Array) -> tuple[int, int]:
    """Width and height of a sequence's pictures; twice the principal point without pictures."""
    image = cv2.imread(str(picture)) if picture.is_file() else None
    if image is None:
        return round(2 * K[0, 2]), round(2 * K[1, 2])
    return image.shape[1], image.shape[0]
