"""skeleton_data: people as the skeleton network learns them.

A `PeopleStore` holds one patch of picture per person with a pinhole camera and labels in several
conventions, each point with a weight (0 = unknown). `PeopleStore.crop` turns a person into a
network input: a crop camera as `mpmesh_core.crop` would aim it at a jittered box, and every label
carried into it. 3D in metres, axes of the (crop) camera; 2D in pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from mpmesh_core.errors import InputError, MissingFileError, MPMeshError, refusing
from mpmesh_core.joints import COCO_FLIP, LSP_FLIP, POINT_FLIP, TWIST_FLIP
from mpmesh_core.outputs import bytes_of, prepare_folder, write_file
from mpmesh_core.training.augment import AugmentConfig
from mpmesh_core.training.views import MARGIN, View, draw_view, look

Array = np.ndarray

MEDIAPIPE_FLIP = (
    0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21, 24, 23,
    26, 25, 28, 27, 30, 29, 32, 31,
)  # fmt: skip
FLIPS = {"points": POINT_FLIP, "lsp": LSP_FLIP, "coco": COCO_FLIP, "mediapipe": MEDIAPIPE_FLIP}
"""Label conventions and the mirror twin of each of their points."""
LABELS = ("K", "box", "twist", "betas", "root") + tuple(
    f"{name}{axes}d" for name in FLIPS for axes in (3, 2)
)
"""Names of `PersonSample.arrays`."""
_PATCH_SIDE = 288.0  # [px] that a box with its margin takes at most in a stored patch
_PATCH_CONTEXT = 1.4  # patch side over crop side
OUTSIDE_PX = 8.0  # 2D labels count up to this far beyond the crop [px of a 256 px crop]


@dataclass
class PersonSample:
    """One labelled person in a picture or patch.

    Attributes:
        K: (3, 3) pinhole camera of the picture.
        box: (4,) x1, y1, x2, y2 of the whole person [px].
        points3d: convention -> (J, 4) x, y, z [m, camera axes, any origin], weight.
        points2d: convention -> (J, 3) u, v [px], weight.
        twist: (23, 3) cos, sin, weight.
        betas: (11,) shape, weight.
        root: (4,) pelvis in the camera frame [m], weight.
    """

    K: Array
    box: Array
    points3d: dict[str, Array] = field(default_factory=dict)
    points2d: dict[str, Array] = field(default_factory=dict)
    twist: Array = field(default_factory=lambda: np.zeros((23, 3), np.float32))
    betas: Array = field(default_factory=lambda: np.zeros(11, np.float32))
    root: Array = field(default_factory=lambda: np.zeros(4, np.float32))

    def arrays(self) -> dict[str, Array]:
        """All labels by flat names, unknown conventions as zeros; fixed shapes."""
        named = {"K": self.K, "box": self.box, "twist": self.twist}
        named |= {"betas": self.betas, "root": self.root}
        for name, flip in FLIPS.items():
            named[f"{name}3d"] = self.points3d.get(name, np.zeros((len(flip), 4)))
            named[f"{name}2d"] = self.points2d.get(name, np.zeros((len(flip), 3)))
        return {name: np.asarray(value, np.float32) for name, value in named.items()}


def write_people(folder: Path | str, people: Iterable[tuple[Array, PersonSample]]) -> int:
    """Store people as patches and labels; returns their number.

    Args:
        folder: made if need be; what it holds is replaced when all are stored.
        people: (picture (H, W, 3) uint8 RGB, its labels).

    Raises:
        InputError: nobody to store, or no room; nothing is written.
    """
    people = iter(people)
    first = next(people, None)
    if first is None:
        raise InputError(
            f"nobody to store in {folder}: the source holds no person with labels who is as large "
            "and as visible as asked (--least-size; scenes: --least-visible)"
        )
    folder = prepare_folder(folder)
    patches = folder / "patches.bin.partial"
    rows, shapes = [], []
    try:
        with patches.open("wb") as file:
            for picture, sample in chain([first], people):
                patch, arrays = _cut_patch(picture, sample.arrays())
                file.write(patch.tobytes())
                rows.append(arrays)
                shapes.append(patch.shape[:2])
        labels = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        labels["patch_shape"] = np.array(shapes, np.int64)
        write_file(folder / "labels.npz", bytes_of(np.savez, **labels))
        os.replace(patches, folder / "patches.bin")
    except MPMeshError:
        raise
    except OSError as error:
        raise InputError(f"people cannot be written to {folder}: {error.strerror}") from None
    finally:
        patches.unlink(missing_ok=True)
    return len(rows)


def _cut_patch(picture: Array, labels: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
    """The part of a picture around a person, no larger than a crop can use."""
    box = labels["box"]
    side = max(float((box[2:] - box[:2]).max()), 2.0) * MARGIN
    scale = min(1.0, _PATCH_SIDE / side)
    centre, half = (box[:2] + box[2:]) / 2, side * _PATCH_CONTEXT / 2
    limit = np.array(picture.shape[1::-1])
    low = np.clip(np.floor(centre - half), 0, limit - 2).astype(int)
    high = np.clip(np.ceil(centre + half), low + 2, limit).astype(int)
    patch = picture[low[1] : high[1], low[0] : high[0]]
    size = np.maximum(np.round((high - low) * scale), 2).astype(int)
    patch = cv2.resize(patch, tuple(map(int, size)), interpolation=cv2.INTER_AREA)
    zoom = size / (high - low)
    A = np.eye(3, dtype=np.float32)
    A[[0, 1], [0, 1]] = zoom
    A[:2, 2] = (0.5 - low) * zoom - 0.5
    moved = dict(labels)
    moved["K"] = A @ labels["K"]
    moved["box"] = (box.reshape(2, 2) * zoom + A[:2, 2]).reshape(4)
    for name in FLIPS:
        points = labels[f"{name}2d"].copy()
        points[:, :2] = points[:, :2] * zoom + A[:2, 2]
        moved[f"{name}2d"] = points
    return np.ascontiguousarray(patch), {k: v.astype(np.float32) for k, v in moved.items()}


class PeopleStore:
    """Random access to stored people; patches stay on disk (mapped), labels in memory."""

    def __init__(self, folder: Path | str) -> None:
        folder = Path(folder)
        if not (folder / "patches.bin").is_file():
            raise MissingFileError(f"no people in {folder}: build the folder first")
        advice = ": build the folder anew"
        with (
            refusing(f"{folder / 'labels.npz'} holds no labels of people", advice),
            np.load(folder / "labels.npz") as file,
        ):
            self.labels = {name: file[name] for name in file.files}
            self._shapes = self.labels.pop("patch_shape")
            self._ends = np.cumsum(self._shapes.prod(1) * 3)
        with refusing(f"{folder / 'patches.bin'} holds no pictures of people", advice):
            self._bytes = np.memmap(folder / "patches.bin", np.uint8, "r")
        if len(self._bytes) != self._ends[-1]:
            raise InputError(f"{folder}: patches.bin does not fit labels.npz{advice}")

    def __len__(self) -> int:
        return len(self._shapes)

    def patch(self, index: int) -> Array:
        """(H, W, 3) uint8 RGB picture around one person."""
        height, width = self._shapes[index]
        end = int(self._ends[index])
        return np.asarray(self._bytes[end - height * width * 3 : end]).reshape(height, width, 3)

    @property
    def patches(self) -> Array:
        """All patches, one behind the other, as flat bytes."""
        return self._bytes

    def place(self, index: int) -> tuple[int, Array]:
        """Where a patch begins in `patches`, and its height and width."""
        shape = self._shapes[index]
        return int(self._ends[index] - shape.prod() * 3), shape

    def view(
        self, index: int, rng: np.random.Generator, augment: AugmentConfig, size: int
    ) -> tuple[View, dict[str, Array]]:
        """How a network input sees a person, and its labels.

        Returns:
            the view of the person's patch; `K` of the crop and the labels of
            `PersonSample.arrays`, 3D in the crop camera's axes, 2D in crop px with weight 0
            outside of the crop.
        """
        labels = {name: values[index] for name, values in self.labels.items()}
        view, K_crop, R = draw_view(
            labels["box"], labels["K"], self._shapes[index], len(self), rng, augment, size
        )
        labels = _carry(labels, R, view.H, size) | {"K": K_crop.astype(np.float32)}
        return view, mirror(labels, size) if view.mirrored else labels

    def crop(
        self, index: int, rng: np.random.Generator, augment: AugmentConfig, size: int
    ) -> dict[str, Array]:
        """One network input with its labels: `image` (3, size, size) uint8, and as `view` says."""
        view, labels = self.view(index, rng, augment, size)
        donor = self.patch(view.donor) if view.donor >= 0 else None
        image = look(view, self.patch(index), donor, size)
        return {"image": np.ascontiguousarray(image.transpose(2, 0, 1)), **labels}


def _carry(labels: dict[str, Array], R: Array, H: Array, size: int) -> dict[str, Array]:
    """Labels of a patch seen by a crop camera turned by R, pixels moved by H."""
    carried = dict(labels)
    limit = OUTSIDE_PX * size / 256
    for name in FLIPS:
        points = labels[f"{name}3d"].copy()
        points[:, :3] = points[:, :3] @ R.T
        pixels = labels[f"{name}2d"].copy()
        moved = np.concatenate((pixels[:, :2], np.ones((len(pixels), 1))), 1) @ H.T
        pixels[:, :2] = moved[:, :2] / moved[:, 2:]
        inside = (pixels[:, :2] > -limit) & (pixels[:, :2] < size - 1 + limit)
        pixels[:, 2] *= inside.all(1)
        carried[f"{name}3d"], carried[f"{name}2d"] = points, pixels
    carried["root"] = np.append(R @ labels["root"][:3], labels["root"][3]).astype(np.float32)
    return carried


def mirror(labels: dict[str, Array], size: int) -> dict[str, Array]:
    """Labels of the left-right mirrored crop: sides swapped, x and the twists' sines negated."""
    mirrored = dict(labels)
    for name, flip in FLIPS.items():
        points, pixels = labels[f"{name}3d"][list(flip)], labels[f"{name}2d"][list(flip)]
        points[:, 0] *= -1
        pixels[:, 0] = size - 1 - pixels[:, 0]
        mirrored[f"{name}3d"], mirrored[f"{name}2d"] = points, pixels
    mirrored["twist"] = labels["twist"][list(TWIST_FLIP)] * np.array([1, -1, 1], np.float32)
    mirrored["root"] = labels["root"] * np.array([-1, 1, 1, 1], np.float32)
    return mirrored
