"""sources.decoding: from a picture file's bytes to its pixels.

In   bytes in any format that OpenCV reads
Out  (H, W, 3) uint8 RGB

The orientation in EXIF or AVIF is applied, grey pictures become RGB, and transparency is dropped,
as OpenCV does (a TIFF's wholly transparent pixels are black: their colours are lost).
16-bit pictures keep their upper 8 bits; those whose file tells its largest value (PGM, PPM) are
scaled by that. A picture that ends too early is broken, even where a decoder would fill the rest
with grey.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from mpmesh_core.errors import InputError
from mpmesh_core.sources.opencv_log import SILENT, set_log_level

Array = np.ndarray
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_AVIF_TURN = re.compile(rb"\0\0\0\x09irot(.)", re.DOTALL)  # quarters against the clock
_AVIF_MIRROR = re.compile(rb"\0\0\0\x09imir(.)", re.DOTALL)  # 0: upside down, 1: left to right
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_GAP = rb"(?:\s|#[^\n]*\n)+"
_NETPBM = re.compile(
    rb"P([2356])" + _GAP + rb"\d+" + _GAP + rb"\d+" + _GAP + rb"0*([1-9]\d{0,4})"
)  # kind, size and largest value
_NETPBM_HEADER = 4096  # bytes that hold it, comments and all


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
    turns = _avif_turns(data) if upright else None
    turn = 0 if upright and turns is None else cv2.IMREAD_IGNORE_ORIENTATION
    try:
        with _quiet_decoders():
            image = _decoded(np.frombuffer(data, np.uint8), turn)
    except cv2.error:  # size limits and faulty headers
        image = None
    if image is None:
        raise InputError("not a picture that OpenCV can decode, or a damaged one")
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return image if turns is None else _turned(image, *turns)


def _decoded(data: Array, turn: int) -> Array | None:
    """What OpenCV makes of a file, as (H, W, 3) uint8 BGR; None where it can't.

    Args:
        data: the content, as bytes.
        turn: OpenCV's flag of orientation, or 0.
    """
    start = data[:4].tobytes()
    if start in _TIFF:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)  # upright always
        if image is not None and image.ndim == 3 and image.dtype == np.uint8:
            return _without_alpha(image)
    header = _NETPBM.match(data[:_NETPBM_HEADER].tobytes())
    if header is None:
        return cv2.imdecode(data, cv2.IMREAD_COLOR | turn)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    kind, largest = header[1], int(header[2])
    if image is None or (kind in b"23" and largest < 256):  # OpenCV scales these
        return image
    return cv2.convertScaleAbs(image, alpha=255 / largest)


def _without_alpha(image: Array) -> Array:
    """Colours of a TIFF (H, W, 3 or 4); those that OpenCV multiplied by alpha are divided by it."""
    colour, alpha = image[..., :3], image[..., 3:]
    if not alpha.size or (colour > alpha).any():
        return np.ascontiguousarray(colour)
    whole = np.maximum(alpha, 1).astype(np.uint16)
    return ((colour.astype(np.uint16) * 255 + whole // 2) // whole).astype(np.uint8)


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
