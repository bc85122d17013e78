"""datasets.check: what is there of a data set, counted, and whether its labels agree.

In   a data set's name, the root, a split
Out  `SplitReport`: counts, the first problem, and how far projected 3D lies from 2D labels
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from mpmesh_core.datasets.catalogue import dataset_info, read_dataset
from mpmesh_core.datasets.files import need
from mpmesh_core.datasets.record import FrameRecord, PersonRecord
from mpmesh_core.errors import MissingFileError, MPMeshError
from mpmesh_core.types import Array


@dataclass
class SplitReport:
    """One split, up to the first problem."""

    split: str
    sequences: int = 0
    frames: int = 0
    people: int = 0
    labels: Counter[str] = field(default_factory=Counter)  # people with each kind
    error_px: float | None = None  # median distance of projected 3D from 2D labels
    error: MPMeshError | None = None

    @property
    def state(self) -> str:
        """In one word: whole, broken, missing or empty."""
        if isinstance(self.error, MissingFileError) and not self.frames:
            return "missing"
        return "broken" if self.error is not None else ("whole" if self.frames else "empty")


def check_split_of(name: str, root: Path, split: str, limit: int | None = None) -> SplitReport:
    """Read a split to its end, or to the first problem; pictures are looked for, not opened.

    Args:
        name, root, split: as `read_dataset` takes them.
        limit: frames to read at most.
    """
    info, report, sequences, errors = dataset_info(name), SplitReport(split), set(), []
    try:
        for record in islice(read_dataset(name, root, split), limit):
            need(info, record.picture.path)
            report.frames += 1
            sequences.add(record.sequence)
            for person in record.people:
                report.people += 1
                report.labels.update(label_kinds(person))
                errors += reprojection_errors(person, record)
    except MPMeshError as error:
        report.error = error
    report.sequences = len(sequences)
    report.error_px = float(np.median(errors)) if errors else None
    return report


def label_kinds(person: PersonRecord) -> Iterator[str]:
    """Names of the labels that a person has."""
    yield from (f"{name} 2D" for name in person.points2d)
    yield from (f"{name} 3D" for name in person.points3d)
    if person.smpl is not None:
        yield "SMPL" if person.smpl.body == "smpl" else "open body"
    if person.crowd:
        yield "crowd"


def reprojection_errors(person: PersonRecord, record: FrameRecord) -> list[float]:
    """Distances [px] of a person's projected 3D from the 2D labels of the same convention."""
    if record.camera is None:
        return []
    distances: list[float] = []
    for name, points in person.points3d.items():
        labels = person.points2d.get(name)
        if labels is not None:
            known = (points[:, 3] > 0) & (labels[:, 2] > 0) & (points[:, 2] > 0)
            pixels: Array = record.camera.project(points[known, :3].astype(np.float64))
            distances += np.linalg.norm(pixels - labels[known, :2], axis=1).tolist()
    return distances


def spread_out(name: str, root: Path, split: str, frames: int, count: int) -> Iterator[FrameRecord]:
    """`count` records spread evenly over the first `frames` of a split."""
    wanted = set(np.linspace(0, frames - 1, min(count, frames)).astype(int).tolist())
    for index, record in enumerate(islice(read_dataset(name, root, split), frames)):
        if index in wanted:
            yield record
