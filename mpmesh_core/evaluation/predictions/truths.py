"""predictions.truths: what protocols need beside the data set: SMPL's files, lists of vertices."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.body.files import SMPL_VERTICES, smpl_folder
from mpmesh_core.datasets.agora import INFO
from mpmesh_core.datasets.files import home
from mpmesh_core.datasets.record import SmplLabel
from mpmesh_core.errors import InputError, MissingFileError, refusing
from mpmesh_core.evaluation.predictions.bodies import pose_bodies
from mpmesh_core.types import Array

REGRESSOR = "J_regressor_h36m.npy"
REGRESSOR_PAGE = "https://github.com/nkolot/SPIN (fetch_data.sh)"
BODY_VERTICES = "body_verts_smpl.npy"
BODY_VERTICES_PAGE = "https://github.com/pixelite1201/agora_evaluation (utils)"


class SmplMeshes:
    """Meshes of labels without their translation, each by its gender's SMPL model.

    Raises:
        MissingFileError: no SMPL file of a gender, with where to get it and where to put it.
    """

    def __init__(self) -> None:
        self._bodies: dict[str, BodyModel] = {
            gender: load_body("smpl", gender) for gender in ("male", "female")
        }

    def __call__(self, label: SmplLabel) -> Array:
        """Vertices (V, 3) [m], turned as in the camera frame, the pelvis at J0(betas)."""
        if label.gender not in self._bodies:
            self._bodies[label.gender] = load_body("smpl", label.gender)
        pose = np.concatenate([label.global_orient, label.body_pose])
        body = self._bodies[label.gender]
        return pose_bodies(body, pose[None], label.betas[None], np.zeros((1, 3)), "a label")[1][0]


def h36m_regressor(path: Path | None = None) -> Array:
    """J_regressor_h36m (17, 6890), by default from beside the SMPL files.

    Raises:
        MissingFileError, InputError: no such file, or another one.
    """
    path = smpl_folder() / REGRESSOR if path is None else path
    rows = _load(path, f"{REGRESSOR} is missing", REGRESSOR_PAGE, "--regressor")
    if rows.ndim != 2 or rows.shape[0] != 17 or rows.dtype.kind != "f":
        wanted = f"float (17, {SMPL_VERTICES})"
        raise InputError(f"{path} is {rows.dtype} {rows.shape}; the regressor is {wanted}")
    return rows.astype(np.float64)


def agora_body_vertices(root: Path, path: Path | None = None) -> Array:
    """Indices of the SMPL vertices that AGORA's MVE counts, by default from AGORA's folder.

    Raises:
        MissingFileError, InputError: no such file, or another one.
    """
    if path is None:
        folder = home(INFO, root)
        path = next(iter(sorted(folder.rglob(BODY_VERTICES))), folder / BODY_VERTICES)
    rows = _load(path, f"{BODY_VERTICES} is missing", BODY_VERTICES_PAGE, "--body-vertices")
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not len(rows):
        raise InputError(f"{path} holds no list of vertices: {rows.dtype} of shape {rows.shape}")
    if rows.min() < 0 or rows.max() >= SMPL_VERTICES:
        raise InputError(f"{path} names vertices outside SMPL's {SMPL_VERTICES}")
    return rows.astype(np.int64)


def _load(path: Path, complaint: str, page: str, option: str) -> Array:
    if not path.is_file():
        raise MissingFileError(f"{path}: {complaint}; get it from {page} or give {option} FILE")
    with refusing(f"{path} is no readable .npy"):
        rows = np.load(path, allow_pickle=False)
        if not isinstance(rows, np.ndarray):
            raise TypeError("several arrays")
    return rows
