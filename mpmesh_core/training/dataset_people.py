"""dataset_people: people of published data sets, as the trainers read them.

In   FrameRecords of `mpmesh_core.datasets`, and the body that is trained for
Out  (picture, `PersonSample`) for `write_people`; `Scene`s where bodies are known

A joint is a label of the network's points only where both mean the same (`datasets.conventions`).
2D labels stay 2D. 3D labels become 2D ones too, projected, where the set gives no 2D. SMPL
parameters give the twist angles, as those mean the same on every body with SMPL's rest directions;
shape, all 29 points and the place only on the same body and gender. Lenses are undone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import roma
import torch

from mpmesh_core.body import BodyModel
from mpmesh_core.camera import Camera
from mpmesh_core.datasets.conventions import CONVENTIONS, convert
from mpmesh_core.datasets.pictures import PictureReader
from mpmesh_core.datasets.record import FrameRecord, PersonRecord, SmplLabel
from mpmesh_core.errors import InputError, MissingFileError
from mpmesh_core.ik import twist_from_rotations
from mpmesh_core.training.scene import PersonTruth, Scene
from mpmesh_core.training.skeleton_data import PersonSample
from mpmesh_core.training.skeleton_sources import DEFAULT_FOV_DEG, LEAST_SIZE
from mpmesh_core.training.undistort import flat_box, flat_camera, flat_picture, flat_pixels
from mpmesh_core.types import Array

TARGETS = {"points": "points", "coco": "coco17", "lsp": "lsp14"}
"""A sample's names of conventions, and those of the data sets."""


@dataclass(frozen=True)
class TargetBody:
    """The body whose parameters are trained."""

    model: BodyModel
    kind: str = "open"  # open or smpl
    gender: str = "neutral"

    def same(self, label: SmplLabel) -> bool:
        """Whether a label's parameters are this body's."""
        gender = self.gender if label.body == "open" else label.gender
        return label.body == self.kind and gender == self.gender and label.shape_known


@dataclass
class _Labels:
    """Labels of one person under the flat camera, by the data sets' conventions."""

    points2d: dict[str, Array] = field(default_factory=dict)
    points3d: dict[str, Array] = field(default_factory=dict)


def dataset_people(
    records: Iterable[FrameRecord],
    body: TargetBody,
    least_size: float = LEAST_SIZE,
    bad: list[str] | None = None,
) -> Iterator[tuple[Array, PersonSample]]:
    """Everybody with a label that can be used; who isn't valid for evaluation isn't here either.

    Args:
        records: frames in any order; videos are read fastest from front to back.
        body: what is trained.
        least_size: people whose box is smaller, the longer way [px], are left out.
        bad: where to note frames whose picture cannot be read, to go on without them (some
            published videos end before their labels); without it the first one raises.
    """
    reader = PictureReader()
    for record in records:
        camera = _camera(record)
        samples = [
            sample
            for person in record.people
            if person.valid and not person.crowd and _size(person, record) >= least_size
            if (sample := person_sample(person, camera, body)) is not None
        ]
        picture = _picture(reader, record, bad) if samples else None
        if picture is not None:
            flat = flat_picture(picture, camera)
            for sample in samples:
                yield flat, sample


def dataset_scenes(
    records: Iterable[FrameRecord], body: TargetBody, bad: list[str] | None = None
) -> Iterator[Scene]:
    """Pictures all of whose people have bodies of the trained kind and gender.

    Args:
        records, body, bad: as `dataset_people` takes them.
    """
    reader = PictureReader()
    for record in records:
        people = [person for person in record.people if not person.crowd]
        if people and all(p.valid and p.smpl and body.same(p.smpl) for p in people):
            picture = _picture(reader, record, bad)
            if picture is not None:
                truths = [_truth(person, record, body.model) for person in people]
                yield Scene(picture, _camera(record), truths)


def every(records: Iterable[FrameRecord], step: int) -> Iterator[FrameRecord]:
    """Every step-th frame of each sequence, its first among them."""
    for _, frames in groupby(records, key=lambda record: record.sequence):
        for index, record in enumerate(frames):
            if index % step == 0:
                yield record


def person_sample(person: PersonRecord, camera: Camera, body: TargetBody) -> PersonSample | None:
    """Labels of one person for the flat camera; None where nothing can be used."""
    flat = flat_camera(camera)
    labels = _flat_labels(person, camera)
    points2d = {name: _merged(labels.points2d, target, 3) for name, target in TARGETS.items()}
    points3d = {name: _merged(labels.points3d, target, 4) for name, target in TARGETS.items()}
    sample = PersonSample(flat.K, flat_box(person.box, camera), points3d, points2d)
    if person.smpl is not None:
        _add_body(sample, person.smpl, flat, body)
    if not sample.root[3]:
        _add_origin(sample)
    weights = [*sample.points2d.values(), *sample.points3d.values(), sample.twist]
    return sample if any(values[:, -1].any() for values in weights) else None


