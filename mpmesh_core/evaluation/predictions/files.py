"""predictions.files: MATLAB files and pickles of predictions; one line for what is wrong."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

from mpmesh_core.body.pickles import read_arrays
from mpmesh_core.datasets.matlab import load_mat
from mpmesh_core.errors import refusing


def read_mat(path: Path) -> dict[str, Any]:
    """Variables of a MATLAB file of version 5 to 7, checked before it is read.

    Raises:
        InputError: another file.
    """
    with refusing(f"{path} is no readable .mat file"):
        return load_mat(path.read_bytes())


class Pickles:
    """The .pkl files of a folder or a .zip, or one .pkl; no code in them is run.

    Args:
        path: of the folder or file.

    Raises:
        InputError: a .zip that is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._zip: zipfile.ZipFile | None = None
        if path.is_dir():
            names = [str(file.relative_to(path)) for file in path.rglob("*.pkl")]
        elif path.suffix == ".pkl":
            names = [""]  # path / "" is the path
        else:
            with refusing(f"{path} is no readable .zip"):
                self._zip = zipfile.ZipFile(path)
                names = [name for name in self._zip.namelist() if name.endswith(".pkl")]
        self.names = sorted(names)

    def source(self, name: str) -> str:
        """What a complaint calls one of the files."""
        return str(self._path / name) if self._zip is None else f"{self._path}, {name}"

    def read(self, name: str) -> dict[str, Any]:
        """A pickled dict of arrays.

        Raises:
            InputError: anything else.
        """
        with refusing(f"{self.source(name)} is no readable .pkl of arrays"):
            file = (self._path / name).open("rb") if self._zip is None else self._zip.open(name)
            with file:
                return read_arrays(io.BytesIO(file.read()))
