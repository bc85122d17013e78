"""training.detection_teachers: boxes of people from public detectors, for photos without labels.

In   image (H, W, 3) uint8 RGB, several detectors
Out  sure boxes (used as labels) and doubtful ones (ignored in training)

Every teacher sees the image and its mirror image, at each of its sizes. Boxes of one person from
several looks are averaged by score; a person's confidence is the mean score over all looks, zero
where a look missed it. One detector's whim is thus doubtful, and what all agree on is a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpmesh_core.detect import Detector, EngineDetector, load_detector
from mpmesh_core.evaluation.detection import box_iou

Array = np.ndarray

SURE = 0.45  # mean score from which a box is a label
DOUBTFUL = 0.10  # mean score from which a box is ignored rather than background
SAME_PERSON_IOU = 0.6


@dataclass(frozen=True)
class TeacherBoxes:
    """What the teachers found in one image, [px]."""

    sure: Array  # (N, 4)
    doubtful: Array  # (M, 4)


def load_teachers(folder: Path, threads: int = 1) -> list[Detector]:
    """RTMDet-nano at two sizes and YOLOX-nano, from a folder with theirs as subfolders."""
    rtmdet = folder / "rtmdet-nano" / "end2end.onnx"
    yolox = folder / "yolox-nano" / "yolox_nano.onnx"
    teachers: list[Detector] = []
    for path, size in ((rtmdet, 320), (rtmdet, 448), (yolox, 416)):
        loaded = load_detector(path, max_people=100, score_threshold=0.05, threads=threads)
        teachers.append(
            EngineDetector(
                loaded.engine,
                loaded.decoder,
                size=size,
                score_threshold=0.05,
                max_people=100,
                canvas_size=loaded.canvas_size,
            )
        )
    return teachers


def label_image(image: Array, teachers: Sequence[Detector]) -> TeacherBoxes:
    """Sure and doubtful people of one image (H, W, 3) uint8 RGB."""
    looks = []
    for teacher in teachers:
        found = teacher.detect(image)
        looks.append(np.column_stack([found.boxes, found.scores]))
        found = teacher.detect(np.ascontiguousarray(image[:, ::-1]))
        mirrored = found.boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1]
        mirrored[:, [0, 2]] += image.shape[1] - 1
        looks.append(np.column_stack([mirrored, found.scores]))
    boxes, confidence = fuse(looks)
    return TeacherBoxes(
        boxes[confidence >= SURE], boxes[(confidence < SURE) & (confidence >= DOUBTFUL)]
    )


def fuse(looks: Sequence[Array]) -> tuple[Array, Array]:
    """Average the boxes of the same people over several looks.

    Args:
        looks: per look rows (n, 5) of x1, y1, x2, y2, score.

    Returns:
        Boxes (N, 4) and confidences (N,): mean score over all looks, best first.
    """
    rows = np.concatenate([np.column_stack([r, np.full(len(r), i)]) for i, r in enumerate(looks)])
    rows = rows[np.argsort(-rows[:, 4], kind="stable")].astype(np.float32)
    boxes, confidences = [], []
    while len(rows):
        same = box_iou(rows[:1, :4], rows[:, :4])[0] >= SAME_PERSON_IOU
        same[0] = True
        group = rows[same]
        _, first = np.unique(group[:, 5], return_index=True)  # best of each look
        group = group[first]
        boxes.append(np.average(group[:, :4], axis=0, weights=group[:, 4]))
        confidences.append(group[:, 4].sum() / len(looks))
        rows = rows[~same]
    order = np.argsort(-np.array(confidences), kind="stable")
    return (
        np.array(boxes, np.float32).reshape(-1, 4)[order],
        np.array(confidences, np.float32)[order],
    )
