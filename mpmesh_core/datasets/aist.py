"""datasets.aist: AIST++, one dancer, nine cameras.

In   AIST++/cameras/setting1.json and mapping.txt, keypoints3d/SEQ.pkl (`keypoints3d_optim`,
     frames x 17 x 3 cm, world axes), motions/SEQ.pkl (SMPL), splits/pose_train.txt,
     ignore_list.txt (also in aist_plusplus_final/ or annotations/), videos/*.mp4
Out  3D `coco17`; SMPL pose where there is a motion; boxes around the projected joints

Cameras are OpenCV's (rotation vector, translation in cm, five distortion coefficients, pixels from
0). The bodies are the mean male SMPL, scaled, so their pose is known and their shape is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mpmesh_core.camera import Camera
from mpmesh_core.datasets.boxes import keypoint_box
from mpmesh_core.datasets.catalogue import dataset_info
from mpmesh_core.datasets.files import (
    home,
    need,
    read_json,
    read_lines,
    read_pickle,
    reading,
    variable,
)
from mpmesh_core.datasets.record import FrameRecord, PersonRecord, Picture, SmplLabel
from mpmesh_core.types import Array

INFO = dataset_info("aist")
_CM = 100.0
_MALE_PELVIS = np.array([-0.00217368, -0.24078917, 0.02858379])  # [m] J0 of the mean male SMPL


def read(root: Path, split: str) -> Iterator[FrameRecord]:
    """Frames of all cameras whose video is there, sequence by sequence."""
    outer = home(INFO, root)
    folder = home(INFO, root, "aist_plusplus_final", "annotations")
    videos = need(INFO, outer / "videos", folder / "videos")
    mapping = folder / "cameras" / "mapping.txt"
    with reading(INFO, mapping):
        settings = dict(line.split() for line in read_lines(INFO, mapping))
    ignored = set(read_lines(INFO, folder / "ignore_list.txt"))
    any_video = False
    for sequence in read_lines(INFO, folder / "splits" / f"pose_{split}.txt"):
        views = sorted(videos.glob(f"{sequence.replace('cAll', 'c*')}.mp4"))
        any_video = any_video or bool(views)
        if sequence not in ignored and views:
            setting = need(INFO, folder / "cameras" / f"{settings.get(sequence, 'unknown')}.json")
            yield from _sequence(folder, sequence, views, _cameras(setting))
    if not any_video:
        need(INFO, videos / "gBR_sBM_c01_d04_mBR0_ch01.mp4")


def _cameras(path: Path) -> dict[str, tuple[Camera, Array, Array]]:
    """By name: intrinsics, R_cam_world (3, 3), t_cam_world (3,) [m]."""
    rows = read_json(INFO, path)
    with reading(INFO, path):
        return {row["name"]: _view(row) for row in rows}


def _view(row: dict[str, Any]) -> tuple[Camera, Array, Array]:
    D = np.array(row["distortions"], np.float64).ravel()
    camera = Camera(np.array(row["matrix"]), D, "plumb_bob", *map(int, row["size"]))
    R = cv2.Rodrigues(np.array(row["rotation"], np.float64))[0]
    return camera, R, np.array(row["translation"], np.float64).reshape(3) / _CM


def _sequence(
    folder: Path,
    sequence: str,
    videos: list[Path],
    cameras: dict[str, tuple[Camera, Array, Array]],
) -> Iterator[FrameRecord]:
    path = folder / "keypoints3d" / f"{sequence}.pkl"
    stored = variable(INFO, path, read_pickle(INFO, path), "keypoints3d_optim")
    with reading(INFO, path):
        joints = np.asarray(stored, np.float64).reshape(-1, 17, 3) / _CM
    motion = _motion(folder / "motions" / f"{sequence}.pkl", len(joints))
    for video in videos:
        name = next(
            word for word in video.stem.split("_") if word[:1] == "c" and word[1:].isdigit()
        )
        with reading(INFO, video):
            camera, R, t = cameras[name]
        for number, pose in enumerate(joints @ R.T + t):
            smpl = None if motion is None else _smpl(motion[0][number], motion[1][number], R, t)
            person = _person(pose, camera, smpl)
            yield FrameRecord(
                dataset=INFO.name,
                sequence=video.stem,
                number=number,
                picture=Picture(video, number),
                width=camera.width,
                height=camera.height,
                people=() if person is None else (person,),
                camera=camera,
            )


def _person(joints: Array, camera: Camera, smpl: SmplLabel | None) -> PersonRecord | None:
    known = np.isfinite(joints).all(1)
    joints = np.where(known[:, None], joints, 0.0)
    ahead = known & (joints[:, 2] > 0)
    if ahead.sum() < 2:
        return None
    pixels = np.column_stack((camera.project(joints), ahead))
    points = np.column_stack((joints, known)).astype(np.float32)
    return PersonRecord(keypoint_box(pixels), points3d={"coco17": points}, smpl=smpl, identity=0)


def _motion(path: Path, frames: int) -> tuple[Array, Array] | None:
    """Rotations (F, 72) and pelvis (F, 3) [m, world]; None for a sequence without a motion."""
    if not path.is_file():
        return None
    content = read_pickle(INFO, path)
    with reading(INFO, path):
        poses = np.asarray(content["smpl_poses"], np.float64).reshape(frames, 72)
        scale = float(np.asarray(content["smpl_scaling"]).ravel()[0])
        transl = np.asarray(content["smpl_trans"], np.float64).reshape(frames, 3)
    return poses, (scale * _MALE_PELVIS + transl) / _CM


def _smpl(pose: Array, pelvis: Array, R: Array, t: Array) -> SmplLabel:
    root = cv2.Rodrigues(R @ cv2.Rodrigues(pose[:3])[0])[0].ravel()
    return SmplLabel(
        global_orient=root,
        body_pose=pose[3:],
        betas=np.zeros(10),
        transl=np.full(3, np.nan),
        gender="male",
        pelvis=R @ pelvis + t,
        shape_known=False,
    )
