"""datasets.agora: AGORA, rendered scans of people with SMPL truth; for evaluation.

In   data frames "with SMPL joints and vertices" (SPLIT_*_withjv.pkl) anywhere in AGORA/, and
     the pictures (.png, 3840 x 2160 or 1280 x 720), likewise
Out  FrameRecords: 24 SMPL joints in 2D and 3D, meshes (6890, 3), occlusion, children, camera

Pixels are those of the pictures at hand; 3840 x 2160 where there are none. Boxes go around all
keypoints that the data frame holds. The camera follows from the picture's name, as officially.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mpmesh_core.camera import Camera
from mpmesh_core.datasets.boxes import tight_boxes
from mpmesh_core.datasets.catalogue import dataset_info
from mpmesh_core.datasets.files import home, need, package, reading, variable
from mpmesh_core.datasets.pictures import picture_size
from mpmesh_core.datasets.record import FrameRecord, PersonRecord, Picture
from mpmesh_core.types import Array

INFO = dataset_info("agora")
WIDTH, HEIGHT = 3840, 2160  # [px] of the pictures that 2D labels are given in
_SENSOR_MM = 36.0  # width
_SMALL = "_1280x720"
_COLUMNS = ("imgPath", "isValid", "occlusion", "kid", "gt_joints_2d", "gt_joints_3d", "gt_verts")


def read(root: Path, split: str) -> Iterator[FrameRecord]:
    """All pictures of a split; the truth of the test split isn't published."""
    folder = home(INFO, root)
    tables = [
        path
        for path in sorted(folder.rglob(f"{split}_*withjv.pkl"))
        if not any("smplx" in part.lower() for part in path.relative_to(folder).parts)
    ]
    pictures = {path.name: path for path in folder.rglob("*.png")}
    for path in tables or [need(INFO, folder / f"{split}_0_withjv.pkl")]:
        yield from _table(path, folder, pictures)


def picture_stem(name: str) -> str:
    """Name of a picture without folder, ending and mark of its size."""
    return Path(name).stem.removesuffix(_SMALL)


def _table(path: Path, folder: Path, pictures: dict[str, Path]) -> Iterator[FrameRecord]:
    pandas = package("pandas", extra="evaluation")
    with reading(INFO, path):
        frame = pandas.read_pickle(path)
        if not isinstance(frame, pandas.DataFrame):
            raise TypeError(f"{type(frame).__name__}, not a data frame")
    for name in _COLUMNS:
        variable(INFO, path, frame, name)
    sequence = path.stem.removesuffix("_withjv")
    for number in range(len(frame)):
        with reading(INFO, path):
            record = _record(frame.iloc[number], sequence, number, folder, pictures)
        yield record


def _record(
    row: Any, sequence: str, number: int, folder: Path, pictures: dict[str, Path]
) -> FrameRecord:
    name = Path(str(row["imgPath"])).name
    path = pictures.get(name) or pictures.get(f"{picture_stem(name)}{_SMALL}.png") or folder / name
    width, height = picture_size(
        path, absent=(1280, 720) if path.stem.endswith(_SMALL) else (WIDTH, HEIGHT)
    )
    scale = width / WIDTH
    people = tuple(_person(row, index, scale) for index in range(len(row["isValid"])))
    camera = _camera(name, width, height)
    return FrameRecord(INFO.name, sequence, number, Picture(path), width, height, people, camera)


def _person(row: Any, index: int, scale: float) -> PersonRecord:
    pixels = scale * _points(row["gt_joints_2d"][index], 2)
    joints = _points(row["gt_joints_3d"][index], 3)
    if len(pixels) < 24 or len(joints) < 24:
        raise ValueError(f"person {index} has fewer than SMPL's 24 joints")
    ones = np.ones((24, 1))
    return PersonRecord(
        box=tight_boxes(pixels),  # float64: IoU is cut at 0.1
        points2d={"smpl24": np.concatenate([pixels[:24], ones], axis=1)},
        points3d={"smpl24": np.concatenate([joints[:24], ones], axis=1)},
        valid=bool(row["isValid"][index]),
        vertices=_points(row["gt_verts"][index], 3),
        occlusion=float(row["occlusion"][index]),
        kid=bool(row["kid"][index]),
    )


def _points(values: Any, size: int) -> Array:
    return np.asarray(values, np.float64).reshape(-1, size)


def _camera(name: str, width: int, height: int) -> Camera:
    """Focal length by scene: 50 mm (hdri), 18 mm (the four indoor cameras), else 28 mm."""
    if "hdri" in name:
        focal = 50.0
    elif any(f"cam0{number}" in name for number in range(4)):
        focal = 18.0
    else:
        focal = 28.0
    f = focal / _SENSOR_MM * width
    K = np.array([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1]])
    return Camera(K, np.zeros(0), "none", width, height)
