"""predictions.reading: which reader a file of predictions needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from mpmesh_core.body import BodyModel
from mpmesh_core.camera import Camera
from mpmesh_core.datasets.record import FrameRecord
from mpmesh_core.errors import InputError, MissingFileError, UsageError
from mpmesh_core.evaluation.predictions.agora_files import AgoraFiles
from mpmesh_core.evaluation.predictions.bodies import pose_bodies
from mpmesh_core.evaluation.predictions.found import NOBODY, Found, found_people, frame_name
from mpmesh_core.evaluation.predictions.mupots_files import MupotsFiles
from mpmesh_core.evaluation.predictions.npz_files import NpzRows
from mpmesh_core.evaluation.predictions.threedpw_files import ThreedpwFiles
from mpmesh_core.outputs import RESULTS_NAME, read_results
from mpmesh_core.types import FrameResult

SAME_BODY = 0.005  # [m] between joints as written and as posed again
_NATIVE = {"agora": ".zip or folder", "3dpw": ".pkl, .zip or folder", "mupots": ".mat or folder"}


class Predictions(Protocol):
    """Saved output of a method, by frame."""

    @property
    def frames(self) -> set[str]:
        """Names of the frames that it has something for, see `frame_name`."""
        ...

    def __call__(self, record: FrameRecord) -> Found:
        """The people of a frame."""
        ...


class Results:
    """People of a results.jsonl.

    Args:
        path: the file or its folder.
        dataset: whose pictures they are.
        body: poses meshes where given.

    Raises:
        InputError: no frames in it, or a line that is none; people of another body.
    """

    def __init__(self, path: Path, dataset: str, body: BodyModel | None) -> None:
        self._path, self._dataset, self._body = path, dataset, body
        self._frames: dict[str, FrameResult] = {}
        for result in read_results(path):
            name = frame_name(dataset, result.source)
            if name in self._frames:
                raise InputError(f"{path}: two frames are of the picture {name}: {result.source}")
            self._frames[name] = result
        if not self._frames:
            raise InputError(f"{path} holds no frames")

    @property
    def frames(self) -> set[str]:
        """Names of the frames."""
        return set(self._frames)

    def __call__(self, record: FrameRecord) -> Found:
        """The people of a frame."""
        result = self._frames.get(frame_name(self._dataset, record.picture.path))
        if result is None:
            return NOBODY
        # The file doesn't name its lens model; the sets' own pictures have no distortion.
        pinhole = Camera(result.K, np.zeros(0), "none", result.width, result.height)
        self._check_body(result)
        found = found_people(result.people, None if result.D.any() else pinhole, self._body)
        return replace(found, source=str(self._path))

    def _check_body(self, result: FrameResult) -> None:
        """Betas mean something else on another body, and the file doesn't say whose they are."""
        if self._body is None or not result.people:
            return
        person = result.people[0]
        pose = np.concatenate([person.global_orient, person.body_pose])
        joints, _ = pose_bodies(
            self._body, pose[None], person.betas[None], person.transl[None], str(self._path)
        )
        if np.abs(joints[0] - person.joints).max() > SAME_BODY:
            raise InputError(
                f"{self._path}: the joints are not those of the body '{self._body.name}' with "
                "these parameters; name the body that made them with --body"
            )


def of_these(
    records: Iterable[FrameRecord], dataset: str, predictions: Predictions
) -> Iterator[FrameRecord]:
    """The records, to their end if any of them is one that the predictions are of.

    Raises:
        InputError: none is; names a picture of either.
    """
    frames, name, known = predictions.frames, "", False
    for record in records:
        name = frame_name(dataset, record.picture.path)
        known |= name in frames
        yield record
    if name and not known:
        other = min(frames, default="none")
        raise InputError(
            f"the predictions are of none of these pictures: they name {other}, the set has {name}"
        )


def open_predictions(path: Path, dataset: str, body: BodyModel | None = None) -> Predictions:
    """Open predictions by the kind of the file.

    Args:
        path: .jsonl, .npz, or what the data set's own format is: a .zip or folder of .pkl (AGORA),
            a .pkl, folder or .zip (3DPW), a .mat or folder (MuPoTS-3D).
        dataset: "3dpw", "mupots" or "agora".
        body: poses SMPL parameters.

    Raises:
        MissingFileError: no such file.
        UsageError: a kind of file that isn't read.
        InputError: a file that isn't what its name says.
    """
    if not path.exists():
        raise MissingFileError(f"predictions {path} do not exist")
    if path.suffix == ".jsonl" or (path / RESULTS_NAME).is_file():
        return Results(path, dataset, body)
    if path.suffix == ".npz":
        return NpzRows(path, dataset, body)
    if dataset == "agora" and (path.is_dir() or path.suffix == ".zip"):
        return AgoraFiles(path, body)
    if dataset == "3dpw" and (path.is_dir() or path.suffix in (".pkl", ".zip")):
        return ThreedpwFiles(path, body)
    if dataset == "mupots" and (path.is_dir() or path.suffix == ".mat"):
        return MupotsFiles(path)
    raise UsageError(
        f"predictions {path}: for {dataset}, .jsonl, .npz or {_NATIVE[dataset]} are read"
    )