def _flat_labels(person: PersonRecord, camera: Camera) -> _Labels:
    labels = _Labels(points3d=dict(person.points3d))
    for name, points in person.points2d.items():
        moved = flat_pixels(points[:, :2].astype(np.float64), camera)
        labels.points2d[name] = np.column_stack((moved, points[:, 2])).astype(np.float32)
    for name, points in person.points3d.items():
        if name not in labels.points2d:
            pixels = flat_camera(camera).project(points[:, :3].astype(np.float64))
            weight = points[:, 3] * (points[:, 2] > 0)
            labels.points2d[name] = np.column_stack((pixels, weight)).astype(np.float32)
    return labels


def _merged(labels: dict[str, Array], target: str, columns: int) -> Array:
    """Labels of all conventions as the target's, the one with the most weight for each joint."""
    merged = np.zeros((len(CONVENTIONS[target].names), columns), np.float32)
    for name, points in labels.items():
        new = convert(points, name, target)
        merged = np.where(new[:, -1:] > merged[:, -1:], new, merged)
    return merged


def _add_body(sample: PersonSample, label: SmplLabel, flat: Camera, body: TargetBody) -> None:
    rotations, model = rotations_of(label), body.model
    same = body.same(label)
    betas = torch.as_tensor(label.betas[:10], dtype=torch.float32)
    rest = model.rest_points(betas if same else torch.zeros(10))
    twist = twist_from_rotations(rotations, rest).numpy()
    sample.twist = np.column_stack((twist, np.ones(len(twist)))).astype(np.float32)
    if same:
        transl = _translation(label, rest)
        points = model(rotations, betas, transl, vertices=False).points.numpy()
        coco = model.keypoints(rotations, betas, transl, "coco17").numpy()
        for name, xyz in (("points", points), ("coco", coco)):
            ones = np.ones((len(xyz), 1), np.float32)
            pixels = np.column_stack((flat.project(xyz), xyz[:, 2] > 0))
            known = sample.points2d[name]
            sample.points3d[name] = np.concatenate((xyz, ones), 1)
            sample.points2d[name] = np.where(known[:, 2:] > 0, known, pixels).astype(np.float32)
        sample.betas = np.append(betas.numpy(), 1).astype(np.float32)
        sample.root = np.append(points[0], 1).astype(np.float32)


def _add_origin(sample: PersonSample) -> None:
    """Let the sample's place be told by some joint where the pelvis of the body isn't known.

    The absolute loss only needs the first point and `root` to be one and the same place; as a point
    this one keeps its weight of 0.
    """
    points = sample.points3d["points"]
    if points[:, 3].any():
        first = int(points[:, 3].argmax())
        points[0, :3] = points[first, :3]
        sample.root = np.append(points[0, :3], 1).astype(np.float32)


def rotations_of(label: SmplLabel) -> torch.Tensor:
    """(24, 3, 3) float32 rotations, the first in the camera frame."""
    vectors = np.concatenate((label.global_orient, label.body_pose)).reshape(24, 3)
    return roma.rotvec_to_rotmat(torch.as_tensor(vectors, dtype=torch.float32))


def _translation(label: SmplLabel, rest: torch.Tensor) -> torch.Tensor:
    if label.pelvis is not None:
        return torch.as_tensor(label.pelvis, dtype=torch.float32) - rest[0]
    return torch.as_tensor(label.transl, dtype=torch.float32)


def _truth(person: PersonRecord, record: FrameRecord, model: BodyModel) -> PersonTruth:
    if person.smpl is None:
        raise ValueError("a person without a body")
    betas = np.asarray(person.smpl.betas[:10], np.float32)
    transl = _translation(person.smpl, model.rest_points(torch.from_numpy(betas))).numpy()
    low, high = np.zeros(2), np.array([record.width - 1, record.height - 1])
    visible = np.concatenate((np.maximum(person.box[:2], low), np.minimum(person.box[2:], high)))
    keypoints = {n: p for n, p in person.points2d.items() if n in ("coco17", "lsp14")}
    area = float(np.prod(person.box[2:] - person.box[:2]))
    inside = float(np.prod(np.clip(visible[2:] - visible[:2], 0, None)))
    return PersonTruth(
        rotations=rotations_of(person.smpl).numpy(),
        betas=betas,
        transl=transl,
        box=person.box,
        visible_box=visible.astype(np.float32) if inside else None,
        visibility=inside / max(area, 1e-6),  # of the box: nobody says who hides whom
        keypoints=keypoints,
        source=record.dataset,
    )


def _picture(reader: PictureReader, record: FrameRecord, bad: list[str] | None) -> Array | None:
    """The record's picture; None, noted, for one that can't be read."""
    try:
        return reader.of(record)
    except (InputError, MissingFileError) as error:
        if bad is None:
            raise
        bad.append(str(error))
        return None


def _camera(record: FrameRecord) -> Camera:
    return record.camera or Camera.from_fov(record.width, record.height, DEFAULT_FOV_DEG)


def _size(person: PersonRecord, record: FrameRecord) -> float:
    """Longer side [px] of the box inside the picture."""
    low = np.maximum(person.box[:2], 0)
    return float((np.minimum(person.box[2:], (record.width, record.height)) - low).max())
