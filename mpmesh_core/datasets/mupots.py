"""datasets.mupots: MuPoTS-3D, 20 clips of several people with markerless 3D joints; for evaluation.

In   ROOT/TS1 ... TS20, each with annot.mat, occlusion.mat and img_000000.jpg, ...
Out  FrameRecords of 17 joints: `mpi17` in 2D (annot2) and 3D (annot3), and `mpi17_univ`
     (univ_annot3, all people brought to one height), which the protocol compares with

`valid` is isValidFrame. The weight of a 2D joint is 1, or 0.5 where it is labelled as occluded.
The camera isn't part of the data set: it is fitted to annot2 and annot3 of the whole sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mpmesh_core.camera import Camera
from mpmesh_core.datasets.record import FrameRecord, PersonRecord, Picture
from mpmesh_core.datasets.truth_files import home, needed
from mpmesh_core.errors import InputError, UsageError
from mpmesh_core.types import Array

NAME = "mupots"
FOLDER = "MuPoTS-3D"
PAGE = "https://vcai.mpi-inf.mpg.de/projects/SingleShotMultiPerson"
SEQUENCES = tuple(f"TS{number}" for number in range(1, 21))
OCCLUDED = 0.5  # weight


def read(root: Path, split: str = "test") -> Iterator[FrameRecord]:
    """All frames of all 20 sequences, the only split; see `read_sequences`."""
    if split != "test":
        raise UsageError(f"MuPoTS-3D has no split {split!r}, only test")
    yield from read_sequences(root, SEQUENCES)


def read_sequences(root: Path, sequences: Sequence[str]) -> Iterator[FrameRecord]:
    """All frames of some sequences.

    Args:
        root: folder with TS1 ... TS20, or the one that holds it as MuPoTS-3D.
        sequences: names of those to read.

    Raises:
        MissingFileError: a sequence without annot.mat or occlusion.mat.
        InputError: a file that cannot be read.
    """
    root = home(root, FOLDER)
    for name in sequences:
        what = f"MuPoTS-3D's sequence {name}"
        annot = needed(root / name / "annot.mat", what, PAGE)
        occlusion = needed(root / name / "occlusion.mat", what, PAGE)
        people = read_cells(annot, "annotations")
        labels = read_cells(occlusion, "occlusion_labels")
        if labels.shape != people.shape:
            raise InputError(
                f"{occlusion} has labels for {labels.shape} frames and people, "
                f"{annot.name} for {people.shape}"
            )
        try:
            yield from _sequence(root / name, people, labels)
        except (ValueError, AttributeError, TypeError, IndexError) as error:
            raise InputError(f"{annot} is no MuPoTS-3D annotation: {error}") from None


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a .mat file of version 7 or older.

    Raises:
        InputError: another file, or a newer version.
    """
    from scipy.io import loadmat

    try:
        return loadmat(str(path), struct_as_record=False)
    except NotImplementedError:
        raise InputError(f"{path} is a .mat file of version 7.3; save it with -v7") from None
    except Exception as error:  # of many kinds, on damaged bytes
        raise InputError(f"{path} is no readable .mat file: {error}") from None


def read_cells(path: Path, name: str) -> Array:
    """A cell array (F, P) of a .mat file.

    Raises:
        InputError: no such variable.
    """
    content = read_mat(path)
    if name not in content or content[name].ndim != 2:
        raise InputError(f"{path} has no cell array '{name}' of frames and people")
    return content[name]


def _sequence(folder: Path, people: Array, labels: Array) -> Iterator[FrameRecord]:
    frames = [
        tuple(_person(people[i, k], labels[i, k], k) for k in range(people.shape[1]))
        for i in range(people.shape[0])
    ]
    width, height = _size(folder / "img_000000.jpg")
    camera = fit_camera([person for frame in frames for person in frame], width, height)
    for number, frame in enumerate(frames):
        picture = Picture(folder / f"img_{number:06d}.jpg")
        yield FrameRecord(NAME, folder.name, number, picture, width, height, frame, camera)


def _person(cell: Any, labels: Any, identity: int) -> PersonRecord:
    annotation = cell.reshape(-1)[0] if isinstance(cell, np.ndarray) else cell
    valid = bool(np.asarray(annotation.isValidFrame).reshape(-1)[0])
    pixels = _points(annotation.annot2, 2, valid)
    hidden = _points(labels, 1, valid)
    box = np.concatenate([pixels.min(0), pixels.max(0)])
    ones = np.ones((17, 1))
    return PersonRecord(
        box=box.astype(np.float32),
        points2d={"mpi17": np.concatenate([pixels, np.where(hidden > 0, OCCLUDED, 1.0)], axis=1)},
        points3d={
            name: np.concatenate([_points(millimetres, 3, valid) / 1000, ones], axis=1)
            for name, millimetres in (
                ("mpi17", annotation.annot3),
                ("mpi17_univ", annotation.univ_annot3),
            )
        },
        identity=identity,
        valid=valid,
    )


def _points(values: Any, size: int, valid: bool) -> Array:
    """(17, size); zeros where a person who isn't valid has none."""
    points = np.asarray(values, np.float64)
    if not valid and points.size != 17 * size:
        return np.zeros((17, size))
    return points.reshape(size, 17).T


def fit_camera(people: Sequence[PersonRecord], width: int, height: int) -> Camera | None:
    """The pinhole camera by which annot3 falls onto annot2; None where they don't determine one.

    Args:
        people: of one sequence; only valid ones count.
        width: of the pictures [px].
        height: likewise.
    """
    seen = [person for person in people if person.valid]
    if not seen:
        return None
    pixels = np.concatenate([person.points2d["mpi17"][:, :2] for person in seen])
    points = np.concatenate([person.points3d["mpi17"][:, :3] for person in seen])
    ahead = points[:, 2] > 0
    rays, pixels = points[ahead, :2] / points[ahead, 2:], pixels[ahead]
    K = np.eye(3)
    for axis in (0, 1):
        A = np.stack([rays[:, axis], np.ones(len(rays))], axis=1)
        (K[axis, axis], K[axis, 2]), _, rank, _ = np.linalg.lstsq(A, pixels[:, axis], rcond=1e-6)
        if rank < 2 or not K[axis, axis] > 1:
            return None
    return Camera(K, np.zeros(0), "none", width, height)


def _size(picture: Path) -> tuple[int, int]:
    """Width and height of the sequence's pictures; 2048 x 2048 where there are none."""
    image = cv2.imread(str(picture)) if picture.is_file() else None
    return (2048, 2048) if image is None else (image.shape[1], image.shape[0])
