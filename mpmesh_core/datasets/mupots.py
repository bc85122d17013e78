"""datasets.mupots: MuPoTS-3D, 20 clips of several people with markerless 3D joints; for evaluation.

In   MuPoTS-3D/TS1 ... TS20 (also in MultiPersonTestSet/), each with annot.mat, occlusion.mat and
     img_000000.jpg, ...
Out  FrameRecords of 17 joints: `mpi17` in 2D (annot2) and 3D (annot3), and `mpi17_univ`
     (univ_annot3, all people brought to one height), which the protocol compares with

`valid` is isValidFrame. The weight of a 2D joint is 1, or 0.5 where it is labelled as occluded.
The camera isn't part of the data set: it is fitted to annot2 and annot3 of the whole sequence.
Without pictures, their size is taken to be 2048 x 2048.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mpmesh_core.camera import Camera
from mpmesh_core.datasets.boxes import tight_boxes
from mpmesh_core.datasets.catalogue import dataset_info
from mpmesh_core.datasets.files import home, read_mat, reading, variable
from mpmesh_core.datasets.pictures import picture_size
from mpmesh_core.datasets.record import FrameRecord, PersonRecord, Picture

INFO = dataset_info("mupots")
SEQUENCES = tuple(f"TS{number}" for number in range(1, 21))
OCCLUDED = 0.5  # weight


def read(root: Path, split: str) -> Iterator[FrameRecord]:
    """All frames of all 20 sequences; see `read_sequences`."""
    yield from read_sequences(root, SEQUENCES)


def read_sequences(root: Path, sequences: Sequence[str]) -> Iterator[FrameRecord]:
    """All frames of some sequences.

    Args:
        root: folder that holds every data set's folder, or the data set's own.
        sequences: names of those to read.

    Raises:
        MissingFileError: a sequence without annot.mat or occlusion.mat.
        InputError: a file that cannot be read.
    """
    folder = home(INFO, root, "MultiPersonTestSet")
    for name in sequences:
        annot, occlusion = folder / name / "annot.mat", folder / name / "occlusion.mat"
        cells = variable(INFO, annot, read_mat(INFO, annot), "annotations")
        labels = variable(INFO, occlusion, read_mat(INFO, occlusion), "occlusion_labels")
        with reading(INFO, annot):
            frames, people = cells.shape
            everybody = [
                tuple(_person(cells[i, k], k) for k in range(people)) for i in range(frames)
            ]
        with reading(INFO, occlusion):
            if labels.shape != cells.shape:
                raise ValueError(f"{labels.shape} labels for {cells.shape} frames and people")
            shown = [
                tuple(_occluded(person, labels[i, k]) for k, person in enumerate(frame))
                for i, frame in enumerate(everybody)
            ]
        yield from _sequence(folder / name, shown)


def _sequence(folder: Path, frames: list[tuple[PersonRecord, ...]]) -> Iterator[FrameRecord]:
    width, height = picture_size(folder / "img_000000.jpg", absent=(2048, 2048))
    camera = fit_camera([person for frame in frames for person in frame], width, height)
    for number, frame in enumerate(frames):
        picture = Picture(folder / f"img_{number:06d}.jpg")
        yield FrameRecord(INFO.name, folder.name, number, picture, width, height, frame, camera)


def _person(cell: Any, identity: int) -> PersonRecord:
    """Somebody of one frame; without labels where annot.mat has none of an invalid person."""
    annotation = cell.reshape(-1)[0] if isinstance(cell, np.ndarray) else cell
    valid = bool(np.asarray(annotation.isValidFrame).reshape(-1)[0])
    stored = annotation.annot2, annotation.annot3, annotation.univ_annot3
    if not valid and any(np.size(points) != 17 * n for points, n in zip(stored, (2, 3, 3))):
        return PersonRecord(np.full(4, np.nan, np.float32), identity=identity, valid=False)
    pixels, joints, rescaled = (
        np.asarray(points, np.float64).reshape(n, 17).T for points, n in zip(stored, (2, 3, 3))
    )
    ones = np.ones((17, 1))
    return PersonRecord(
        box=tight_boxes(pixels).astype(np.float32),
        points2d={"mpi17": np.concatenate([pixels, ones], axis=1)},
        points3d={
            "mpi17": np.concatenate([joints / 1000, ones], axis=1),
            "mpi17_univ": np.concatenate([rescaled / 1000, ones], axis=1),
        },
        identity=identity,
        valid=valid,
    )


def _occluded(person: PersonRecord, labels: Any) -> PersonRecord:
    """The person with half the weight for joints that are labelled as hidden."""
    for points in person.points2d.values():
        if person.valid or np.size(labels) == len(points):
            hidden = np.asarray(labels, np.float64).reshape(17) > 0
            points[hidden, 2] = OCCLUDED
    return person


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
