"""skeleton_sources: where labelled people come from, one generator each.

Each yields (picture (H, W, 3) uint8 RGB, `PersonSample`) for `write_people`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch

from mpmesh_core.body import BodyModel
from mpmesh_core.camera import Camera
from mpmesh_core.datasets.conventions import convert
from mpmesh_core.ik import twist_from_rotations
from mpmesh_core.training.labels import LabelledImage
from mpmesh_core.training.scene import PersonTruth, Scene
from mpmesh_core.training.skeleton_data import PersonSample

Array = np.ndarray
DEFAULT_FOV_DEG = 60.0  # on the longer side, where a photo does not tell
_KEYPOINTS = {"lsp14": "lsp", "coco17": "coco", "mediapipe33": "mediapipe"}
LEAST_VISIBLE = 0.2  # part of a person that can be seen
LEAST_SIZE = 40.0  # [px], height or width of what can be seen
_FITTED_2D = 0.5  # weight of a fitted body's projection beside a real 2D label
_LEAST_TRUST = 0.05  # in the 3D of landmarks that the teacher does not see


def labelled_people(images: Iterable[LabelledImage]) -> Iterator[tuple[Array, PersonSample]]:
    """People of photos with 2D labels and, where there is one, a teacher's 3D; no bodies.

    Args:
        images: what a reader of `mpmesh_core.training.labels` yields. Their cameras are unknown;
            a field of view of 60 degrees on the longer side is assumed.
    """
    for image in images:
        picture = image.decode()
        camera = Camera.from_fov(image.width, image.height, DEFAULT_FOV_DEG)
        for person in image.people:
            points2d = {
                _KEYPOINTS[name]: labels
                for name, labels in person.keypoints.items()
                if name in _KEYPOINTS
            }
            if "coco" in points2d:
                joints = convert(points2d["coco"], "coco17", "points")
                points2d["points"] = joints * np.array([1, 1, _FITTED_2D], np.float32)
            points3d = {}
            if person.teacher3d is not None:
                trust = points2d["mediapipe"][:, 2:].clip(_LEAST_TRUST, 1)
                points3d["mediapipe"] = np.concatenate((person.teacher3d, trust), 1)
            yield picture, PersonSample(camera.K, person.box, points3d, points2d)


def scene_people(
    scenes: Iterable[Scene],
    body: BodyModel,
    real: bool,
    least_visible: float = LEAST_VISIBLE,
    least_size: float = LEAST_SIZE,
) -> Iterator[tuple[Array, PersonSample]]:
    """People of scenes with bodies; those too small or too hidden are left out.

    Args:
        scenes: synthetic ones, or photos with fitted bodies.
        body: the model that the scenes' parameters speak of.
        real: whether bodies are fits: then real 2D labels win over the body's projection, which
            counts as far as the fit is trusted; their visibility is not known.
        least_visible: people of whom a smaller part can be seen are left out.
        least_size: so are those of whom fewer pixels can be seen, the longer way.
    """
    for scene in scenes:
        people = [
            person
            for person in scene.people
            if _size(person) >= least_size and (real or person.visibility >= least_visible)
        ]
        if people:
            for person, sample in zip(people, _scene_samples(scene, people, body)):
                yield scene.image, _with_labels(sample, person) if real else sample


def _size(person: PersonTruth) -> float:
    """Longer side [px] of what can be seen."""
    box = person.box if person.visible_box is None else person.visible_box
    return float((box[2:] - box[:2]).max())


def _scene_samples(
    scene: Scene, people: list[PersonTruth], body: BodyModel
) -> Iterator[PersonSample]:
    rotations, betas, transl = (
        torch.from_numpy(np.stack([getattr(p, name) for p in people])).float()
        for name in ("rotations", "betas", "transl")
    )
    points = body(rotations, betas, transl, vertices=False).points.numpy()
    coco = body.keypoints(rotations, betas, transl, "coco17").numpy()
    twist = twist_from_rotations(rotations, body.rest_points(betas)).numpy()
    for i, person in enumerate(people):
        trust = person.weight_3d
        spatial = {"points": points[i], "coco": coco[i]}
        yield PersonSample(
            K=scene.camera.K,
            box=person.box if person.visible_box is None else person.visible_box,
            points3d={name: _weighted(p, trust) for name, p in spatial.items()},
            points2d={
                name: _weighted(scene.camera.project(p), trust) for name, p in spatial.items()
            },
            twist=_weighted(twist[i], trust),
            betas=np.append(person.betas, trust),
            root=np.append(points[i, 0], trust),
        )


def _weighted(values: Array, weight: float) -> Array:
    return np.concatenate((values, np.full((len(values), 1), weight)), 1).astype(np.float32)


def _with_labels(sample: PersonSample, person: PersonTruth) -> PersonSample:
    """Real 2D labels beside (or, where they speak of the same points, instead of) a fit's."""
    points2d = {name: p * np.array([1, 1, _FITTED_2D]) for name, p in sample.points2d.items()}
    for name, labels in person.keypoints.items():
        convention = _KEYPOINTS.get(name)
        if convention is not None:
            labels = np.nan_to_num(labels)
            known = labels[:, 2:] > 0
            fitted = points2d.get(convention, np.zeros_like(labels))
            points2d[convention] = np.where(known, labels, fitted)
    return replace(sample, points2d=points2d)
