"""checks: input checks for the public edge.

`check_shapes` compares tensors or arrays with patterns such as `(..., 24, 3)`; names bind across
one call, so `("N", 4)` and `("N",)` must agree; `"...N"` in front binds all leading dimensions.
Inner functions trust what passed here.
"""

from __future__ import annotations

from typing import Any

from mpmesh_core.errors import ShapeError

Pattern = tuple[Any, ...]


def check_shapes(**named: tuple[Any, Pattern]) -> None:
    """Raise unless every value has its shape.

    Args:
        named: `name=(value, pattern)`. A pattern holds ints (exact), strings (any size, the same
            wherever the string stands again in this call) and at most a leading `...`, or `"...P"`
            for leading dimensions that are the same wherever that stands again.

    Raises:
        ShapeError: the first value that does not fit, with what was expected and found.

    Example:
        >>> import numpy as np
        >>> check_shapes(boxes=(np.zeros((5, 4)), ("N", 4)), scores=(np.zeros(5), ("N",)))
        >>> check_shapes(boxes=(np.zeros((5, 3)), ("N", 4)))
        Traceback (most recent call last):
        mpmesh_core.errors.ShapeError: boxes must have shape (N, 4), got (5, 3)
    """
    sizes: dict[str, int | tuple[int, ...]] = {}
    for name, (value, pattern) in named.items():
        shape = getattr(value, "shape", None)
        if shape is None:
            raise ShapeError(
                f"{name} must be a tensor or array of shape {_text(pattern)}, "
                f"got {type(value).__name__}"
            )
        if not _fits(tuple(shape), pattern, sizes):
            raise ShapeError(f"{name} must have shape {_text(pattern)}, got {tuple(shape)}")


def _fits(
    shape: tuple[int, ...], pattern: Pattern, sizes: dict[str, int | tuple[int, ...]]
) -> bool:
    leading = bool(pattern) and _is_leading(pattern[0])
    tail = pattern[1:] if leading else pattern
    if len(shape) < len(tail) or (not leading and len(shape) != len(tail)):
        return False
    if leading and isinstance(pattern[0], str):
        first = shape[: len(shape) - len(tail)]
        if sizes.setdefault(pattern[0], first) != first:
            return False
    for size, expected in zip(shape[len(shape) - len(tail) :], tail):
        if isinstance(expected, str):
            expected = sizes.setdefault(expected, size)
        if size != expected:
            return False
    return True


def _is_leading(part: Any) -> bool:
    return part is Ellipsis or (isinstance(part, str) and part.startswith("..."))


def _text(pattern: Pattern) -> str:
    words = ["..." if part is Ellipsis else str(part) for part in pattern]
    return f"({', '.join(words)}{',' if len(words) == 1 else ''})"
