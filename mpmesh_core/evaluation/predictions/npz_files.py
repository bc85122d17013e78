"""predictions.npz_files: people as rows of an .npz, for any of the data sets.

`image` (N,) paths of the pictures, at least their last two parts; AGORA's by name alone. Then, as
far as a protocol asks for them: `person` (N,) whom of a 3DPW sequence a row is, `joints2d`
(N, J, 2) [px], `joints3d` (N, J, 3) [m, camera frame], with J = 24 (SMPL) or 17 (MuPoTS),
`vertices` (N, V, 3) [m], or `pose` (N, 72), `betas` (N, 10) and `transl` (N, 3).
Also read: `image_path` and `coords3d_pred_world` (N, 17, 3) [mm], as MeTRAbs saves MuPoTS; its 2D
joints are projected by the camera of the sequence.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from mpmesh_core.body import BodyModel
from mpmesh_core.datasets.boxes import tight_boxes
from mpmesh_core.datasets.record import FrameRecord
from mpmesh_core.errors import InputError, refusing
from mpmesh_core.evaluation.predictions.bodies import pose_bodies
from mpmesh_core.evaluation.predictions.found import NOBODY, Found, frame_name
from mpmesh_core.types import Array

_NAMES = ("image", "image_path")
_COLUMNS = {"joints2d": (2, 3), "joints3d": (3,), "vertices": (3,), "coords3d_pred_world": (3,)}
_ROWS = ("person", "pose", "betas", "transl", *_COLUMNS)
_CONVENTIONS = {24: "smpl24", 17: "mpi17"}


class NpzRows:
    """People by frame.

    Args:
        path: the file.
        dataset: whose pictures they are.
        body: poses SMPL parameters.

    Raises:
        InputError: not of this format.
    """

    def __init__(self, path: Path, dataset: str, body: BodyModel | None) -> None:
        self._path, self._dataset, self._body = path, dataset, body
        self._arrays = _load(path)
        names = self._arrays.pop("image", self._arrays.pop("image_path", None))
        if names is None:
            raise InputError(f"{path} has no 'image': the picture of each row")
        for name, array in self._arrays.items():
            if len(array) != len(names):
                raise InputError(f"{path}: '{name}' has {len(array)} rows, 'image' {len(names)}")
        if "coords3d_pred_world" in self._arrays:
            self._arrays["joints3d"] = self._arrays.pop("coords3d_pred_world").astype(float) / 1000
        self._rows: dict[str, list[int]] = defaultdict(list)
        with refusing(f"{path}: 'image' holds no names of pictures"):
            for row, name in enumerate(names.tolist()):
                text = name.decode() if isinstance(name, bytes) else str(name)
                self._rows[frame_name(dataset, text)].append(row)

    @property
    def frames(self) -> set[str]:
        """Names of the frames."""
        return set(self._rows)

    def __call__(self, record: FrameRecord) -> Found:
        """The people of a frame."""
        rows = self._rows.get(frame_name(self._dataset, record.picture.path), [])
        if not rows:
            return NOBODY
        arrays = {name: array[rows].astype(np.float64) for name, array in self._arrays.items()}
        joints, vertices = {}, arrays.get("vertices")
        if "pose" in arrays and vertices is None:
            pose, betas, transl = (self._array(arrays, x) for x in ("pose", "betas", "transl"))
            posed = pose_bodies(self._body, pose, betas, transl, str(self._path))
            joints["smpl24"], vertices = posed
        if "joints3d" in arrays:
            joints[self._convention("joints3d")] = arrays["joints3d"]
        points = {}
        if "joints2d" in arrays:
            points[self._convention("joints2d")] = arrays["joints2d"][..., :2]
        elif record.camera is not None:
            points = {name: record.camera.project(value) for name, value in joints.items()}
        flat = points.get("smpl24")
        return Found(
            count=len(rows),
            joints=joints,
            points=points,
            boxes=None if flat is None else tight_boxes(flat),
            vertices=vertices,
            transl=arrays.get("transl"),
            identity=arrays["person"].astype(np.int64) if "person" in arrays else None,
            source=str(self._path),
        )

    def _array(self, arrays: dict[str, Array], name: str) -> Array:
        if name not in arrays:
            raise InputError(f"{self._path} has 'pose' but no '{name}'")
        return arrays[name]

    def _convention(self, name: str) -> str:
        count = self._arrays[name].shape[1]
        if count not in _CONVENTIONS:
            raise InputError(f"{self._path}: '{name}' has {count} joints; 24 or 17 are known")
        return _CONVENTIONS[count]


def _load(path: Path) -> dict[str, Array]:
    with refusing(f"{path} is no readable .npz"), np.load(path, allow_pickle=False) as file:
        found = {name: file[name] for name in (*_NAMES, *_ROWS) if name in file.files}
    for name, array in found.items():
        if name in _COLUMNS and (array.ndim != 3 or array.shape[2] not in _COLUMNS[name]):
            columns = " or ".join(map(str, _COLUMNS[name]))
            raise InputError(f"{path}: '{name}' must be (N, J, {columns}), got {array.shape}")
        if not array.ndim or (name in (*_NAMES, "person") and array.ndim != 1):
            raise InputError(f"{path}: '{name}' must have a row a person, got {array.shape}")
        if name in _ROWS and array.dtype.kind not in "fiu":
            raise InputError(f"{path}: '{name}' must hold numbers, got {array.dtype}")
    return found
