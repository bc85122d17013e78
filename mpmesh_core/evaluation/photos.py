"""evaluation.photos: 2D accuracy on real photos with COCO keypoints.

Protocol. Detection: a person counts from a box height of 96 px; smaller ones and crowds are
ignored on both sides (a detection on them is neither right nor wrong). Matching is
`evaluation.detection`'s, at IoU 0.5. Keypoints: the COCO joints of the final mesh, on matched
people, relative to the torso (middle of the shoulders to middle of the hips, both labelled), every
labelled keypoint of every person weighing the same. People without a labelled torso are left out.
The labels of the COCO subset are shifted to one side, see `evaluation.outlines`; so the same is
told with them moved onto their people's outlines, without those that have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mpmesh_core.camera import Camera
from mpmesh_core.evaluation.detection import LabelledImage as DetectionLabels
from mpmesh_core.evaluation.detection import box_iou, match_detections, score_detections
from mpmesh_core.evaluation.metrics import pck
from mpmesh_core.evaluation.outlines import sideways
from mpmesh_core.joints import COCO_KEYPOINTS
from mpmesh_core.pipeline import Pipeline
from mpmesh_core.training.labels import (
    LabelledImage,
    PersonLabel,
    read_coco_keypoints,
    read_coco_subset,
)
from mpmesh_core.types import Array, Person

MIN_HEIGHT = 96.0  # [px]
SHOULDERS = [COCO_KEYPOINTS.index("left_shoulder"), COCO_KEYPOINTS.index("right_shoulder")]
HIPS = [COCO_KEYPOINTS.index("left_hip"), COCO_KEYPOINTS.index("right_hip")]
SHIFTED = "coco128_keypoints"  # source of photos whose keypoints are shifted to one side


@dataclass(frozen=True)
class PhotoReport:
    """What `evaluate_photos` measured."""

    photos: int
    truths: int  # people that count
    recall: float  # of what the pipeline reports
    precision: float
    recall_at_85: float  # best recall of any score threshold with precision 0.85 or more
    keypoints: int  # labelled keypoints of matched people with a torso
    pck_02: float
    pck_05: float
    moved_keypoints: int  # the same with labels moved onto outlines
    moved_pck_02: float
    moved_pck_05: float


def photos_with_keypoints(data: Path) -> Iterator[LabelledImage]:
    """The test photos of the data folder: MMPose's COCO and Human-Art samples, COCO subset.

    The COCO subset's keypoint file names only some of the people, so its boxes come from the
    subset's own, complete list.
    """
    yield from read_coco_keypoints(
        data / "photos/mmpose-coco/test_coco.json", data / "photos/mmpose-coco"
    )
    keypoint_file = data / "train2d/person_keypoints_derived.json"
    folder = data / "train2d/coco128x2"
    boxes = {photo.name: photo for photo in read_coco_subset(folder)}
    for photo in read_coco_keypoints(keypoint_file, folder):
        yield replace(merge_boxes(photo, boxes[photo.name]), source=SHIFTED)


def merge_boxes(keypoints: LabelledImage, boxes: LabelledImage) -> LabelledImage:
    """People with keypoints, their outlines, and the people of boxes that cover none (IoU 0.5).

    Who is labelled twice has the same outline twice.
    """
    known = np.array([person.box for person in keypoints.people]).reshape(-1, 4)
    others = np.array([person.box for person in boxes.people]).reshape(-1, 4)
    overlap = box_iou(known, others)
    outlined = tuple(
        replace(person, mask=_best_mask(boxes.people, row))
        for person, row in zip(keypoints.people, overlap)
    )
    missing = tuple(
        person for person, column in zip(boxes.people, overlap.T) if not (column >= 0.5).any()
    )
    return replace(keypoints, people=outlined + missing)


def _best_mask(people: tuple[PersonLabel, ...], overlap: Array) -> Array | None:
    """Outline of whose box covers another best, by IoU (M,), if at least 0.5."""
    return people[int(overlap.argmax())].mask if (overlap >= 0.5).any() else None


def evaluate_photos(pipeline: Pipeline, photos: Iterable[LabelledImage]) -> PhotoReport:
    """Run the pipeline on labelled photos; see the module's protocol."""
    detected, pairs, moved, count = [], [], [], 0
    for photo in photos:
        camera = Camera.from_fov(photo.width, photo.height)
        people = pipeline(photo.decode(), camera, source=photo.name).people
        boxes = np.array([person.bbox for person in people], np.float32).reshape(-1, 4)
        scores = np.array([person.score for person in people], np.float32)
        labels, counted = detection_labels(photo)
        matches = match_detections(boxes, scores, labels, MIN_HEIGHT)
        seen = [
            (person, counted[match])
            for person, match in zip(people, matches.person)
            if match >= 0 and "coco17" in counted[match].keypoints
        ]
        pairs += [(person, label.keypoints["coco17"]) for person, label in seen]
        placed = [(person, _on_outline(label, photo.source)) for person, label in seen]
        moved += [(person, keypoints) for person, keypoints in placed if keypoints is not None]
        detected.append((boxes, scores, labels))
        count += 1
    curve = score_detections(detected, MIN_HEIGHT)
    recall, precision = curve.at_threshold(0.0)
    shares, known = _keypoint_hits(pairs)
    moved_shares, moved_known = _keypoint_hits(moved)
    return PhotoReport(
        photos=count,
        truths=curve.people,
        recall=recall,
        precision=precision,
        recall_at_85=curve.recall_at_precision(0.85)[0],
        keypoints=known,
        pck_02=shares[0],
        pck_05=shares[1],
        moved_keypoints=moved_known,
        moved_pck_02=moved_shares[0],
        moved_pck_05=moved_shares[1],
    )


