"""sources.images: pictures in files.

In   paths of pictures in any format that OpenCV reads
Out  Frames in the order given, BadFrames for the broken ones

The orientation in EXIF or AVIF is applied, grey pictures become RGB, 16-bit ones keep their upper
8 bits, and transparency is dropped. A picture that ends too early is broken, even where a decoder
would fill the rest with grey.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from mpmesh_core.errors import InputError, MissingFileError
from mpmesh_core.sources.frames import BadFrame, Frame, SourceKind
from mpmesh_core.sources.opencv_log import SILENT, set_log_level

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
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_AVIF_TURN = re.compile(rb"\0\0\0\x09irot(.)", re.DOTALL)  # quarters against the clock
_AVIF_MIRROR = re.compile(rb"\0\0\0\x09imir(.)", re.DOTALL)  # 0: upside down, 1: left to right
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


def decode_image(data: bytes, upright: bool = True, remedy: str = "copy the file again") -> Array:
    """Decode a picture file's content to (H, W, 3) uint8 RGB.

    Args:
        data: the content.
        upright: as in `read_image`.
        remedy: what to do about one that isn't whole.

    Raises:
        InputError: empty, cut off, or no picture.
    """
    if not data:
        raise InputError(f"empty; {remedy}")
    if _cut_off(data):
        raise InputError(f"cut off; {remedy}")
    buffer = np.frombuffer(data, np.uint8)
    turns = _avif_turns(data) if upright else None
    try:
        with _quiet_decoders():
            turn = 0 if upright and turns is None else cv2.IMREAD_IGNORE_ORIENTATION
            image = cv2.imdecode(buffer, cv2.IMREAD_COLOR | turn)
    except cv2.error:  # size limits and faulty headers
        image = None
    if image is None:
        raise InputError("not a picture that OpenCV can decode, or a damaged one")
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return image if turns is None else _turned(image, *turns)


def _avif_turns(data: bytes) -> tuple[int, int | None] | None:
    """An AVIF's own quarter turns and mirror axis, which OpenCV doesn't apply and EXIF yields to.

    They are looked for by their tags: eight such bytes don't come about by chance.
    """
    if data[4:8] != b"ftyp":
        return None
    turn, mirror = _AVIF_TURN.search(data), _AVIF_MIRROR.search(data)
    if not (turn or mirror):
        return None
    return turn[1][0] & 3 if turn else 0, mirror[1][0] & 1 if mirror else None


def _turned(image: Array, quarters: int, axis: int | None) -> Array:
    """The picture turned, then mirrored."""
    image = np.rot90(image, quarters)
    return np.ascontiguousarray(image if axis is None else np.flip(image, axis))


def _cut_off(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end; other decoders notice by themselves.

    What follows the end does not matter: phones append films.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return not _jpeg_ends(data)
    return data.startswith(b"\x89PNG\r\n\x1a\n") and not _png_ends(data)


def _jpeg_ends(data: bytes) -> bool:
    """Whether the markers lead from the start of a JPEG to its end."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # filling
            place += 1
            continue
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")  # a segment
        if marker == 0xDA:  # a scan, up to the next marker that is neither data nor a restart
            found = _AFTER_SCAN.search(data, place)
            if found is None:
                return False
            place = found.start()
        if data[place : place + 2] == b"\xff\xd9":
            return True
    return False


def _png_ends(data: bytes) -> bool:
    """Whether the chunks of a PNG lead to its IEND."""
    place = 8
    while place + 12 <= len(data):
        length, kind = data[place : place + 4], data[place + 4 : place + 8]
        if kind == b"IEND":
            return True
        place += 12 + int.from_bytes(length, "big")
    return False


@contextmanager
def _quiet_decoders() -> Iterator[None]:
    """Keep OpenCV's own messages off the terminal; ours says the same in one line."""
    level = set_log_level(SILENT)
    try:
        yield
    finally:
        set_log_level(level)


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
