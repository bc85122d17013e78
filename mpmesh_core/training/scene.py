"""scene: a picture with known people, the one form in which training data is kept.

Synthetic pictures and fitted real photos both become a `Scene`, so every trainer reads one thing.
Scenes are stored as shards: a folder of `shard-00000.npz`, ... with JPEG bytes and plain arrays.
Frames and units as everywhere: camera optical frame, metres, radians, pixels with the centre of
the first pixel at (0, 0).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mpmesh_core.camera import Camera
from mpmesh_core.errors import InputError, MissingFileError, refusing
from mpmesh_core.outputs import bytes_of, write_file

Array = np.ndarray
JPEG_QUALITY = 92
MAX_DISTORTION = 14  # coefficients that the longest lens model of OpenCV has


@dataclass(frozen=True)
class PersonTruth:
    """What is known of one person in a picture."""

    rotations: (
        Array  # (24, 3, 3) float32, joint 0 in the camera frame, the others in their parent's
    )
    betas: Array  # (10,) float32
    transl: Array  # (3,) float32 [m], camera frame; pelvis = transl + J0(betas)
    box: Array  # (4,) float32 x1, y1, x2, y2 [px], the whole person, also beyond the picture
    visible_box: Array | None  # (4,) float32 [px], what can be seen; None when nothing can
    visibility: float  # visible pixels / pixels of the whole person, beyond the picture too
    weight_3d: float = 1.0  # trust in rotations, betas and transl; 0 when only keypoints are known
    keypoints: dict[str, Array] = field(default_factory=dict)  # convention -> (K, 3) u, v, weight
    source: str = ""  # where the person comes from: a motion clip or a data set


@dataclass(frozen=True)
class Scene:
    """One picture, its camera and its people."""

    image: Array  # (H, W, 3) uint8 RGB
    camera: Camera
    people: list[PersonTruth]
    jpeg: bytes | None = None  # the picture as a file, where one exists: spares a second encoding


def encode_jpeg(image: Array, quality: int = JPEG_QUALITY) -> bytes:
    """JPEG bytes of a picture (H, W, 3) uint8 RGB."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)[1])


