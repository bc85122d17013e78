"""pickles: SMPL's .pkl files, opened without chumpy and without running their code.

In   a pickle as downloaded from smpl.is.tue.mpg.de (Python 2, chumpy arrays, SciPy matrices)
Out  dict of NumPy arrays and SciPy matrices
Only the classes that such a file needs are let through; anything else is refused.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mpmesh_core.errors import WeightsError, first_line

_ALLOWED = {
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
    # By the names of Python 2, in which SMPL's files were written, and of Python 3.
    ("copy_reg", "_reconstructor"),
    ("copyreg", "_reconstructor"),
    ("__builtin__", "object"),
    ("builtins", "object"),
    ("__builtin__", "set"),  # chumpy keeps the names of changed terms beside its arrays
    ("builtins", "set"),
}
_SPARSE = {"csc_matrix", "csr_matrix", "coo_matrix", "csc_array", "csr_array", "coo_array"}


class _Type:
    """Stands in for a NumPy type, which would take any state that a file gives it and crash."""

    def __init__(self, name: str, *_: Any) -> None:
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """An array whose state comes from a file."""

    def __setstate__(self, state: Any) -> None:
        version, shape, kind, fortran, content = state
        super().__setstate__((version, shape, kind.dtype, fortran, content))


def _new_array(*_: Any) -> _Array:
    return np.empty(0).view(_Array)  # its state follows


def _scalar(kind: _Type, raw: bytes | str) -> Any:
    raw = raw.encode("latin1") if isinstance(raw, str) else raw  # by Python 2
    return np.frombuffer(raw, kind.dtype)[0]


def _from_buffer(raw: bytes, kind: _Type, shape: tuple[int, ...], order: Any) -> Any:
    return np.frombuffer(raw, kind.dtype).reshape(shape, order=order)


# By the last part of their names: numpy.core was renamed in NumPy 2.
_NUMPY = {
    "ndarray": np.ndarray,
    "dtype": _Type,
    "_reconstruct": _new_array,
    "scalar": _scalar,
    "_frombuffer": _from_buffer,
}


class _Ch:
    """Stands in for a chumpy array: keeps its state, and `array` evaluates it."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    def array(self) -> Any:
        """The values; chumpy keeps them as `x`, or as a selection `idxs` from `a`."""
        if "x" in self.state:
            return np.asarray(self.state["x"])
        if {"a", "idxs"} <= set(self.state):
            source = self.state["a"]
            flat = (source.array() if isinstance(source, _Ch) else np.asarray(source)).ravel()
            picked = flat[np.asarray(self.state["idxs"])]
            return picked.reshape(self.state.get("preferred_shape", picked.shape))
        raise pickle.UnpicklingError("a chumpy expression that is not a plain array")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "chumpy":
            return _Ch
        if module.startswith("scipy.sparse") and name in _SPARSE:
            import scipy.sparse

            return getattr(scipy.sparse, name)
        if module.split(".")[0] == "numpy" and name in _NUMPY:
            return _NUMPY[name]
        if (module, name) in _ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no SMPL file needs")


def load_smpl_pickle(path: Path, keys: Iterable[str]) -> dict[str, Any]:
    """Read these keys of an SMPL .pkl, as far as it has them; what else it holds does not matter.

    Raises:
        WeightsError: not a pickle, or one that holds more than arrays.
    """
    with path.open("rb") as file:
        try:
            content = _load(file)
            return {key: _evaluated(content[key]) for key in keys if key in content}
        except pickle.UnpicklingError as error:
            raise WeightsError(f"{path} is not a readable SMPL .pkl: {error}") from error


def read_arrays(file: BinaryIO) -> dict[str, Any]:
    """A pickled dict of arrays, of Python 2 or 3, with chumpy's evaluated.

    Raises:
        UnpicklingError: not a pickle, no dict, or one that holds more than arrays.
    """
    return {key: _evaluated(value) for key, value in _load(file).items()}


def _load(file: BinaryIO) -> dict[str, Any]:
    try:
        content = _Unpickler(file, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise pickle.UnpicklingError(first_line(error)) from error
    except Exception as error:  # damaged pickles make their classes raise almost anything
        raise pickle.UnpicklingError(f"the file is damaged ({first_line(error)})") from error
    if not isinstance(content, dict):
        raise pickle.UnpicklingError(f"it holds a {type(content).__name__}, not a dict")
    return content


def _evaluated(value: Any) -> Any:
    if not isinstance(value, _Ch):
        return value
    try:
        return value.array()
    except pickle.UnpicklingError:
        raise
    except Exception as error:
        reason = f"a damaged chumpy array ({first_line(error)})"
        raise pickle.UnpicklingError(reason) from error
