"""datasets.panoptic: CMU Panoptic Studio, several people, up to 31 HD cameras.

In   CMU-Panoptic/SEQ/calibration_SEQ.json (K, distCoef, R, t in cm), hdPose3d_stage1_coco19/ (or
     .../hd/) body3DScene_00000000.json (`joints19` in cm and confidence, world axes),
     hdImgs/00_03/00_03_00000000.jpg or hdVideos/hd_00_03.mp4
Out  3D `panoptic19`, weight = confidence; boxes around the projected joints; identities

The lenses are distorted (plumb_bob), with pixels as OpenCV counts them, from 0. Only cameras whose
pictures are there are read. The set has no split of its own: `val` are the four sequences that the
field holds out. The people are those that the studio's own method found; hands on a camera or
people at the rim may be without labels, so `complete` is False.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mpmesh_core.camera import Camera
from mpmesh_core.datasets.boxes import keypoint_box
from mpmesh_core.datasets.catalogue import dataset_info
from mpmesh_core.datasets.files import home, need, read_json, reading
from mpmesh_core.datasets.record import FrameRecord, PersonRecord, Picture
from mpmesh_core.types import Array

INFO = dataset_info("panoptic")
HELD_OUT = ("160906_pizza1", "160422_haggling1", "160906_ian5", "160906_band4")
_CM = 100.0
_LEAST_INSIDE, _LEAST_KNOWN = 4, 8  # joints; fewer tell nothing of where the person ends


def read(root: Path, split: str) -> Iterator[FrameRecord]:
    """Frames of all cameras, sequence by sequence, moment by moment within a camera."""
    folder = home(INFO, root)
    found = sorted(p for p in folder.iterdir() if (p / f"calibration_{p.name}.json").is_file())
    if not found:
        need(INFO, folder / "171204_pose1" / "calibration_171204_pose1.json")
    for place in found:
        if (place.name in HELD_OUT) == (split == "val"):
            yield from _sequence(place)


def _sequence(folder: Path) -> Iterator[FrameRecord]:
    poses = need(INFO, folder / "hdPose3d_stage1_coco19")
    poses = poses / "hd" if (poses / "hd").is_dir() else poses
    moments = sorted(poses.glob("body3DScene_*.json")) or [need(INFO, poses / "body3DScene_*.json")]
    views = read_calibration(folder / f"calibration_{folder.name}.json")
    views = {name: view for name, view in views.items() if _pictures(folder, name)}
    if not views:
        need(INFO, folder / "hdVideos" / "hd_00_00.mp4")
    for name, (camera, R, t) in views.items():
        pictures = _pictures(folder, name)
        for path in moments:
            number = int(re.sub(r"\D", "", path.stem.removeprefix("body3DScene")) or -1)
            picture = pictures(number) if pictures else None
            if picture is None:
                continue
            people = tuple(_people(path, camera, R, t))
            yield FrameRecord(
                dataset=INFO.name,
                sequence=f"{folder.name}/{name}",
                number=number,
                picture=picture,
                width=camera.width,
                height=camera.height,
                people=people,
                camera=camera,
                complete=False,
            )


def read_calibration(path: Path) -> dict[str, tuple[Camera, Array, Array]]:
    """HD cameras by name: intrinsics, R_cam_world (3, 3), t_cam_world (3,) [m]."""
    content = read_json(INFO, path)
    with reading(INFO, path):
        return {c["name"]: _view(c) for c in content["cameras"] if c["type"] == "hd"}


def _view(c: dict[str, Any]) -> tuple[Camera, Array, Array]:
    width, height = c["resolution"]
    camera = Camera(np.array(c["K"]), np.array(c["distCoef"]), "plumb_bob", width, height)
    return camera, np.array(c["R"], np.float64).reshape(3, 3), np.array(c["t"]).reshape(3) / _CM


def _pictures(folder: Path, name: str) -> Callable[[int], Picture | None] | None:
    """Frame number to Picture; None for a camera without any."""
    images, video = folder / "hdImgs" / name, folder / "hdVideos" / f"hd_{name}.mp4"
    if images.is_dir():

        def of_file(number: int) -> Picture | None:
            stem = f"{name}_{number:08d}"
            found = (images / f"{stem}{suffix}" for suffix in (".jpg", ".png"))
            return next((Picture(path) for path in found if path.is_file()), None)

        return of_file
    return (lambda number: Picture(video, number)) if video.is_file() else None


def _people(path: Path, camera: Camera, R: Array, t: Array) -> Iterator[PersonRecord]:
    bodies = read_json(INFO, path)
    with reading(INFO, path):
        rows = [
            (int(body["id"]), np.array(body["joints19"], np.float64).reshape(19, 4))
            for body in bodies["bodies"]
        ]
    for identity, row in rows:
        joints = row[:, :3] / _CM @ R.T + t
        weight = np.clip(row[:, 3], 0, 1)
        pixels = camera.project(joints)
        size = (camera.width, camera.height)
        inside = camera.in_view(joints) & (weight > 0)
        inside &= ((pixels >= 0) & (pixels < size)).all(1)
        ahead = (joints[:, 2] > 0) & (weight > 0)
        if inside.sum() < _LEAST_INSIDE or ahead.sum() < _LEAST_KNOWN:
            continue
        known = np.column_stack((pixels, ahead))
        yield PersonRecord(
            box=keypoint_box(known, grow=0.1),
            points3d={"panoptic19": np.column_stack((joints, weight)).astype(np.float32)},
            identity=identity,
        )
