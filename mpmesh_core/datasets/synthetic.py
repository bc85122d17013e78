"""datasets.synthetic: the project's own rendered scenes, as `mpmesh train synthesize` writes them.

In   synthetic/**/shard-00000.npz
Out  the open body of each person (`points` and `coco17` follow from it), boxes of what can be seen

Only who is seen at all is handed on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import roma
import torch

from mpmesh_core.datasets.catalogue import dataset_info
from mpmesh_core.datasets.files import home, need, reading
from mpmesh_core.datasets.record import FrameRecord, PersonRecord, Picture, SmplLabel
from mpmesh_core.training.scene import PersonTruth, ShardFolder

INFO = dataset_info("synthetic")


def read(root: Path, split: str) -> Iterator[FrameRecord]:
    """Scenes in the order of their shards."""
    folder = home(INFO, root)
    folders = sorted({path.parent for path in folder.rglob("shard-*.npz")})
    for place in folders or [need(INFO, folder / "shard-00000.npz")]:
        for path in sorted(place.glob("shard-*.npz")):
            yield from _shard(path, place.name)


def _shard(path: Path, sequence: str) -> Iterator[FrameRecord]:
    with reading(INFO, path):
        scenes = ShardFolder(path.parent, path.name)
        for index, scene in enumerate(scenes):
            people = (_person(truth) for truth in scene.people if truth.visible_box is not None)
            yield FrameRecord(
                dataset=INFO.name,
                sequence=f"{sequence}/{path.stem}",
                number=index,
                picture=Picture(path, index),
                width=scene.camera.width,
                height=scene.camera.height,
                people=tuple(people),
                camera=scene.camera,
            )


def _person(truth: PersonTruth) -> PersonRecord:
    rotations = torch.from_numpy(np.asarray(truth.rotations, np.float64))
    vectors = roma.rotmat_to_rotvec(rotations).numpy()
    box = truth.box if truth.visible_box is None else truth.visible_box
    return PersonRecord(
        box=box,
        points2d=dict(truth.keypoints),
        smpl=SmplLabel(
            global_orient=vectors[0],
            body_pose=vectors[1:].ravel(),
            betas=truth.betas,
            transl=truth.transl,
            body="open",
        ),
    )
