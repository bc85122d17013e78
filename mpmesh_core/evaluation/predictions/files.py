"""predictions.files: opening files of predictions; whatever is wrong with one becomes one line."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpmesh_core.body.pickles import read_arrays
from mpmesh_core.datasets.matlab import load_mat
from mpmesh_core.errors import InputError, MPMeshError


@contextmanager
def opening(source: str, kind: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into an InputError: `source` is no readable `kind`.

    Damaged files make the format libraries raise almost anything, so everything is caught; none
    of it is swallowed.
    """
    try:
        yield
    except MPMeshError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(f"{source} is no readable {kind}: {reason}") from error


def read_mat(path: Path) -> dict[str, Any]:
    """Variables of a MATLAB file of version 5 to 7, checked before it is read.

    Raises:
        InputError: another file.
    """
    with opening(str(path), ".mat file"):
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
            with opening(str(path), ".zip"):
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
        with opening(self.source(name), ".pkl of arrays"):
            file = (self._path / name).open("rb") if self._zip is None else self._zip.open(name)
            with file:
                return read_arrays(io.BytesIO(file.read()))
