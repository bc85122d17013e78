"""datasets.coco: COCO keypoints of 2017.

In   COCO/annotations/person_keypoints_train2017.json, train2017/*.jpg (or images/train2017/)
Out  2D `coco17`, boxes; crowds are marked, people without keypoints have boxes only

COCO's boxes count from the corner of the first pixel and are moved by half a pixel; its keypoints
are pixel indices already.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mpmesh_core.datasets.boxes import corner_box, keypoint_box
from mpmesh_core.datasets.catalogue import dataset_info
from mpmesh_core.datasets.files import home, need, read_json, reading
from mpmesh_core.datasets.record import FrameRecord, PersonRecord, Picture
from mpmesh_core.types import Array

INFO = dataset_info("coco")
YEAR = "2017"


def read(root: Path, split: str) -> Iterator[FrameRecord]:
    """Photos with people, in the order of the file."""
    folder = home(INFO, root)
    path = folder / "annotations" / f"person_keypoints_{split}{YEAR}.json"
    content = read_json(INFO, path)
    pictures = need(INFO, folder / f"{split}{YEAR}", folder / "images" / f"{split}{YEAR}")
    with reading(INFO, path):
        people: dict[int, list[PersonRecord]] = defaultdict(list)
        for row in content["annotations"]:
            box, keypoints = box_and_keypoints(row)
            labels = {"coco17": keypoints} if keypoints[:, 2].any() else {}
            crowd = bool(row.get("iscrowd", 0))
            people[row["image_id"]].append(PersonRecord(box, labels, crowd=crowd))
        images = [
            (i["id"], str(i["file_name"]), int(i["width"]), int(i["height"]))
            for i in content["images"]
        ]
    for number, name, width, height in images:
        if number in people:
            yield FrameRecord(
                dataset=INFO.name,
                sequence=split,
                number=number,
                picture=Picture(need(INFO, pictures / name)),
                width=width,
                height=height,
                people=tuple(people[number]),
            )


def box_and_keypoints(row: dict[str, Any]) -> tuple[Array, Array]:
    """Box (4,) and keypoints (17, 3) px, weight, of one annotation.

    A keypoint counts whether it is seen or not, as long as it is labelled. A person without a box
    gets that of the keypoints.
    """
    keypoints = np.array(row["keypoints"], np.float32).reshape(-1, 3)
    keypoints = np.where(keypoints[:, 2:] > 0, keypoints, 0).astype(np.float32)
    keypoints[:, 2] = keypoints[:, 2] > 0
    box = keypoint_box(keypoints) if row.get("bbox") is None else corner_box(row["bbox"])
    return box, keypoints
