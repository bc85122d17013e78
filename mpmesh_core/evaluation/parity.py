"""evaluation.parity: one pipeline against another, stage by stage, on the same pictures.

The reference finds the people, and both describe the same boxes, so that what differs after the
detector comes from the stages after it. What an engine computes in lower precision moves joints by
millimetres; a wrong graph moves them by decimetres.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import roma
import torch
from torch import Tensor

from mpmesh_core.camera import Camera
from mpmesh_core.errors import InputError
from mpmesh_core.pipeline import Pipeline
from mpmesh_core.types import Array, Detections, Person, Skeletons

# Largest mean difference that passes.
LIMITS = {
    ("detect", "boxes", "px"): 1.0,
    ("detect", "scores", ""): 0.01,
    ("skeleton", "heatmaps", ""): 2e-3,
    ("skeleton", "points2d", "px"): 0.5,
    ("skeleton", "points3d", "mm"): 2.0,
    ("skeleton", "confidence", ""): 0.01,
    ("skeleton", "twist", "degree"): 1.0,
    ("skeleton", "betas", ""): 0.02,
    ("people", "rotations", "degree"): 1.5,  # 2 mm at the end of a hand
    ("people", "joints", "mm"): 2.0,
    ("people", "vertices", "mm"): 3.0,
    ("people", "distance", "%"): 0.2,
}


@dataclass(frozen=True)
class Difference:
    """One quantity over all pictures and people."""

    stage: str
    quantity: str
    unit: str
    mean: float
    worst: float
    limit: float  # of the mean

    @property
    def ok(self) -> bool:
        """Whether it passes; NaN does not."""
        return self.mean <= self.limit


@dataclass(frozen=True)
class Comparison:
    """What was compared, and how it differed."""

    rows: list[Difference]  # one for every entry of `LIMITS`
    pictures: int
    people: int  # that the reference found


class _Given:
    """A detector that finds what it was told."""

    def __init__(self, found: Detections) -> None:
        self.found = found

    def detect(self, image: Array) -> Detections:
        """See `Detector.detect`."""
        return self.found


def compare(
    reference: Pipeline, tested: Pipeline, pictures: Iterable[tuple[Array, Camera]]
) -> Comparison:
    """Differences of two pipelines that compute meshes, track nobody and look once.

    Args:
        reference: what counts as right.
        tested: what is compared with it.
        pictures: (H, W, 3) uint8 RGB and camera.

    Returns:
        Differences; infinite where the two did not find the same people, NaN where there was
        nothing to compare.

    Raises:
        InputError: the reference found nobody.
    """
    samples: dict[tuple[str, str], list[Array]] = {(stage, name): [] for stage, name, _ in LIMITS}
    seen = count = 0
    for image, camera in pictures:
        seen += 1
        found, other = (pipeline.detector.detect(image) for pipeline in (reference, tested))
        other = _in_order_of(found, other)
        for name in ("boxes", "scores"):
            samples["detect", name].append(_apart(getattr(found, name), getattr(other, name)))
        if not len(found.scores):
            continue
        count += len(found.scores)
        expected, right = _describe(reference, found, image, camera)
        people, said = _describe(tested, found, image, camera)
        for name, value in _skeleton_differences(right, said).items():
            samples["skeleton", name].append(value)
        for name, value in _people_differences(expected, people).items():
            samples["people", name].append(value)
    if not count:
        raise InputError(
            f"nobody was found in {seen} pictures, so nothing was compared; give pictures of people"
        )
    rows = [_row(key, samples[key[:2]], limit) for key, limit in LIMITS.items()]
    return Comparison(rows, seen, count)


def _in_order_of(found: Detections, other: Detections) -> Detections:
    """The other detections, each where its nearest box is: equal scores may change places."""
    if len(found.scores) != len(other.scores) or not len(found.scores):
        return other
    apart = np.abs(found.boxes[:, None] - other.boxes[None]).sum(-1)
    order = apart.argmin(1)
    return other.take(order) if len(set(order.tolist())) == len(order) else other


@contextmanager
def _watching(pipeline: Pipeline, found: Detections) -> Iterator[list[Skeletons]]:
    """The pipeline with given people; what its skeleton step returns is kept.

    Of the step, not of the engine: compiled steps do not call it, recorded ones call nothing.
    """
    detector, step = pipeline.detector, pipeline._step
    kept: list[Skeletons] = []

    def watched(key: Hashable, name: str, work: Callable[..., Any], *inputs: Any) -> Any:
        outputs = step(key, name, work, *inputs)
        if name == "skeleton":
            kept.append(outputs[1])
        return outputs

    if pipeline._line is not None:
        pipeline._line.forget()
    pipeline.detector = _Given(found)
    pipeline._step = watched  # type: ignore[method-assign,assignment]
    try:
        yield kept
    finally:
        pipeline.detector = detector
        del pipeline._step


def _describe(
    pipeline: Pipeline, found: Detections, image: Array, camera: Camera
) -> tuple[list[Person], Skeletons]:
    """People, and the skeletons of the boxes found, on the CPU."""
    with _watching(pipeline, found) as kept:
        people = pipeline(image, camera).people
    count = len(found.scores)
    said = {f.name: getattr(kept[-1], f.name)[:count].float().cpu() for f in fields(Skeletons)}
    return people, Skeletons(**said)


def _skeleton_differences(expected: Skeletons, found: Skeletons) -> dict[str, Array]:
    a, b = ({f.name: getattr(s, f.name) for f in fields(s)} for s in (expected, found))
    cosine = (a["twist"] * b["twist"]).sum(-1).clamp(-1, 1)
    return {
        "heatmaps": (a["heatmaps"] - b["heatmaps"]).abs().numpy(),
        "points2d": (a["points2d"] - b["points2d"]).norm(dim=-1).numpy(),
        "points3d": 1e3 * (a["points3d"] - b["points3d"]).norm(dim=-1).numpy(),
        "confidence": (a["confidence"] - b["confidence"]).abs().numpy(),
        "twist": torch.rad2deg(cosine.arccos()).numpy(),
        "betas": (a["betas"] - b["betas"]).abs().numpy(),
    }


def _people_differences(expected: list[Person], people: list[Person]) -> dict[str, Array]:
    if len(expected) != len(people):
        return {name: np.array([np.inf]) for stage, name, _ in LIMITS if stage == "people"}
    if not people:
        return {}
    turns = [_rotations(side) for side in (expected, people)]
    joints, vertices = (
        [np.stack([getattr(p, name) - p.position for p in side]) for side in (expected, people)]
        for name in ("joints", "vertices")
    )
    position = [np.stack([p.position for p in side]) for side in (expected, people)]
    moved = np.linalg.norm(position[0] - position[1], axis=-1)
    return {
        "rotations": torch.rad2deg(roma.rotmat_geodesic_distance(*turns)).numpy(),
        "joints": 1e3 * np.linalg.norm(joints[0] - joints[1], axis=-1),
        "vertices": 1e3 * np.linalg.norm(vertices[0] - vertices[1], axis=-1),
        "distance": 100 * moved / np.linalg.norm(position[0], axis=-1),
    }


def _rotations(people: list[Person]) -> Tensor:
    """(N, 24, 3, 3)."""
    vectors = [np.concatenate((p.global_orient, p.body_pose)).reshape(24, 3) for p in people]
    return roma.rotvec_to_rotmat(torch.from_numpy(np.stack(vectors)))


def _apart(expected: Array, found: Array) -> Array:
    """Differences of what has the same shape; else infinity."""
    same = expected.shape == found.shape
    return np.abs(expected - found) if same else np.array([np.inf])


def _row(key: tuple[str, str, str], samples: list[Array], limit: float) -> Difference:
    values = np.concatenate([value.ravel() for value in samples] or [np.array([np.nan])])
    return Difference(*key, float(values.mean()), float(values.max()), limit)
