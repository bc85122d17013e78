"""fit_labels: from labelled photos to the arrays that `fit` takes, and from its bodies to scenes.

In   `LabelledImage`s whose people have keypoints and teacher 3D
Out  `FitInput` for all people at once; after the fit `Scene`s with one `PersonTruth` a person

Human labels count fully, the teachers' little where a human label says the same. The teacher's 3D
is trusted joint by joint, as far as its 2D agrees with the human labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mpmesh_core.body import BodyModel
from mpmesh_core.camera import Camera
from mpmesh_core.training.fit import FitInput, FitResult, project
from mpmesh_core.training.labels import LabelledImage, PersonLabel
from mpmesh_core.training.scene import PersonTruth, Scene
from mpmesh_core.training.teaching import COCO_IN_MEDIAPIPE, FOLLOWS

Array = np.ndarray

CONVENTIONS = {"lsp14": 14, "coco17": 17, "mediapipe33": 33}
LSP_IN_MEDIAPIPE = (28, 26, 24, 23, 25, 27, 16, 14, 12, 11, 13, 15)
"""The MediaPipe landmark nearest in meaning to LSP's first twelve joints."""

FOV_DEG = {"lspet": 35.0, "pennfudan": 55.0, "coco128": 55.0}
"""Assumed field of view along the longer side; LSP-extended is cropped around the person."""

_TEACHER = {"coco17": 0.5, "mediapipe33": 0.3}  # weight beside a human label's 1
_DOUBLED = 0.05  # weight of a teacher landmark that a human label doubles
_AGREE = 0.08  # distance of teacher and human at which trust has dropped to 0.37 [of the box]
_TORSO = 0.5  # length that reprojection errors are given in [m]
_CHUNK = 256  # meshes in memory at a time


def assumed_camera(image: LabelledImage) -> Camera:
    """The pinhole camera that a photo of this source is taken to have."""
    return Camera.from_fov(image.width, image.height, FOV_DEG.get(image.source, 55.0))


def fit_input(images: Sequence[LabelledImage]) -> FitInput:
    """Stack the labels of all people of all photos; what a person lacks gets weight 0."""
    pairs = [(image, person) for image in images for person in image.people]
    keypoints = {
        name: _stack([_fit_labels(person, name) for _, person in pairs], (size, 3))
        for name, size in CONVENTIONS.items()
    }
    return FitInput(
        keypoints,
        world=_stack([_turned_world(image, person) for image, person in pairs], (33, 3)),
        world_weight=_stack([_world_trust(person) for _, person in pairs], (33,)),
        K=_stack([assumed_camera(image).K for image, _ in pairs], (3, 3)),
        size=_stack([np.max(person.box[2:] - person.box[:2]) for _, person in pairs], ()),
    )


def scenes(
    images: Sequence[LabelledImage], body: BodyModel, data: FitInput, result: FitResult
) -> Iterator[Scene]:
    """Pair each photo with its fitted people."""
    trust = trust_3d(data, result).numpy()
    boxes = mesh_boxes(body, data, result).numpy()
    row = 0
    for image in images:
        people = []
        for person in image.people:
            people.append(_truth(image, person, result, row, boxes[row], float(trust[row])))
            row += 1
        yield Scene(image.decode(), assumed_camera(image), people, _jpeg(image))


def trust_3d(data: FitInput, result: FitResult) -> Tensor:
    """(N,) weights 0..1 of the fitted bodies.

    Full up to 0.12 torso lengths of mean reprojection error, none from 0.25; likewise from 20 to
    40 degrees of mean difference to the teacher's bones; and less for people of whom the teacher
    sees less than 80 % of the limbs, none below 40 % (what is out of view is only the prior's).
    """
    in_picture = ((0.25 - reprojection_error(data, result)) / 0.13).clamp(0.0, 1.0)
    in_space = ((0.7 - result.bone_error) / 0.35).clamp(0.0, 1.0)
    limbs = (data.world_weight[:, list(LSP_IN_MEDIAPIPE)] > 0.3).float().mean(-1)
    return in_picture * in_space * ((limbs - 0.4) / 0.4).clamp(0.0, 1.0)


