"""evaluation.detection: how well people are found, at IoU 0.5 with ignore regions.

In   per image: detected boxes (N, 4) [px] and scores (N,), labelled people with what to ignore
Out  DetectionScores: precision-recall curve, average precision, recall at a precision

The rule, after COCO's: detections are taken best first; each takes the free labelled person with
the largest IoU of at least 0.5. One that finds none is *ignored* (neither right nor wrong) when it
overlaps an ignored person by IoU 0.5, lies with half of its own area inside a crowd region, or is
itself lower than the minimum height; otherwise it is a false positive. People lower than the
minimum height are ignored people: finding them earns nothing, missing them costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from mpmesh_core.checks import check_shapes

Array = np.ndarray


def _no_boxes() -> Array:
    return np.zeros((0, 4), np.float32)


@dataclass(frozen=True)
class LabelledImage:
    """What is known about the people of one image; boxes are x1, y1, x2, y2 [px]."""

    people: Array  # (G, 4) each must be found
    ignored: Array = field(default_factory=_no_boxes)  # (I, 4) people that don't count
    crowds: Array = field(default_factory=_no_boxes)  # (C, 4) regions of uncounted people


@dataclass(frozen=True)
class Matches:
    """Which detections of one image are right, and who was found."""

    correct: Array  # (N,) bool, matched to a labelled person
    ignored: Array  # (N,) bool, neither right nor wrong
    person: Array  # (N,) int64, index of the matched labelled person or -1


@dataclass(frozen=True)
class DetectionScores:
    """Precision-recall curve over all images, one point per score, best first."""

    precision: Array  # (K,)
    recall: Array  # (K,)
    scores: Array  # (K,)
    people: int  # labelled people that count

    @property
    def average_precision(self) -> float:
        """Area under the curve with precision made non-increasing, at 101 recalls (COCO's)."""
        if not len(self.recall):
            return 0.0
        envelope = np.maximum.accumulate(self.precision[::-1])[::-1]
        at = np.searchsorted(self.recall, np.linspace(0, 1, 101), side="left")
        return float(np.where(at < len(envelope), np.append(envelope, 0.0)[at], 0.0).mean())

    def recall_at_precision(self, precision: float) -> tuple[float, float]:
        """The largest recall whose precision is at least `precision`, and its score threshold.

        Returns (0.0, inf) where no threshold reaches the precision.
        """
        good = np.flatnonzero(self.precision >= precision)
        if not len(good):
            return 0.0, float("inf")
        return float(self.recall[good[-1]]), float(self.scores[good[-1]])

    def at_threshold(self, threshold: float) -> tuple[float, float]:
        """Recall and precision of the detections with a score of at least `threshold`."""
        count = int((self.scores >= threshold).sum())
        if not count:
            return 0.0, 1.0
        return float(self.recall[count - 1]), float(self.precision[count - 1])


def box_iou(a: Array, b: Array) -> Array:
    """Intersection over union of boxes a (N, 4) and b (M, 4): (N, M)."""
    check_shapes(a=(a, ("N", 4)), b=(b, ("M", 4)))
    overlap = _overlap(a, b)
    union = _area(a)[:, None] + _area(b)[None] - overlap
    return overlap / np.maximum(union, 1e-9)


def ignore_low(labels: LabelledImage, min_height: float) -> LabelledImage:
    """Move the people lower than `min_height` [px] to the ignored ones."""
    tall = labels.people[:, 3] - labels.people[:, 1] >= min_height
    return LabelledImage(
        people=labels.people[tall],
        ignored=np.concatenate([labels.ignored, labels.people[~tall]]),
        crowds=labels.crowds,
    )


def match_detections(
    boxes: Array, scores: Array, labels: LabelledImage, min_height: float = 0.0, iou: float = 0.5
) -> Matches:
    """Match the detections of one image with its labelled people (rule: see the module).

    Args:
        boxes: (N, 4) [px].
        scores: (N,).
        labels: the image's people; those lower than `min_height` are ignored.
        min_height: [px], for labels and for unmatched detections alike.
        iou: overlap from which a detection counts as that person.
    """
    check_shapes(boxes=(boxes, ("N", 4)), scores=(scores, ("N",)))
    labels = ignore_low(labels, min_height)
    overlaps = box_iou(boxes, labels.people)
    person = np.full(len(boxes), -1, np.int64)
    free = np.ones(len(labels.people), bool)
    for index in np.argsort(-scores, kind="stable"):
        candidates = np.where(free, overlaps[index], -1.0)
        if len(candidates) and candidates.max() >= iou:
            person[index] = candidates.argmax()
            free[person[index]] = False
    correct = person >= 0
    excused = (boxes[:, 3] - boxes[:, 1]) < min_height
    if len(labels.ignored):
        excused |= box_iou(boxes, labels.ignored).max(axis=1, initial=0.0) >= iou
    if len(labels.crowds):
        inside = _overlap(boxes, labels.crowds) / np.maximum(_area(boxes)[:, None], 1e-9)
        excused |= inside.max(axis=1, initial=0.0) >= 0.5
    return Matches(correct, ~correct & excused, person)


def score_detections(
    images: Iterable[tuple[Array, Array, LabelledImage]], min_height: float = 0.0, iou: float = 0.5
) -> DetectionScores:
    """Precision and recall over images of (boxes (N, 4), scores (N,), labels)."""
    scores: list[Array] = []
    correct: list[Array] = []
    people = 0
    for boxes, image_scores, labels in images:
        matches = match_detections(boxes, image_scores, labels, min_height, iou)
        scores.append(image_scores[~matches.ignored])
        correct.append(matches.correct[~matches.ignored])
        people += len(ignore_low(labels, min_height).people)
    if not scores:
        return DetectionScores(np.zeros(0), np.zeros(0), np.zeros(0), 0)
    all_scores = np.concatenate(scores)
    order = np.argsort(-all_scores, kind="stable")
    hits = np.cumsum(np.concatenate(correct)[order])
    precision = hits / np.arange(1, len(hits) + 1)
    return DetectionScores(precision, hits / max(people, 1), all_scores[order], people)


def _area(boxes: Array) -> Array:
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)


def _overlap(a: Array, b: Array) -> Array:
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.prod(np.maximum(high - low, 0), axis=2)
