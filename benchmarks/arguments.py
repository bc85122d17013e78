"""What the benchmarks' command lines share: numbers that can be, and errors in one line."""

from __future__ import annotations

import ast
import sys
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpmesh_core.errors import MPMeshError


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """As `mpmesh` ends where something cannot be done, or is stopped."""
    try:
        yield
    except (MPMeshError, KeyboardInterrupt) as error:
        print(f"{Path(sys.argv[0]).name}: {str(error) or 'stopped'}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 130))


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def positives(text: str) -> tuple[int, ...]:
    """Such numbers, with commas."""
    return tuple(map(positive, text.split(",")))


def python_option(text: str) -> tuple[str, object]:
    """NAME=VALUE, the value as Python writes it."""
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        raise ArgumentTypeError(f"{text!r} is no NAME=VALUE with a value of Python") from None
