"""loading: from a body's name or file to a ready BodyModel."""

from __future__ import annotations

from pathlib import Path

import torch

from mpmesh_core.body.files import find_body_file, read_body_file
from mpmesh_core.body.model import BodyModel


def load_body(
    body: str | Path = "open", gender: str = "neutral", dtype: torch.dtype = torch.float32
) -> BodyModel:
    """Load a body.

    Args:
        body: "open" for the body that ships with MPMesh, "smpl" for the user's licensed file
            SMPL_{NEUTRAL,MALE,FEMALE}.npz or .pkl in $MPMESH_SMPL_DIR or ~/.cache/mpmesh/smpl, or
            the path of an SMPL-format file.
        gender: which SMPL file: "neutral", "male" or "female".
        dtype: floating type of the model.

    Returns:
        The model, on the CPU; move it with `.to(device)`.

    Raises:
        MissingFileError: no such file, with where to get it and where to put it.
        WeightsError: the file is not an SMPL-format body.
    """
    return BodyModel(read_body_file(find_body_file(str(body), gender)), dtype)
