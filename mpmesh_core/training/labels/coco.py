"""labels.coco: the small COCO subset (YOLO boxes, polygons) and COCO keypoint files.

In   coco128x2 folder: images/SPLIT/*.jpg, object_detection/labels/SPLIT/*.txt (class, centre and
     size as shares of the picture, person = 0), instance_segmentation/labels/SPLIT/*.txt
     (category, polygon, person = 1); or a COCO keypoints JSON
Out  a `LabelledImage` a photo with its people: boxes, masks where there are polygons, `coco17`

The keypoint file is for evaluation: `keypoint_image_names` is what training must leave out.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mpmesh_core.datasets.boxes import mask_box
from mpmesh_core.datasets.coco import box_and_keypoints
from mpmesh_core.training.labels.base import LabelledImage, PersonLabel, existing, picture_size

Array = np.ndarray

_BOX_PERSON = 0
_POLYGON_PERSON = 1


def read_coco_subset(folder: str | Path, exclude: Collection[str] = ()) -> Iterator[LabelledImage]:
    """Yield the photos of both splits, also those without people.

    Args:
        folder: the coco128x2 folder.
        exclude: photo names (`000000000136.jpg`) to leave out.
    """
    root = existing(Path(folder), "COCO subset")
    existing(root / "images", "COCO subset's pictures")
    for path in sorted(root.glob("images/*/*.jpg")):
        if path.name in exclude:
            continue
        encoded = path.read_bytes()
        width, height = picture_size(encoded, str(path))
        label = Path(path.parent.name) / f"{path.stem}.txt"
        boxes = _boxes(root / "object_detection" / "labels" / label, width, height)
        masks = _masks(root / "instance_segmentation" / "labels" / label, width, height)
        people = _match(boxes, masks)
        yield LabelledImage(path.name, "coco128", encoded, width, height, people)


def read_coco_keypoints(json_path: str | Path, images: str | Path) -> Iterator[LabelledImage]:
    """Yield the photos of a COCO keypoints file, each person with `coco17`.

    Boxes and keypoints are made of its rows as `datasets.coco` does it.

    Args:
        json_path: the annotation file.
        images: folder that its file names start from.
    """
    stored = json.loads(existing(Path(json_path), "COCO keypoints").read_text())
    for entry in stored["images"]:
        path = existing(Path(images) / entry["file_name"], "photo of the keypoints file")
        rows = [a for a in stored["annotations"] if a["image_id"] == entry["id"]]
        people = tuple(_keypoint_person(row) for row in rows)
        yield LabelledImage(
            path.name, "coco_keypoints", path.read_bytes(), entry["width"], entry["height"], people
        )


def keypoint_image_names(json_path: str | Path) -> frozenset[str]:
    """Return the names of the photos in a COCO keypoints file (test photos: never train on)."""
    stored = json.loads(existing(Path(json_path), "COCO keypoints").read_text())
    return frozenset(Path(entry["file_name"]).name for entry in stored["images"])


def _keypoint_person(row: dict[str, Any]) -> PersonLabel:
    box, keypoints = box_and_keypoints(row)
    return PersonLabel(box, {"coco17": keypoints}, crowd=bool(row.get("iscrowd", 0)))


def _lines(path: Path) -> list[list[float]]:
    if not path.exists():  # a picture without objects has no file
        return []
    return [[float(word) for word in line.split()] for line in path.read_text().splitlines()]


def _boxes(path: Path, width: int, height: int) -> list[Array]:
    size = np.array([width, height], np.float32)
    rows = [np.array(line[1:5], np.float32) for line in _lines(path) if line[0] == _BOX_PERSON]
    halves = [(row[:2] * size, row[2:] * size / 2) for row in rows]
    return [np.concatenate([centre - half, centre + half]) - 0.5 for centre, half in halves]


def _masks(path: Path, width: int, height: int) -> list[Array]:
    masks = []
    for line in _lines(path):
        if line[0] == _POLYGON_PERSON:
            corners = np.array(line[1:], np.float32).reshape(-1, 2) * [width, height] - 0.5
            mask = np.zeros((height, width), np.uint8)
            cv2.fillPoly(mask, [corners.round().astype(np.int32)], 1)
            masks.append(mask.astype(bool))
    return [mask for mask in masks if mask.any()]


def _match(boxes: list[Array], masks: list[Array], least: float = 0.6) -> tuple[PersonLabel, ...]:
    """Give each box the mask that fills it best (IoU of the boxes at least `least`)."""
    outlines = [mask_box(mask) for mask in masks]
    people = []
    for box in boxes:
        overlaps = [_iou(box, outline) for outline in outlines]
        best = int(np.argmax(overlaps)) if overlaps else -1
        mask = masks[best] if overlaps and overlaps[best] >= least else None
        people.append(PersonLabel(box=box.astype(np.float32), mask=mask))
    return tuple(people)


def _iou(a: Array, b: Array) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = float(np.prod(np.clip(sides, 0, None)))
    return common / (float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - common + 1e-6)