def reprojection_error(data: FitInput, result: FitResult) -> Tensor:
    """(N,) weighted mean distance of labels and projected landmarks [torso lengths]."""
    total, weights = torch.zeros_like(data.size), torch.zeros_like(data.size)
    for name, labels in data.keypoints.items():
        away = (result.projected[name] - labels[..., :2]).norm(dim=-1)
        total = total + (away * labels[..., 2]).sum(-1)
        weights = weights + labels[..., 2].sum(-1)
    torso_px = _TORSO * data.K[:, 0, 0] / result.transl[:, 2].clamp(min=0.3)
    return total / weights.clamp(min=1e-6) / torso_px


def mesh_boxes(body: BodyModel, data: FitInput, result: FitResult) -> Tensor:
    """(N, 4) boxes [px] around the projected meshes."""
    boxes = [data.K.new_zeros(0, 4)]
    for start in range(0, len(data.K), _CHUNK):
        part = slice(start, start + _CHUNK)
        posed = body(result.rotations[part], result.betas[part], result.transl[part])
        pixels = project(posed.vertices, data.K[part])
        boxes.append(torch.cat([pixels.amin(1), pixels.amax(1)], dim=-1))
    return torch.cat(boxes)


def _stack(rows: list[Array], shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.array(rows, np.float32).reshape(len(rows), *shape))


def _fit_labels(person: PersonLabel, name: str) -> Array:
    """(K, 3) px and weight in the fit."""
    labels = person.keypoints.get(name)
    if labels is None:
        return np.zeros((CONVENTIONS[name], 3), np.float32)
    if name == "lsp14":
        return labels
    weights = labels[:, 2] * _TEACHER[name]
    human = person.keypoints.get("lsp14")
    if name == "mediapipe33" and human is not None:
        twins = list(LSP_IN_MEDIAPIPE)
        weights[twins] = np.where(human[:12, 2] > 0, _DOUBLED * labels[twins, 2], weights[twins])
    return np.column_stack([labels[:, :2], weights])


def _turned_world(image: LabelledImage, person: PersonLabel) -> Array:
    """Teacher 3D in the camera's axes: the teacher looks along the ray to the person."""
    if person.teacher3d is None:
        return np.zeros((33, 3), np.float32)
    centre = (person.box[:2] + person.box[2:]) / 2
    z = np.asarray(assumed_camera(image).directions(centre.astype(np.float64)))
    x = np.cross([0.0, 1.0, 0.0], z)
    x /= np.linalg.norm(x)
    return person.teacher3d @ np.stack([x, np.cross(z, x), z])


def _world_trust(person: PersonLabel) -> Array:
    """(33,) trust in the teacher's 3D."""
    landmarks = person.keypoints.get("mediapipe33")
    if person.teacher3d is None or landmarks is None:
        return np.zeros(33, np.float32)
    trust = landmarks[:, 2].copy()
    human = person.keypoints.get("lsp14")
    if human is not None:
        twins, reach = (
            list(LSP_IN_MEDIAPIPE),
            _AGREE * float(np.max(person.box[2:] - person.box[:2])),
        )
        apart = np.linalg.norm(landmarks[twins, :2] - human[:12, :2], axis=1) / reach
        agreed = np.where(human[:12, 2] > 0, np.exp(-(apart**2)), 0.7)
        trust[twins] *= agreed
        for extra, owner in FOLLOWS.items():
            trust[extra] *= agreed[twins.index(COCO_IN_MEDIAPIPE[owner])]
    return trust


def _truth(
    image: LabelledImage,
    person: PersonLabel,
    result: FitResult,
    row: int,
    mesh_box: Array,
    trust: float,
) -> PersonTruth:
    whole = mesh_box if trust > 0 else person.box
    limits = np.array([image.width - 1, image.height - 1] * 2, np.float32)
    visible = np.clip(person.box if person.mask is not None else whole, 0, limits)
    share = float(np.prod(visible[2:] - visible[:2]) / max(np.prod(whole[2:] - whole[:2]), 1.0))
    return PersonTruth(
        rotations=result.rotations[row].numpy(),
        betas=result.betas[row].numpy(),
        transl=result.transl[row].numpy(),
        box=whole.astype(np.float32),
        visible_box=visible.astype(np.float32),
        visibility=min(1.0, share),
        weight_3d=trust,
        keypoints=person.keypoints,
        source=image.source,
    )


def _jpeg(image: LabelledImage) -> bytes | None:
    """The file's bytes where it is a JPEG (PNG pictures are encoded anew)."""
    return image.encoded if image.encoded[:2] == b"\xff\xd8" else None
