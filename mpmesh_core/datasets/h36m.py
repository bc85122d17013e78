"""datasets.h36m: Human3.6M, four cameras around one person.

In   Human3.6M/S1/MyPoseFeatures/D3_Positions_mono/Directions 1.54138969.cdf (`Pose`, 32 x 3 mm in
     the camera's frame), S1/Videos/Directions 1.54138969.mp4, metadata.xml (also in
     Release-v1.2/), and S1/MySegmentsMat/ground_truth_bb/*.mat where it was downloaded
Out  3D `h36m32`; boxes of the masks, or around the projected joints where those are missing

The lenses are distorted (plumb_bob). Principal points are pixel indices from 0, as in the
calibration toolbox that the set was made with. Three sequences of S9 are known to be 200 mm off
along the world's x axis; they are put right here, and their masks, off as well, are not used. One
video of S11 was published broken; its frames are left out.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from mpmesh_core.camera import Camera
from mpmesh_core.datasets.boxes import keypoint_box, mask_box
from mpmesh_core.datasets.catalogue import dataset_info
from mpmesh_core.datasets.files import finite, home, need, open_hdf5, read_cdf, reading
from mpmesh_core.datasets.record import FrameRecord, PersonRecord, Picture
from mpmesh_core.errors import InputError
from mpmesh_core.types import Array

INFO = dataset_info("h36m")
SUBJECTS = {"train": (1, 5, 6, 7, 8), "test": (9, 11)}
CAMERAS = {"54138969": 1002, "55011271": 1000, "58860488": 1000, "60457274": 1002}  # name: height
WIDTH = 1000  # [px]
_BROKEN = (11, "Directions.54138969")
_SHIFTED = ("SittingDown 1", "Waiting 1", "Greeting")  # of S9
_SHIFT_MM = np.array([-200.0, 0.0, 0.0])  # world axes
_EXTRINSICS = 6 * 11 * len(CAMERAS)  # numbers before the intrinsics


def read(root: Path, split: str) -> Iterator[FrameRecord]:
    """Frames of all cameras, sequence by sequence."""
    folder = home(INFO, root)
    cameras = _Cameras(need(INFO, folder / "metadata.xml", folder / "Release-v1.2/metadata.xml"))
    subjects = [number for number in SUBJECTS[split] if (folder / f"S{number}").is_dir()]
    if not subjects:
        need(INFO, folder / f"S{SUBJECTS[split][0]}")
    for number in subjects:
        poses = need(INFO, folder / f"S{number}/MyPoseFeatures/D3_Positions_mono")
        paths = sorted(p for p in poses.glob("*.cdf") if not p.name.startswith("_ALL"))
        if not paths:
            need(INFO, poses / "Directions 1.54138969.cdf")
        for path in paths:
            if (number, path.stem) != _BROKEN:
                yield from _sequence(folder / f"S{number}", number, path, cameras)


class _Cameras:
    """The numbers of metadata.xml: 4 x 11 extrinsics, then 4 intrinsics."""

    def __init__(self, path: Path) -> None:
        with reading(INFO, path):
            text = ET.parse(path).getroot().findtext("w0") or ""
            numbers = np.array([float(word) for word in text.strip().strip("[]").split()])
            self._poses = numbers[:_EXTRINSICS].reshape(len(CAMERAS), 11, 6)
            self._lenses = numbers[_EXTRINSICS:].reshape(len(CAMERAS), 9)
            self._cameras = [self._camera(i) for i in range(len(CAMERAS))]

    def _camera(self, index: int) -> Camera:
        fx, fy, cx, cy, k1, k2, k3, p1, p2 = self._lenses[index]
        K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        height = list(CAMERAS.values())[index]
        return Camera(K, np.array([k1, k2, p1, p2, k3]), "plumb_bob", WIDTH, height)

    def of(self, name: str) -> Camera:
        """The camera of a name."""
        return self._cameras[list(CAMERAS).index(name)]

    def world_to_camera(self, name: str, subject: int) -> Array:
        """(3, 3) rotation; angles about x, y, z, each about the axes that the last one left."""
        from scipy.spatial.transform import Rotation

        angles = self._poses[list(CAMERAS).index(name), subject - 1, :3]
        return Rotation.from_euler("XYZ", angles).as_matrix()


def _sequence(folder: Path, subject: int, path: Path, cameras: _Cameras) -> Iterator[FrameRecord]:
    action, _, name = path.stem.rpartition(".")
    if name not in CAMERAS:
        raise InputError(f"{INFO.title}: {path.name} names no camera ({', '.join(CAMERAS)})")
    with reading(INFO, path):
        stored = np.asarray(read_cdf(INFO, path, "Pose"), np.float64)
        joints = stored.reshape(-1, 32, 3)
    joints = finite(INFO, path, (-1, 32, 3), joints)
    shifted = subject == 9 and action in _SHIFTED
    if shifted:
        joints = joints + cameras.world_to_camera(name, subject) @ _SHIFT_MM
    video = need(INFO, folder / "Videos" / f"{path.stem}.mp4")
    masks = folder / "MySegmentsMat" / "ground_truth_bb" / f"{path.stem}.mat"
    use_masks = masks.is_file() and not shifted
    camera = cameras.of(name)
    with open_hdf5(INFO, masks) if use_masks else nullcontext() as file:
        metres = joints / 1000
        for number, (pose, pixels) in enumerate(zip(metres, camera.project(metres))):
            person = PersonRecord(
                box=_box(file, masks, number, pixels),
                points3d={"h36m32": np.column_stack((pose, np.ones(32))).astype(np.float32)},
                identity=subject,
            )
            yield FrameRecord(
                dataset=INFO.name,
                sequence=f"S{subject}/{path.stem}",
                number=number,
                picture=Picture(video, number),
                width=camera.width,
                height=camera.height,
                people=(person,),
                camera=camera,
            )


def _box(file: Any, path: Path, number: int, pixels: Array) -> Array:
    """Of the frame's mask, stored as columns; else around the joints."""
    if file is None:
        return keypoint_box(np.column_stack((pixels, np.ones(len(pixels)))), grow=0.1)
    with reading(INFO, path):
        return mask_box(np.asarray(file[file["Masks"][number, 0]]).T > 0)
