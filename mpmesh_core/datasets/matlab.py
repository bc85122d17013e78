"""datasets.matlab: MATLAB files, each checked to be whole before SciPy reads it.

In   content of a .mat file of version 5 to 7
Out  its variables, or a ValueError

SciPy's reader trusts what a file says of itself and can crash on a damaged one. Compressed
variables, as MATLAB writes them, carry a checksum, which is enough; of others every length is
checked against what holds it.
"""

from __future__ import annotations

import math
import struct
import zlib
from io import BytesIO
from typing import Any

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
_CELL, _STRUCT, _CHAR, _NUMBERS = 1, 2, 4, range(6, 16)
_DEEPEST = 16


def load_mat(content: bytes, squeeze: bool = False) -> dict[str, Any]:
    """Variables of a MATLAB file; structs with their fields as attributes.

    Args:
        content: of the file.
        squeeze: drop axes of length 1.

    Raises:
        ValueError, zlib.error: as `checked_mat`; and whatever SciPy raises on what passed.
    """
    from scipy.io import loadmat

    file = BytesIO(checked_mat(content))
    variables: dict[str, Any] = loadmat(file, squeeze_me=squeeze, struct_as_record=False)
    return variables


def checked_mat(content: bytes) -> bytes:
    """Content with every variable checked and none compressed.

    Raises:
        ValueError, zlib.error: damaged, cut off, or of another version.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if content.startswith(b"MATLAB 7.3"):
        raise ValueError("MATLAB 7.3; version 5 to 7 is read: save it with -v7")
    if order is None:
        raise ValueError("no MATLAB file")
    parts, place = [content[:_HEADER]], _HEADER
    while place < len(content):
        kind, data, after = _element(content, place, len(content), order, padded=False)
        if kind == _COMPRESSED:
            parts.append(zlib.decompress(data))
        elif kind == _MATRIX:
            _check_matrix(data, order, 0)
            parts.append(content[place:after])
        else:
            raise ValueError(f"variable of type {kind}")
        place = after
    return b"".join(parts)


def _element(
    data: bytes, place: int, end: int, order: str, padded: bool = True
) -> tuple[int, bytes, int]:
    """Type, content and end of the element at a place; small ones have both in eight bytes."""
    if place + 8 > end:
        raise ValueError("cut off")
    kind, size = struct.unpack_from(f"{order}II", data, place)
    if kind >> 16:
        kind, size, start, after = kind & 0xFFFF, kind >> 16, place + 4, place + 8
        if size > 4:
            raise ValueError("a small element that isn't small")
    else:
        start = place + 8
        after = start + size + (-size % 8 if padded and kind != _COMPRESSED else 0)
    if start + size > end:
        raise ValueError("cut off")
    return kind, data[start : start + size], min(after, end)


def _check_matrix(data: bytes, order: str, depth: int) -> None:
    """Raise unless the content of a matrix is what its flags and dimensions say."""
    if not data:
        return  # an empty matrix has nothing but its tag
    elements, place = [], 0
    while place < len(data):
        kind, part, place = _element(data, place, len(data), order)
        elements.append((kind, part))
    if len(elements) < 3 or depth > _DEEPEST:
        raise ValueError("a matrix without its head, or nested too deep")
    (flag_kind, flags), (dims_kind, dims), (name_kind, _), *values = elements
    if (flag_kind, len(flags), dims_kind, name_kind) != (6, 8, 5, 1) or len(dims) % 4:
        raise ValueError("a matrix with a damaged head")
    sides = struct.unpack(f"{order}{len(dims) // 4}i", dims)
    if len(sides) < 2 or min(sides) < 0:
        raise ValueError(f"a matrix of dimensions {sides}")
    count, what = math.prod(sides), struct.unpack_from(f"{order}I", flags)[0]
    _check_values(values, count, what & 0xFF, bool(what & 0x0800), order, depth)


def _check_values(
    values: list[tuple[int, bytes]], count: int, kind: int, complex_: bool, order: str, depth: int
) -> None:
    if kind in (_CELL, _STRUCT):
        if kind == _STRUCT:
            (length_kind, length), (names_kind, names), *values = values
            if (length_kind, len(length), names_kind) != (5, 4, 1):
                raise ValueError("a struct with damaged fields")
            width = struct.unpack(f"{order}i", length)[0]
            if width < 1 or len(names) % width:
                raise ValueError("a struct with damaged names")
            count *= len(names) // width
        if len(values) != count or any(inner != _MATRIX for inner, _ in values):
            raise ValueError(f"{len(values)} parts instead of {count}")
        for _, part in values:
            _check_matrix(part, order, depth + 1)
    elif kind == _CHAR or kind in _NUMBERS:
        if len(values) != (2 if complex_ else 1):
            raise ValueError("a matrix with too few or too many parts")
        for inner, part in values:
            if inner not in _BYTES or (kind != _CHAR and len(part) != count * _BYTES[inner]):
                raise ValueError("a matrix that is longer or shorter than it says")
    else:
        raise ValueError(f"a matrix of class {kind}")
