"""datasets.threedpw: 3DPW, outdoor people with IMU-fitted SMPL bodies; for evaluation.

In   3DPW/sequenceFiles/{train,validation,test}/SEQUENCE.pkl, imageFiles/SEQUENCE/image_00000.jpg
Out  FrameRecords: SMPL parameters in the camera frame, 24 joints, 18 OpenPose points, camera

People are labelled in world coordinates and turned into the frame of the frame's camera pose.
`valid` is campose_valid. The box is that of the 2D points, NaN where fewer than two were seen.
Without pictures, their size is taken to be twice the principal point.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from mpmesh_core.camera import Camera
from mpmesh_core.datasets.boxes import keypoint_box
from mpmesh_core.datasets.catalogue import dataset_info
from mpmesh_core.datasets.files import home, need, read_pickle, reading, variable
from mpmesh_core.datasets.pictures import picture_size
from mpmesh_core.datasets.record import FrameRecord, Gender, PersonRecord, Picture, SmplLabel
from mpmesh_core.types import Array

INFO = dataset_info("3dpw")
_KEYS = (
    "sequence", "poses", "betas", "trans", "poses2d", "jointPositions", "genders",
    "cam_intrinsics", "cam_poses", "campose_valid",
)  # fmt: skip
_GENDERS: dict[str, Gender] = {"m": "male", "f": "female"}


def read(root: Path, split: str) -> Iterator[FrameRecord]:
    """All frames of a split, sequence by sequence."""
    folder = home(INFO, root)
    labels = need(INFO, folder / "sequenceFiles" / split)
    for path in sorted(labels.glob("*.pkl")) or [need(INFO, labels / "*.pkl")]:
        stored = read_pickle(INFO, path)
        content = {key: variable(INFO, path, stored, key) for key in _KEYS}
        with reading(INFO, path):
            yield from _frames(content, folder)


def _frames(content: dict[str, Any], folder: Path) -> Iterator[FrameRecord]:
    name = str(content["sequence"])
    poses = np.asarray(content["cam_poses"], np.float64).reshape(-1, 4, 4)
    pictures = folder / "imageFiles" / name
    K = np.asarray(content["cam_intrinsics"], np.float64).reshape(3, 3)
    middle = round(2 * K[0, 2]), round(2 * K[1, 2])
    width, height = picture_size(pictures / "image_00000.jpg", absent=middle)
    camera = Camera(K, np.zeros(0), "none", width, height)
    for number, world_to_camera in enumerate(poses):
        people = tuple(
            _person(content, person, number, world_to_camera)
            for person in range(len(content["poses"]))
        )
        picture = Picture(pictures / f"image_{number:05d}.jpg")
        yield FrameRecord(
            INFO.name, name, number, picture, width, height, people, camera, complete=False
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
    seen = (points[:, 2] > 0).sum() >= 2
    return PersonRecord(
        box=keypoint_box(points, grow=0) if seen else np.full(4, np.nan, np.float32),
        points2d={"openpose18": points},
        points3d={"smpl24": np.concatenate([joints_cam, np.ones((24, 1))], axis=1)},
        smpl=smpl,
        identity=person,
        valid=bool(np.asarray(content["campose_valid"][person])[number]),
    )
