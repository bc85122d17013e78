"""datasets.truth_files: files of the sets for evaluation, found or asked for by name; pickles.

Every complaint is one line that names the file, where it belongs and the page to get it from.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, BinaryIO

from mpmesh_core.body.pickles import read_arrays
from mpmesh_core.errors import InputError, MissingFileError


def home(root: Path, folder: str) -> Path:
    """The data set's folder: inside a folder of many sets, or the path itself."""
    return root / folder if (root / folder).is_dir() else root


def needed(path: Path, what: str, page: str) -> Path:
    """The path, if it is there.

    Raises:
        MissingFileError: with what it is and where it comes from.
    """
    if not path.exists():
        raise MissingFileError(f"{path} is missing: {what}, from {page}")
    return path


def read_pickle(path: Path) -> dict[str, Any]:
    """A pickled dict of arrays; no code in it is run.

    Raises:
        InputError: anything else.
    """
    with path.open("rb") as file:
        return read_pickle_stream(file, str(path))


def read_pickle_stream(file: BinaryIO, name: str) -> dict[str, Any]:
    """The same of an open file; `name` is for the complaint."""
    try:
        return read_arrays(file)
    except pickle.UnpicklingError as error:
        raise InputError(f"{name} is no readable .pkl of arrays: {error}") from None
