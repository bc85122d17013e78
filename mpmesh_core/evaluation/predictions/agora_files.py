"""predictions.agora_files: AGORA's format: IMAGE_personId_N.pkl, in a zip or a folder.

Each file holds `joints` (K, 2) [px of 3840 x 2160, K >= 24], and either `allSmplJoints3d` (J, 3)
and `verts` (6890, 3) [m, camera frame], or SMPL `params` (transl, betas, global_orient, body_pose;
rotation matrices where `pose2rot` is False). SMPL-X files and SMPL children's parameters are
refused. A picture's people are taken in the order of their names, read when it is their turn.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from mpmesh_core.body import BodyModel
from mpmesh_core.datasets.agora import WIDTH
from mpmesh_core.datasets.boxes import tight_boxes
from mpmesh_core.datasets.record import FrameRecord
from mpmesh_core.errors import InputError, refusing
from mpmesh_core.evaluation.agora import JOINTS
from mpmesh_core.evaluation.predictions.bodies import pose_bodies
from mpmesh_core.evaluation.predictions.files import Pickles
from mpmesh_core.evaluation.predictions.found import NOBODY, Found, frame_name
from mpmesh_core.types import Array

_COLUMNS = {"joints": (2, 3), "allSmplJoints3d": (3,)}


class AgoraFiles:
    """People by picture.

    Args:
        path: .zip or folder.
        body: poses SMPL parameters.

    Raises:
        InputError: nothing of this format in it.
    """

    def __init__(self, path: Path, body: BodyModel | None) -> None:
        self._pickles, self._body = Pickles(path), body
        self._names: dict[str, list[str]] = defaultdict(list)
        for name in self._pickles.names:
            image, mark, _ = Path(name).name.rpartition("_personId_")
            if mark:
                self._names[frame_name("agora", image + ".png")].append(name)
        if not self._names:
            raise InputError(f"{path} holds no IMAGE_personId_N.pkl as AGORA's format has them")

    @property
    def frames(self) -> set[str]:
        """Names of the pictures."""
        return set(self._names)

    def __call__(self, record: FrameRecord) -> Found:
        """The people of a picture."""
        names = self._names.get(frame_name("agora", record.picture.path), ())
        if not names:
            return NOBODY
        scale = record.width / WIDTH
        people = [self._person(name) for name in names]
        if len({vertices.shape for _, _, vertices in people}) > 1:
            raise InputError(f"{self._pickles.source(names[0])}: its picture has unlike bodies")
        points = np.stack([points[:JOINTS] for points, _, _ in people])
        boxes = np.stack([tight_boxes(points) for points, _, _ in people])
        return Found(
            count=len(people),
            joints={"smpl24": np.stack([joints for _, joints, _ in people])},
            points={"smpl24": scale * points},
            boxes=scale * boxes,
            vertices=np.stack([vertices for _, _, vertices in people]),
            source=self._pickles.source(names[0]),
        )

    def _person(self, name: str) -> tuple[Array, Array, Array]:
        """All 2D points, 24 joints and the mesh."""
        source, content = self._pickles.source(name), self._pickles.read(name)
        meshed = {"allSmplJoints3d", "verts"} <= set(content)
        if "joints" not in content:
            raise InputError(f"{source} has no 'joints', as AGORA's format has it")
        if not meshed and "params" not in content:
            raise InputError(f"{source} has neither 'params' nor 'allSmplJoints3d' and 'verts'")
        with refusing(f"{source} is not of AGORA's format"):
            points = _rows(content, source, "joints")[:, :2]
            if meshed:
                joints = _rows(content, source, "allSmplJoints3d")
                vertices = np.asarray(content["verts"], np.float64).reshape(-1, 3)
            else:
                joints, vertices = self._posed(content, source)
        if len(vertices) == 10475:
            raise InputError(f"{source} is an SMPL-X body; SMPL bodies are evaluated here")
        return points, joints[:JOINTS], vertices

    def _posed(self, content: dict[str, Any], source: str) -> tuple[Array, Array]:
        parameters = content["params"]
        if content.get("kid_flag"):
            raise InputError(f"{source}: parameters of a child; save joints and vertices instead")
        if np.size(parameters["body_pose"]) in (63, 189):
            raise InputError(f"{source} is an SMPL-X body; SMPL bodies are evaluated here")
        size = 3 if content.get("pose2rot", True) else 9
        pose = [
            np.asarray(parameters[key], np.float64).reshape(-1, size)
            for key in ("global_orient", "body_pose")
        ]
        rotations = np.concatenate(pose)[None]
        joints, vertices = pose_bodies(
            self._body, rotations, parameters["betas"], parameters["transl"], source
        )
        return joints[0], vertices[0]


def _rows(content: dict[str, Any], source: str, name: str) -> Array:
    rows, columns = np.squeeze(np.asarray(content[name], np.float64)), _COLUMNS[name]
    if rows.ndim != 2 or len(rows) < JOINTS or rows.shape[1] not in columns:
        wanted = f"({JOINTS} or more, {' or '.join(map(str, columns))})"
        raise InputError(f"{source}: '{name}' must be {wanted}, got {rows.shape}")
    return rows
