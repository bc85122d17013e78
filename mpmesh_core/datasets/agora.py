"""datasets.agora: AGORA, rendered scans of people with SMPL truth; for evaluation.

In   data frames "with SMPL joints and vertices" (SPLIT_*_withjv.pkl) anywhere under ROOT, and
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
from mpmesh_core.datasets.record import FrameRecord, PersonRecord, Picture
from mpmesh_core.datasets.truth_files import home, needed
from mpmesh_core.errors import InputError, MissingPackageError
from mpmesh_core.types import Array

NAME = "agora"
FOLDER = "AGORA"
PAGE = "https://agora.is.tue.mpg.de"
WIDTH, HEIGHT = 3840, 2160
SENSOR_MM = 36.0  # width
SMALL = "_1280x720"
COLUMNS = ("imgPath", "isValid", "occlusion", "kid", "gt_joints_2d", "gt_joints_3d", "gt_verts")


def read(root: Path, split: str = "validation") -> Iterator[FrameRecord]:
    """All pictures of a split.

    Args:
        root: folder that holds the data frames and the pictures, or the one that holds it as
            AGORA.
        split: validation or train (truth of the test split isn't published).

    Raises:
        MissingFileError: no data frame.
        InputError: one that cannot be read or holds no SMPL joints and vertices.
        MissingPackageError: pandas isn't installed.
    """
    root = home(root, FOLDER)
    needed(root, "AGORA's folder", PAGE)
    tables = [
        path
        for path in sorted(root.rglob(f"{split}_*withjv.pkl"))
        if not any("smplx" in part.lower() for part in path.relative_to(root).parts)
    ]
    if not tables:
        what = 'a data frame "with SMPL joints and vertices"'
        needed(root / f"{split}_0_withjv.pkl", what, PAGE)
    pictures = {path.name: path for path in root.rglob("*.png")}
    for path in tables:
        yield from _table(path, pictures)


def picture_stem(name: str) -> str:
    """Name of a picture without folder, ending and mark of its size."""
    return Path(name).stem.removesuffix(SMALL)


def _table(path: Path, pictures: dict[str, Path]) -> Iterator[FrameRecord]:
    frame = _read_frame(path)
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise InputError(
            f"{path} has no column '{missing[0]}': the data frame with SMPL joints and vertices "
            f"is needed, from {PAGE}"
        )
    for number in range(len(frame)):
        row = frame.iloc[number]
        try:
            yield _record(row, path.stem.removesuffix("_withjv"), number, pictures)
        except (ValueError, IndexError, TypeError) as error:
            raise InputError(f"{path}, row {number}: {error}") from None


def _read_frame(path: Path) -> Any:
    try:
        import pandas
    except ImportError:
        raise MissingPackageError(
            "AGORA's data frames need the package pandas: pip install 'mpmesh[evaluation]'"
        ) from None
    try:
        frame = pandas.read_pickle(path)
    except Exception as error:  # of many kinds, on damaged bytes
        raise InputError(f"{path} is no readable pandas data frame: {error}") from None
    if not isinstance(frame, pandas.DataFrame):
        raise InputError(f"{path} holds a {type(frame).__name__}, not a pandas data frame")
    return frame


def _record(row: Any, sequence: str, number: int, pictures: dict[str, Path]) -> FrameRecord:
    name = Path(str(row["imgPath"])).name
    small = Path(name).stem.removesuffix(SMALL) + SMALL + ".png"
    path = pictures.get(name) or pictures.get(small) or Path(name)
    width, height = _size(path)
    scale = width / WIDTH
    people = tuple(_person(row, index, scale) for index in range(len(row["isValid"])))
    camera = _camera(name, width, height)
    return FrameRecord(NAME, sequence, number, Picture(path), width, height, people, camera)


def _person(row: Any, index: int, scale: float) -> PersonRecord:
    pixels = scale * _points(row["gt_joints_2d"][index], 2)
    joints = _points(row["gt_joints_3d"][index], 3)
    if len(pixels) < 24 or len(joints) < 24:
        raise ValueError(f"person {index} has {len(pixels)} joints, 24 of SMPL are needed")
    ones = np.ones((24, 1))
    return PersonRecord(
        box=np.concatenate([pixels.min(0), pixels.max(0)]),  # float64: IoU is cut at 0.1
        points2d={"smpl24": np.concatenate([pixels[:24], ones], axis=1)},
        points3d={"smpl24": np.concatenate([joints[:24], ones], axis=1)},
        identity=index,
        valid=bool(row["isValid"][index]),
        vertices=_points(row["gt_verts"][index], 3),
        occlusion=float(row["occlusion"][index]),
        kid=bool(row["kid"][index]),
    )


def _points(values: Any, size: int) -> Array:
    return np.asarray(values, np.float64).reshape(-1, size)


def _size(path: Path) -> tuple[int, int]:
    """As a PNG's header says; by the name where there is no picture."""
    if not path.is_file():
        return (1280, 720) if path.stem.endswith(SMALL) else (WIDTH, HEIGHT)
    with path.open("rb") as file:
        header = file.read(24)
    if header[:4] != b"\x89PNG" or len(header) < 24:
        raise ValueError(f"picture {path} is no PNG")
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


def _camera(name: str, width: int, height: int) -> Camera:
    """Focal length by scene: 50 mm (hdri), 18 mm (the four indoor cameras), else 28 mm."""
    if "hdri" in name:
        focal = 50.0
    elif any(f"cam0{number}" in name for number in range(4)):
        focal = 18.0
    else:
        focal = 28.0
    f = focal / SENSOR_MM * width
    K = np.array([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1]])
    return Camera(K, np.zeros(0), "none", width, height)