def _on_outline(label: PersonLabel, source: str) -> Array | None:
    """Keypoints (17, 3) where they belong; None where nobody can say."""
    keypoints = label.keypoints["coco17"]
    if source != SHIFTED:
        return keypoints
    shift = None if label.mask is None else sideways(keypoints, label.mask)
    return None if shift is None else keypoints + np.array([shift, 0, 0], keypoints.dtype)


def detection_labels(photo: LabelledImage) -> tuple[DetectionLabels, list[PersonLabel]]:
    """One photo's people for the matcher, and those that count, in the matcher's order."""
    tall = [p for p in photo.people if not p.crowd and p.box[3] - p.box[1] >= MIN_HEIGHT]
    small = [p for p in photo.people if not p.crowd and p.box[3] - p.box[1] < MIN_HEIGHT]
    crowds = [p for p in photo.people if p.crowd]
    boxes = (
        np.array([p.box for p in group], np.float32).reshape(-1, 4)
        for group in (tall, small, crowds)
    )
    return DetectionLabels(*boxes), tall


def _keypoint_hits(pairs: list[tuple[Person, Array]]) -> tuple[tuple[float, float], int]:
    """PCK at 0.2 and 0.5 of the torso over all labelled keypoints, and their number."""
    if not pairs:
        return (float("nan"), float("nan")), 0
    predicted = np.stack([person.coco_2d for person, _ in pairs])
    truth = np.stack([label for _, label in pairs]).astype(np.float64)
    seen = truth[..., 2] > 0
    torso_known = seen[:, SHOULDERS + HIPS].all(-1)
    top, bottom = truth[:, SHOULDERS, :2].mean(1), truth[:, HIPS, :2].mean(1)
    torso = np.linalg.norm(top - bottom, axis=-1)
    keep = torso_known & (torso > 0)
    weight = seen[keep].astype(np.float64)
    arguments = (predicted[keep], truth[keep, :, :2], weight, torso[keep])
    known = weight.sum(-1)
    shares = [
        float(np.nansum(pck(*arguments, at=at) * known) / max(known.sum(), 1)) for at in (0.2, 0.5)
    ]
    return (shares[0], shares[1]), int(known.sum())
