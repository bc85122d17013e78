"""outputs: results.jsonl and meshes, written so that a kill loses at most the current frame.

In   FrameResults, camera frame, metres, pixels, radians
Out  DIR/results.jsonl, one line a frame; DIR/meshes/NNNNNN.npz where people have vertices
And back: `read_results` gives the FrameResults of a file, also of one that was cut off.

Numbers carry six significant digits, K and D nine, stamps microseconds: finer than any of them is
known, and the same bytes for the same results.
"""

from __future__ import annotations

import io
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mpmesh_core.errors import InputError, MissingFileError, NumericalError
from mpmesh_core.paths import expanded
from mpmesh_core.types import FrameResult, Person

Array = np.ndarray
logger = logging.getLogger(__name__)

RESULTS_NAME = "results.jsonl"
DIGITS, CAMERA_DIGITS = 6, 9  # significant
STAMP_DECIMALS = 6
_SHAPES: dict[str, tuple[int, ...]] = {
    "bbox": (4,),
    "global_orient": (3,),
    "body_pose": (69,),
    "betas": (10,),
    "transl": (3,),
    "joints": (24, 3),
    "joints_2d": (24, 2),
    "joint_confidence": (24,),
    "coco_2d": (17, 2),
    "h36m": (17, 3),
    "position": (3,),
    "position_covariance": (3, 3),
}  # in the order of the line; the covariance is written as 9 numbers


