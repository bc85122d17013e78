"""predictions.mupots_files: joints as MuPoTS-3D's evaluation loads them: two .mat files.

preds_3d_kpt_mupots.mat holds a variable TSn_img_NNNNNN (P, 17, 3) [mm, camera frame] for each
picture, and preds_2d_kpt_mupots.mat beside it the same in 2D (P, 17, 2 or 3) [px].
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from mpmesh_core.datasets.record import FrameRecord
from mpmesh_core.errors import InputError, MissingFileError
from mpmesh_core.evaluation.predictions.files import read_mat
from mpmesh_core.evaluation.predictions.found import NOBODY, Found
from mpmesh_core.types import Array


class MupotsFiles:
    """People by frame.

    Args:
        path: the 3D file, or the folder of both.

    Raises:
        MissingFileError: one of the two isn't there.
        InputError: nothing of this format in them.
    """

    def __init__(self, path: Path) -> None:
        solid = path / "preds_3d_kpt_mupots.mat" if path.is_dir() else path
        flat = solid.with_name(solid.name.replace("3d", "2d"))
        for file in (solid, flat):
            if not file.is_file() or flat == solid:
                raise MissingFileError(
                    f"{file} does not exist: MuPoTS-3D's predictions are two files with 3d and 2d "
                    "in their names, side by side"
                )
        self._path = solid
        self._joints, self._points = _people(solid, 3), _people(flat, 2)
        for name, joints in self._joints.items():
            if len(self._points.get(name, ())) != len(joints):
                raise InputError(f"{flat}, {name}: not as many people as in {solid.name}")

    @property
    def frames(self) -> set[str]:
        """Names of the frames."""
        return set(self._joints)

    def __call__(self, record: FrameRecord) -> Found:
        """The people of a frame."""
        name = f"{record.sequence}/{record.number}"
        if name not in self._joints:
            return NOBODY
        joints = self._joints[name]
        return Found(
            count=len(joints),
            joints={"mpi17": joints / 1000},
            points={"mpi17": self._points[name]},
            source=str(self._path),
        )


def _people(path: Path, size: int) -> dict[str, Array]:
    people = {}
    for variable, values in read_mat(path).items():
        name = re.fullmatch(r"(TS\d+)_img_(\d+)", variable)
        if name:
            people[f"{name[1]}/{int(name[2])}"] = _points(values, size, f"{path}, {variable}")
    if not people:
        raise InputError(f"{path} holds no variable TSn_img_NNNNNN as MuPoTS-3D's format has them")
    return people


def _points(values: Any, size: int, source: str) -> Array:
    points = np.asarray(values)
    if not points.size:
        return np.zeros((0, 17, size))
    if points.ndim == 2:
        points = points[None]
    if points.ndim != 3 or points.shape[1] != 17 or points.shape[2] < size:
        raise InputError(f"{source} must have shape (P, 17, {size}), got {points.shape}")
    if points.dtype.kind not in "fiu":
        raise InputError(f"{source} is no array of real numbers but of {points.dtype}")
    return points[..., :size].astype(np.float64)
