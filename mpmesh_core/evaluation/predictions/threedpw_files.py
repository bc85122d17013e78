"""predictions.threedpw_files: bodies in 3DPW's own format, a .pkl a sequence.

One .pkl, or a folder or .zip of them. Each holds, for P people in the order of the truth and F
frames: `poses` [P] (F, 72) and `betas` [P] (10,) or (F, 10), or `vertices` [P] (F, V, 3) [m]; all
in the camera frame. `trans` doesn't matter to the protocol and isn't read. `sequence` names it, or
else the file. A row of NaN is a person who wasn't found.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mpmesh_core.body import BodyModel
from mpmesh_core.datasets.record import FrameRecord
from mpmesh_core.errors import InputError, refusing
from mpmesh_core.evaluation.predictions.bodies import pose_bodies
from mpmesh_core.evaluation.predictions.files import Pickles
from mpmesh_core.evaluation.predictions.found import NOBODY, Found
from mpmesh_core.types import Array


class ThreedpwFiles:
    """People by frame; a sequence is read once.

    Args:
        path: .pkl, .zip or folder.
        body: poses SMPL parameters.

    Raises:
        InputError: nothing of this format in it.
    """

    def __init__(self, path: Path, body: BodyModel | None) -> None:
        self._body = body
        self._sequences: dict[str, tuple[str, dict[str, Any]]] = {}
        self._lengths: dict[str, int] = {}
        pickles = Pickles(path)
        for name in pickles.names:
            source, content = pickles.source(name), pickles.read(name)
            if not ({"poses", "betas"} <= set(content) or "vertices" in content):
                raise InputError(f"{source} has neither poses and betas nor vertices")
            sequence = str(content.get("sequence", Path(name or path).stem))
            if sequence in self._sequences:
                other = self._sequences[sequence][0]
                raise InputError(f"{source} and {other} are both of the sequence {sequence}")
            with refusing(f"{source} is not of 3DPW's format"):
                self._lengths[sequence] = max((len(rows) for rows in _main(content)), default=0)
            self._sequences[sequence] = source, content
        if not self._sequences:
            raise InputError(f"{path} holds no .pkl of a sequence as 3DPW's format has them")

    @property
    def frames(self) -> set[str]:
        """Names of the frames."""
        return {
            f"{sequence}/{number}"
            for sequence, length in self._lengths.items()
            for number in range(length)
        }

    def __call__(self, record: FrameRecord) -> Found:
        """The people of a frame."""
        if record.sequence not in self._sequences:
            return NOBODY
        name, content = self._sequences[record.sequence]
        with refusing(f"{name} is not of 3DPW's format"):
            there = [
                person
                for person, rows in enumerate(_main(content))
                if record.number < len(rows) and np.isfinite(rows[record.number]).all()
            ]
            if not there:
                return NOBODY
            vertices = self._vertices(name, content, there, record.number)
            transl = None if "vertices" in content else np.zeros((len(there), 3))
        identity = np.array(there, np.int64)
        return Found(len(there), vertices=vertices, transl=transl, identity=identity, source=name)

    def _vertices(self, name: str, content: dict[str, Any], people: list[int], frame: int) -> Array:
        if "vertices" in content:
            rows = [np.asarray(content["vertices"][person][frame], np.float64) for person in people]
            return np.stack(rows).reshape(len(people), -1, 3)
        poses = np.stack([np.asarray(content["poses"][p][frame], np.float64) for p in people])
        shapes = [np.asarray(content["betas"][person], np.float64) for person in people]
        betas = np.stack([(s[frame] if s.ndim == 2 else s)[:10] for s in shapes])
        return pose_bodies(self._body, poses, betas, np.zeros((len(people), 3)), name)[1]


def _main(content: dict[str, Any]) -> Any:
    return content["vertices"] if "vertices" in content else content["poses"]