def decode_jpeg(jpeg: bytes | Array) -> Array:
    """The picture (H, W, 3) uint8 RGB of JPEG bytes."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError("a picture in a shard is no JPEG: the file is damaged, make it anew")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def write_shard(path: Path | str, scenes: Iterable[Scene]) -> int:
    """Write one shard; a kill leaves the old file or the new one, never half of one.

    Returns:
        The number of scenes written.

    Raises:
        InputError: disk full and the like.
    """
    scenes = list(scenes)
    arrays: dict[str, Any] = _pack_scenes(scenes) | _pack_people(scenes)
    write_file(Path(path), bytes_of(np.savez, **arrays))
    return len(scenes)


class ShardFolder:
    """Read access to a folder of shards; each shard is loaded once, at its first use."""

    def __init__(self, folder: Path | str, pattern: str = "shard-*.npz") -> None:
        self.paths = sorted(Path(folder).glob(pattern))
        if not self.paths:
            raise MissingFileError(
                f"no shard-*.npz in {folder}: make them with `mpmesh train synthesize`"
            )
        self._loaded: list[dict[str, Array] | None] = [None] * len(self.paths)
        counts = [count_scenes(path) for path in self.paths]
        self._starts = np.cumsum([0, *counts])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        number = int(np.searchsorted(self._starts, index, "right")) - 1
        return _unpack_scene(self._shard(number), index - int(self._starts[number]))

    def __iter__(self) -> Iterator[Scene]:
        return (self[index] for index in range(len(self)))

    def _shard(self, number: int) -> dict[str, Array]:
        shard = self._loaded[number]
        if shard is None:
            with _reading(self.paths[number]), np.load(self.paths[number]) as file:
                shard = {name: file[name] for name in file.files}
            self._loaded[number] = shard
        return shard


def count_scenes(path: Path) -> int:
    """The number of scenes in a shard."""
    with _reading(path), np.load(path) as file:
        return len(file["K"])


def _reading(path: Path) -> AbstractContextManager[None]:
    return refusing(f"{path} is no shard of scenes", ": make it anew")


def _pack_scenes(scenes: list[Scene]) -> dict[str, Array]:
    jpegs = [scene.jpeg or encode_jpeg(scene.image) for scene in scenes]
    cameras = [scene.camera for scene in scenes]
    D = np.full((len(scenes), MAX_DISTORTION), np.nan)
    for row, camera in zip(D, cameras):
        row[: len(camera.D)] = camera.D
    return {
        "jpeg": np.frombuffer(b"".join(jpegs), np.uint8),
        "jpeg_end": np.cumsum([len(jpeg) for jpeg in jpegs], dtype=np.int64),
        "K": np.array([camera.K for camera in cameras], np.float64).reshape(-1, 3, 3),
        "D": D,
        "model": np.array([camera.model for camera in cameras], "U32"),
        "size": np.array([(c.width, c.height) for c in cameras], np.int32).reshape(-1, 2),
        "people_end": np.cumsum([len(scene.people) for scene in scenes], dtype=np.int64),
    }


def _pack_people(scenes: list[Scene]) -> dict[str, Array]:
    people = [person for scene in scenes for person in scene.people]
    nowhere = np.full(4, np.nan, np.float32)
    boxes = [nowhere if p.visible_box is None else p.visible_box for p in people]
    arrays = {
        "rotations": np.array([p.rotations for p in people], np.float32).reshape(-1, 24, 3, 3),
        "betas": np.array([p.betas for p in people], np.float32).reshape(-1, 10),
        "transl": np.array([p.transl for p in people], np.float32).reshape(-1, 3),
        "box": np.array([p.box for p in people], np.float32).reshape(-1, 4),
        "visible_box": np.array(boxes, np.float32).reshape(-1, 4),
        "visibility": np.array([p.visibility for p in people], np.float32),
        "weight_3d": np.array([p.weight_3d for p in people], np.float32),
        "source": np.array([p.source for p in people], "U64"),
    }
    shapes = {name: points.shape for p in people for name, points in p.keypoints.items()}
    for name, shape in shapes.items():
        absent = np.full(shape, np.nan, np.float32)
        rows = [p.keypoints.get(name, absent) for p in people]
        arrays[f"keypoints_{name}"] = np.array(rows, np.float32)
    return arrays


def _unpack_scene(shard: dict[str, Array], index: int) -> Scene:
    first, last = _span(shard["jpeg_end"], index)
    start, end = _span(shard["people_end"], index)
    D = shard["D"][index]
    width, height = (int(side) for side in shard["size"][index])
    camera = Camera(
        K=shard["K"][index],
        D=D[~np.isnan(D)],
        model=str(shard["model"][index]),
        width=width,
        height=height,
    )
    jpeg = shard["jpeg"][first:last].tobytes()
    people = [_unpack_person(shard, row) for row in range(start, end)]
    return Scene(decode_jpeg(jpeg), camera, people, jpeg)


def _span(ends: Array, index: int) -> tuple[int, int]:
    return (int(ends[index - 1]) if index else 0), int(ends[index])


def _unpack_person(shard: dict[str, Array], row: int) -> PersonTruth:
    visible_box = shard["visible_box"][row]
    keypoints = {
        name.removeprefix("keypoints_"): values[row]
        for name, values in shard.items()
        if name.startswith("keypoints_") and not np.isnan(values[row]).all()
    }
    return PersonTruth(
        rotations=shard["rotations"][row],
        betas=shard["betas"][row],
        transl=shard["transl"][row],
        box=shard["box"][row],
        visible_box=None if np.isnan(visible_box).any() else visible_box,
        visibility=float(shard["visibility"][row]),
        weight_3d=float(shard["weight_3d"][row]),
        keypoints=keypoints,
        source=str(shard["source"][row]),
    )
