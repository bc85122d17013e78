"""sources.images: pictures in files.

In   paths of pictures in any format that OpenCV reads
Out  Frames in the order given, BadFrames for the broken ones

How they are decoded is `decoding`'s.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from mpmesh_core.errors import InputError, MissingFileError
from mpmesh_core.sources.decoding import decode_image
from mpmesh_core.sources.frames import BadFrame, Frame, SourceKind

Array = np.ndarray
IMAGE_SUFFIXES: tuple[str, ...] = (
    ".avif",
    ".bmp",
    ".jp2",
    ".jpe",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
    ".png",
)
IMAGE_SUFFIXES += (".pnm", ".ppm", ".tif", ".tiff", ".webp")
NUMBERED_FPS = 30.0  # rate that numbered pictures are taken to have
SHORTEST_SEQUENCE = 5
LARGEST_CHANGE = 24.0  # mean grey levels between neighbours of a video, seen very small
_LAST_NUMBER = re.compile(r"^(.*?)(\d+)(\D*)$")


def read_image(path: str | Path, upright: bool = True) -> Array:
    """Read one picture as (H, W, 3) uint8 RGB.

    Args:
        path: the file.
        upright: turn it as its EXIF orientation says; else the pixels are as stored.

    Raises:
        MissingFileError: no such file.
        InputError: not a picture, a broken one, or one that may not be read.
    """
    path = Path(path)
    try:
        return decode_image(path.read_bytes(), upright)
    except FileNotFoundError:
        raise MissingFileError(f"image {path} does not exist") from None
    except InputError as error:
        raise InputError(f"image {path}: {error}") from None
    except OSError as error:
        raise InputError(f"image {path} cannot be read: {error.strerror}") from None


class ImageFiles:
    """Pictures in files.

    Args:
        paths: the files, in order.
        name: what to call them together.
        strict: raise at the first picture that cannot be read instead of reporting it; for a
            picture that is named alone.
    """

    kind: SourceKind = "images"

    def __init__(self, paths: Sequence[Path], name: str, strict: bool = False) -> None:
        self.paths = list(paths)
        self.name = name
        self.strict = strict
        self.length: int | None = len(self.paths)
        numbers = frame_numbers(self.paths)
        self._numbers = numbers if numbers and _like_a_video(self.paths) else None
        self.sequence = self._numbers is not None
        self.fps = NUMBERED_FPS if self.sequence else None

    def __iter__(self) -> Iterator[Frame | BadFrame]:
        """Read the pictures one by one.

        Stamps of a numbered sequence are number / 30 s from its first picture (no file says the
        true rate), those of other pictures count one second each.
        """
        for index, path in enumerate(self.paths):
            stamp = float(index) if self._numbers is None else self._numbers[index] / NUMBERED_FPS
            try:
                yield Frame(index, stamp, str(path), read_image(path))
            except (InputError, MissingFileError) as error:
                if self.strict:
                    raise
                yield BadFrame(index, str(path), str(error))


def folder_images(folder: Path) -> list[Path]:
    """Picture files of one folder by suffix, in natural order, without hidden ones.

    Raises:
        InputError: the folder cannot be read or holds none.
    """
    try:
        files = [path for path in folder.iterdir() if is_image_name(path) and path.is_file()]
    except OSError as error:
        raise InputError(f"folder {folder} cannot be read: {error.strerror}") from None
    if not files:
        raise InputError(
            f"folder {folder} holds no pictures ({' '.join(IMAGE_SUFFIXES)}) and no bag"
        )
    return sorted(files, key=natural_key)


def is_image_name(path: Path) -> bool:
    """Whether a name looks like a picture's."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def natural_key(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort key that puts `frame9` before `frame10`; the plain name decides between equals."""
    parts = re.split(r"(\d+)", os.fspath(path).lower())
    key = [(int(part), part) if part.isdecimal() else (-1, part) for part in parts]
    return [(number, "" if number >= 0 else part) for number, part in key], os.fspath(path)


def _like_a_video(paths: Sequence[Path]) -> bool:
    """Whether neighbours at the start, in the middle and at the end have one size and look alike.

    Cameras number photos as they do frames, so names alone prove nothing.
    """
    for first in {0, len(paths) // 2 - 1, len(paths) - 2}:
        try:
            pair = [read_image(path) for path in paths[first : first + 2]]
        except (InputError, MissingFileError):
            continue  # reported when its turn comes
        if pair[0].shape != pair[1].shape:
            return False
        small = [cv2.resize(image, (24, 24), interpolation=cv2.INTER_AREA) for image in pair]
        if cv2.absdiff(*small).mean() > LARGEST_CHANGE:
            return False
    return True


def frame_numbers(paths: Sequence[Path]) -> list[int] | None:
    """Frame numbers from 0 if the names are those of a video's frames, else None.

    That is: at least five pictures whose names differ in their last number only, which grows by
    the same step from one to the next for most of them (a few may be missing).
    """
    matches = [_LAST_NUMBER.match(path.stem) for path in paths]
    if len(paths) < SHORTEST_SEQUENCE or not all(matches):
        return None
    parts = [match.groups() for match in matches if match]
    if len({(before, after) for before, _, after in parts}) > 1:
        return None
    if len({path.parent for path in paths}) > 1:
        return None
    numbers = np.array([int(number[-15:]) for _, number, _ in parts], dtype=np.int64)
    steps = np.diff(numbers)
    usual = int(np.median(steps))
    if (steps <= 0).any() or (steps == usual).mean() < 0.8:
        return None
    return (numbers - numbers[0]).tolist()
