"""datasets.files: opening the official files; whatever is wrong with one becomes one clear line.

Every error names the data set, the file and the page to get it from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mpmesh_core.datasets.catalogue import DatasetInfo, place_of
from mpmesh_core.datasets.matlab import load_mat
from mpmesh_core.errors import InputError, MissingFileError, MissingPackageError, refusing
from mpmesh_core.types import Array


def need(info: DatasetInfo, *places: Path) -> Path:
    """The first of these places that exists.

    Raises:
        MissingFileError: none does; it names the first, which is the official one.
    """
    for place in places:
        if place.exists():
            return place
    raise MissingFileError(f"{info.title}: {places[0]} is missing; get it from {info.page}")


def home(info: DatasetInfo, root: Path | str, *inner: str) -> Path:
    """The data set's folder (see `place_of`), or the first of the inner folders that it has."""
    folder = need(info, place_of(info, Path(root)))
    return next((folder / name for name in inner if (folder / name).is_dir()), folder)


def reading(info: DatasetInfo, path: Path) -> AbstractContextManager[None]:
    """Turn whatever goes wrong inside into an InputError of one line about this file."""
    return refusing(
        f"{info.title}: {path} is damaged or not in the official format",
        f"; get it again from {info.page}",
    )


def finite(info: DatasetInfo, path: Path, shape: tuple[int, ...], values: Any) -> Array:
    """Values as a float64 array of this shape (-1: any length), all of them finite."""
    with reading(info, path):
        array = np.asarray(values, np.float64)
        wanted = ["any" if side < 0 else str(side) for side in shape]
        if array.ndim != len(shape) or any(s not in (-1, a) for s, a in zip(shape, array.shape)):
            raise ValueError(f"shape {array.shape}, expected ({', '.join(wanted)})")
        if not np.isfinite(array).all():
            raise ValueError("values that are not finite")
    return array


def read_mat(info: DatasetInfo, path: Path, squeeze: bool = False) -> dict[str, Any]:
    """Variables of a MATLAB file up to version 7; structs with their fields as attributes."""
    need(info, path)
    with reading(info, path):
        return load_mat(path.read_bytes(), squeeze)


def variable(info: DatasetInfo, path: Path, content: Mapping[str, Any], name: str) -> Any:
    """One variable of a file's content."""
    if name not in content:
        known = ", ".join(str(key) for key in content if not str(key).startswith("__")) or "nothing"
        raise InputError(
            f"{info.title}: {path} has no {name!r}, only {known}; get it again from {info.page}"
        )
    return content[name]


def read_json(info: DatasetInfo, path: Path) -> Any:
    """Content of a JSON file."""
    need(info, path)
    with reading(info, path):
        return json.loads(path.read_text(encoding="utf-8"))


def read_lines(info: DatasetInfo, path: Path) -> list[str]:
    """Lines of a text file that are not empty."""
    need(info, path)
    with reading(info, path):
        return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]


def read_pickle(info: DatasetInfo, path: Path) -> dict[str, Any]:
    """A pickled dict of arrays; nothing in it is run."""
    from mpmesh_core.body.pickles import read_arrays

    need(info, path)
    with reading(info, path), path.open("rb") as file:
        return read_arrays(file)


@contextmanager
def open_hdf5(info: DatasetInfo, path: Path) -> Iterator[Any]:
    """An HDF5 file, also a MATLAB file of version 7.3 (axes in reverse order)."""
    h5py = package("h5py")
    need(info, path)
    with reading(info, path), h5py.File(path, "r") as file:
        yield file


def read_cdf(info: DatasetInfo, path: Path, name: str) -> Array:
    """One variable of a CDF file."""
    cdflib = package("cdflib")
    need(info, path)
    with reading(info, path):
        return np.asarray(cdflib.CDF(path).varget(name))


def package(name: str, extra: str = "datasets") -> ModuleType:
    """A package that only some readers need.

    Raises:
        MissingPackageError: it isn't installed; names the extra that brings it.
    """
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise MissingPackageError(
            f"this data set needs {name}: pip install 'mpmesh[{extra}]'"
        ) from error