def prepare_folder(folder: str | Path, option: str = "--output") -> Path:
    """Make an output folder and see that files can be written into it.

    Args:
        folder: made if need be.
        option: of the command line, with which another can be given.

    Raises:
        InputError: it cannot be made or written.
    """
    folder = expanded(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # a name of its own: several processes may share the folder
        tempfile.NamedTemporaryFile(prefix=".mpmesh-", dir=folder).close()
    except OSError as error:
        raise InputError(
            f"output folder {folder} cannot be written: {error.strerror}; give another {option}"
        ) from None
    return folder


def refuse_folder(path: Path) -> None:
    """Say before the work that a file cannot be written where a folder is.

    Raises:
        InputError: there is one.
    """
    if expanded(path).is_dir():
        raise InputError(f"{path} cannot be written: it is a folder")


def write_file(path: Path, data: bytes) -> None:
    """Write a whole file or nothing: under another name first, then renamed.

    Raises:
        InputError: disk full, not allowed, and the like.
    """
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise InputError(f"{path} cannot be written: {error.strerror}") from None


class ResultsWriter:
    """Writes results.jsonl, and meshes/NNNNNN.npz for frames whose people have vertices.

    A mesh file holds `vertices` (P, V, 3) float32 [m, camera frame], `person` (P,), their place in
    the line's `people`, and `track_id` (P,); `meshes/faces.npy` (F, 3) holds everybody's triangles.

    Args:
        folder: output folder, made where missing; an old results.jsonl in it is replaced when the
            first frame comes, so that a run which fails before that loses nothing.
        faces: (F, 3) triangles of the body, written beside the first mesh.
    """

    def __init__(self, folder: str | Path, faces: Array | None = None) -> None:
        self.folder = prepare_folder(folder)
        self.path = self.folder / RESULTS_NAME
        self._faces = faces
        self._file: io.RawIOBase | None = None
        refuse_folder(self.path)

    def write(self, result: FrameResult) -> None:
        """Write one frame; after this returns, a kill of the process doesn't lose it.

        Raises:
            NumericalError: a number that is not finite.
            InputError: disk full and the like.
        """
        line = result_to_json(result).encode() + b"\n"
        file = self._begun()
        meshed = [i for i, person in enumerate(result.people) if person.vertices is not None]
        if meshed:
            self._write_meshes(result, meshed)
        try:
            while line:  # a raw file may take less than it was given
                line = line[file.write(line) or 0 :]
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror}") from None

    def _write_meshes(self, result: FrameResult, meshed: list[int]) -> None:
        folder = prepare_folder(self.folder / "meshes")
        if self._faces is not None:
            write_file(folder / "faces.npy", bytes_of(np.save, np.asarray(self._faces, np.int32)))
            self._faces = None
        people = [result.people[i] for i in meshed]
        data = bytes_of(
            np.savez_compressed,
            vertices=np.stack([np.asarray(person.vertices, np.float32) for person in people]),
            person=np.array(meshed, np.int64),
            track_id=np.array([person.track_id for person in people], np.int64),
        )
        write_file(folder / f"{result.frame:06d}.npz", data)

    def _begun(self) -> io.RawIOBase:
        """The file; what an earlier run left in the folder goes when the first frame is there."""
        if self._file is None:
            try:
                self._file = open(self.path, "wb", buffering=0)  # noqa: SIM115 closed by close()
                for mesh in self.folder.glob("meshes/" + "[0-9]" * 6 + ".npz"):
                    mesh.unlink()
            except OSError as error:
                raise InputError(f"{self.path} cannot be written: {error.strerror}") from None
        return self._file

    def close(self) -> None:
        """Close the file; what was written is whole with or without it."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> ResultsWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def bytes_of(save: Any, *arrays: Array, **named: Array) -> bytes:
    """What `np.save`, `np.savez` or another such function writes."""
    buffer = io.BytesIO()
    save(buffer, *arrays, **named)
    return buffer.getvalue()


def result_to_json(result: FrameResult) -> str:
    """One line of results.jsonl, without the line feed.

    Raises:
        NumericalError: a number that is not finite.
    """
    line = {
        "frame": int(result.frame),
        "stamp": round(float(result.stamp), STAMP_DECIMALS),
        "source": result.source,
        "width": int(result.width),
        "height": int(result.height),
        "K": _numbers(result.K, CAMERA_DIGITS),
        "D": _numbers(result.D, CAMERA_DIGITS),
        "people": [_person_to_dict(person) for person in result.people],
    }
    if result.left_out:
        line["left_out"] = list(result.left_out)
    try:
        return json.dumps(line, allow_nan=False, separators=(", ", ": "))
    except ValueError:
        raise NumericalError(
            f"frame {result.frame} of {result.source}: {_not_finite(line)} is not finite, so it "
            "was not written"
        ) from None


def _person_to_dict(person: Person) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "track_id": int(person.track_id),
        "state": person.state,
        "score": _rounded(float(person.score), DIGITS),
    }
    for name, shape in _SHAPES.items():
        values = _numbers(getattr(person, name), DIGITS)
        nested = len(shape) == 2 and name != "position_covariance"
        width = shape[-1]
        fields[name] = (
            [values[i : i + width] for i in range(0, len(values), width)] if nested else values
        )
    fields["velocity"] = None if person.velocity is None else _numbers(person.velocity, DIGITS)
    return fields


def _numbers(values: Array, digits: int) -> list[float]:
    return [_rounded(value, digits) for value in np.asarray(values).ravel().tolist()]


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}") + 0.0  # + 0.0 turns -0.0 into 0.0


def _not_finite(line: dict[str, Any]) -> str:
    """Name of the first field with a number that JSON cannot hold."""
    for name in ("stamp", "K", "D"):
        if not np.isfinite(line[name]).all():
            return name
    for index, person in enumerate(line["people"]):
        for name, value in person.items():
            if name != "state" and value is not None and not np.isfinite(value).all():
                return f"{name} of person {index}"
    return "a number"


def read_results(path: str | Path) -> list[FrameResult]:
    """Read a results.jsonl, or that of an output folder.

    A last line that is cut off (the writer was killed) is left out with a warning.

    Raises:
        MissingFileError: no such file.
        InputError: a line, other than such a last one, that is not a frame's result.
    """
    path = Path(path)
    path = path / RESULTS_NAME if path.is_dir() else path
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        raise MissingFileError(
            f"results {path} do not exist; make them with `mpmesh run SOURCE --output DIR`"
        ) from None
    except OSError as error:
        raise InputError(f"results {path} cannot be read: {error.strerror}") from None
    results = list(_parse(path, lines[:-1]))
    try:
        results += _parse(path, filter(None, lines[-1:]), start=len(lines))
    except InputError:
        logger.warning("results %s end within line %d; that frame is left out", path, len(lines))
    return results


def _parse(path: Path, lines: Iterable[bytes], start: int = 1) -> Iterator[FrameResult]:
    for number, line in enumerate(lines, start):
        try:
            yield _result_from_dict(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise InputError(f"results {path}, line {number}: {reason}") from None


def _result_from_dict(line: dict[str, Any]) -> FrameResult:
    return FrameResult(
        frame=int(line["frame"]),
        stamp=float(line["stamp"]),
        source=str(line["source"]),
        width=int(line["width"]),
        height=int(line["height"]),
        K=np.array(line["K"], np.float64).reshape(3, 3),
        D=np.array(line["D"], np.float64).reshape(-1),
        people=[_person_from_dict(person) for person in line["people"]],
        left_out=tuple(map(str, line.get("left_out", ()))),
    )


def _person_from_dict(fields: dict[str, Any]) -> Person:
    arrays: dict[str, Any] = {}
    for name, shape in _SHAPES.items():
        value = np.array(fields[name], np.float64)
        if value.size != np.prod(shape):
            raise ValueError(f"{name} must have shape {shape}, got {value.shape}")
        arrays[name] = value.reshape(shape)
    velocity = fields["velocity"]
    return Person(
        score=float(fields["score"]),
        track_id=int(fields["track_id"]),
        state=str(fields["state"]),
        velocity=None if velocity is None else np.array(velocity, np.float64).reshape(3),
        **arrays,
    )
