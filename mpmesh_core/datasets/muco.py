"""datasets.muco: MuCo-3DHP, several people of MPI-INF-3DHP put into one picture.

In   MuCo-3DHP/MuCo-3DHP.json in COCO's form (`images` with f, c; `annotations` with keypoints_cam
     in mm, keypoints_img, keypoints_vis, bbox), unaugmented_set/ and augmented_set/ (also in data/)
Out  2D and 3D `muco21` of each person, boxes

The official archive makes the composites with MATLAB; this JSON is how they are commonly shared.
Pixels are taken as indices from 0, as projecting the 3D gives the 2D; boxes likewise. The people
of the training frames are cut out and pasted, so nobody else is in the picture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mpmesh_core.camera import Camera
from mpmesh_core.datasets.catalogue import dataset_info
from mpmesh_core.datasets.files import home, need, read_json, reading
from mpmesh_core.datasets.record import FrameRecord, PersonRecord, Picture

INFO = dataset_info("muco")


def read(root: Path, split: str) -> Iterator[FrameRecord]:
    """Pictures with people, in the order of the file."""
    folder = home(INFO, root, "data")
    path = folder / "MuCo-3DHP.json"
    content = read_json(INFO, path)
    with reading(INFO, path):
        rows: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for row in content["annotations"]:
            rows[row["image_id"]].append(row)
        images = list(content["images"])
    for image in images:
        with reading(INFO, path):
            people = tuple(_person(row) for row in rows[image["id"]])
            camera = _camera(image)
            name, number = str(image["file_name"]), int(image["id"])
        if people:
            yield FrameRecord(
                dataset=INFO.name,
                sequence=name.split("/", 1)[0],
                number=number,
                picture=Picture(need(INFO, folder / name)),
                width=camera.width,
                height=camera.height,
                people=people,
                camera=camera,
            )


def _camera(image: dict[str, Any]) -> Camera:
    (fx, fy), (cx, cy) = image["f"], image["c"]
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    return Camera(K, np.zeros(0), "none", int(image["width"]), int(image["height"]))


def _person(row: dict[str, Any]) -> PersonRecord:
    joints = np.array(row["keypoints_cam"], np.float64).reshape(21, 3) / 1000
    pixels = np.array(row["keypoints_img"], np.float64).reshape(21, 2)
    x, y, w, h = (float(value) for value in row["bbox"])
    ones = np.ones((21, 1))  # what is hidden is known all the same
    return PersonRecord(
        box=np.array([x, y, x + w, y + h], np.float32),
        points2d={"muco21": np.concatenate((pixels, ones), 1).astype(np.float32)},
        points3d={"muco21": np.concatenate((joints, ones), 1).astype(np.float32)},
    )
