"""datasets.mpi_inf_3dhp: MPI-INF-3DHP, one person, 14 cameras; and its test set.

In   train: S1/Seq1/annot.mat (`annot2`, `annot3`, `univ_annot3`: a cell a camera, frames x 56 or 84
     numbers, px or mm in the camera's frame), camera.calibration, imageSequence/video_0.avi (or
     extracted: imageSequence/img_0_000000.jpg from 0, imageFrames/video_0/frame_000001.jpg from 1)
     test: mpi_inf_3dhp_test_set/TS1/annot_data.mat (HDF5), imageSequence/img_000001.jpg from 1
Out  2D and 3D `mpi28` (train) or `mpi17` (test). `univ_annot3`, scaled to one stature, is not read
     with them: it isn't where the picture shows the person.

Pixels are taken as indices from 0, as projecting `annot3` gives `annot2`. The lenses of the train
set have no distortion, those of TS5 and TS6 do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from mpmesh_core.camera import Camera
from mpmesh_core.datasets.boxes import keypoint_box
from mpmesh_core.datasets.catalogue import dataset_info
from mpmesh_core.datasets.files import (
    finite,
    home,
    need,
    open_hdf5,
    read_lines,
    read_mat,
    reading,
    variable,
)
from mpmesh_core.datasets.record import FrameRecord, PersonRecord, Picture
from mpmesh_core.errors import InputError
from mpmesh_core.types import Array

INFO = dataset_info("mpi-inf-3dhp")
SUBJECTS, SEQUENCES = range(1, 9), range(1, 3)
_MM = 1000.0


def read(root: Path, split: str) -> Iterator[FrameRecord]:
    """Frames of all cameras whose pictures are there, sequence by sequence."""
    if split == "test":
        yield from _test(root)
        return
    folder = home(INFO, root, "mpi_inf_3dhp")
    found = [folder / f"S{s}" / f"Seq{q}" for s in SUBJECTS for q in SEQUENCES]
    found = [place for place in found if place.is_dir()] or [need(INFO, folder / "S1/Seq1")]
    for place in found:
        yield from _sequence(place)


def _sequence(folder: Path) -> Iterator[FrameRecord]:
    path = need(INFO, folder / "annot.mat")
    content = read_mat(INFO, path)
    annot2, annot3 = (variable(INFO, path, content, name) for name in ("annot2", "annot3"))
    cameras = read_calibration(need(INFO, folder / "camera.calibration"), len(annot3))
    subject = int(folder.parent.name[1:])
    any_pictures = False
    for index in range(len(annot3)):
        pictures = _pictures(folder, index)
        if pictures is None:
            continue
        any_pictures = True
        with reading(INFO, path):
            pixels = np.asarray(annot2[index, 0], np.float64).reshape(-1, 28, 2)
            joints = np.asarray(annot3[index, 0], np.float64).reshape(-1, 28, 3)
            camera = cameras[index]
        pixels = finite(INFO, path, (-1, 28, 2), pixels)
        joints = finite(INFO, path, (len(pixels), 28, 3), joints) / _MM
        sequence = f"{folder.parent.name}/{folder.name}/{index}"
        for number, (px, pose) in enumerate(zip(pixels, joints)):
            picture = pictures(number)
            if picture is not None:
                person = _person(px, pose, "mpi28", subject)
                yield _frame(sequence, number, picture, camera, person)
    if not any_pictures:
        need(INFO, folder / "imageSequence" / "video_0.avi")


def _pictures(folder: Path, camera: int) -> Callable[[int], Picture | None] | None:
    """Frame number to Picture (None where it was not extracted); None without any pictures."""
    video = folder / "imageSequence" / f"video_{camera}.avi"
    if video.is_file():
        return lambda number: Picture(video, number)
    files = _extracted(folder.glob(f"imageSequence/img_{camera}_*.jpg"), first=0)
    files = files or _extracted(folder.glob(f"imageFrames/video_{camera}/frame_*.jpg"), first=1)
    return files.get if files else None


def _extracted(paths: Iterable[Path], first: int) -> dict[int, Picture]:
    """Pictures by frame number; file names count from `first`."""
    return {int(path.stem.split("_")[-1]) - first: Picture(path) for path in paths}


def read_calibration(path: Path, count: int) -> list[Camera]:
    """Cameras of a camera.calibration file, in its order; all of them without distortion."""
    cameras, size, K = [], None, None
    with reading(INFO, path):
        for line in read_lines(INFO, path):
            word, *rest = line.split()
            if word == "size":
                size = int(rest[0]), int(rest[1])
            elif word == "intrinsic":
                K = np.array([float(n) for n in rest]).reshape(4, 4)[:3, :3]
            elif word == "radial" and size is not None and K is not None:
                cameras.append(Camera(K, np.zeros(0), "none", *size))
        if len(cameras) < count:
            raise ValueError(f"{len(cameras)} cameras instead of {count}")
    return cameras


def _person(pixels: Array, joints: Array, convention: str, identity: int) -> PersonRecord:
    ones = np.ones((len(joints), 1))
    points2d = np.concatenate((pixels, ones), 1).astype(np.float32)
    return PersonRecord(
        box=keypoint_box(points2d, grow=0.1),
        points2d={convention: points2d},
        points3d={convention: np.concatenate((joints, ones), 1).astype(np.float32)},
        identity=identity,
    )


def _frame(
    sequence: str, number: int, picture: Picture, camera: Camera, person: PersonRecord
) -> FrameRecord:
    return FrameRecord(
        dataset=INFO.name,
        sequence=sequence,
        number=number,
        picture=picture,
        width=camera.width,
        height=camera.height,
        people=(person,),
        camera=camera,
    )


def _test_camera(subject: int) -> Camera:
    """The test set's two cameras, from its calibration in millimetres on the sensor."""
    if subject <= 4:
        f, aspect, centre, sensor = 7.32506, 1.00044, (-0.0322884, 0.0929296), (10.0, 10.0)
        size, D = (2048, 2048), np.zeros(0)
    else:
        f, aspect, centre, sensor = 8.770747185, 0.993236423, (-0.104908645, 0.104899704), (
            10.0, 5.625,
        )  # fmt: skip
        D = np.array([-0.276859611, 0.131125256, -0.000360494, -0.001149441, -0.049318332])
        size = (1920, 1080)
    scale = np.array(size) / sensor * (1.0, aspect)
    cx, cy = (np.array(sensor) / 2 + centre) * scale
    K = np.array([[f * scale[0], 0, cx], [0, f * scale[1], cy], [0, 0, 1]])
    return Camera(K, D, "plumb_bob" if D.size else "none", *size)


def _test(root: Path) -> Iterator[FrameRecord]:
    folder = home(
        INFO, root, "mpi_inf_3dhp_test_set/mpi_inf_3dhp_test_set", "mpi_inf_3dhp_test_set"
    )
    found = [number for number in range(1, 7) if (folder / f"TS{number}").is_dir()]
    for number in found or [1]:
        place = need(INFO, folder / f"TS{number}")
        path = need(INFO, place / "annot_data.mat")
        with open_hdf5(INFO, path) as file:
            pixels = np.asarray(file["annot2"], np.float64).reshape(-1, 17, 2)
            joints = np.asarray(file["annot3"], np.float64).reshape(-1, 17, 3)
            valid = np.asarray(file["valid_frame"]).reshape(-1) > 0
        if not len(pixels) == len(joints) == len(valid):
            raise InputError(f"{INFO.title}: {path} has unequal numbers of frames")
        camera = _test_camera(number)
        for index in np.flatnonzero(valid):
            picture = Picture(need(INFO, place / "imageSequence" / f"img_{index + 1:06d}.jpg"))
            person = _person(pixels[index], joints[index] / _MM, "mpi17", number)
            yield _frame(f"TS{number}", int(index), picture, camera, person)
