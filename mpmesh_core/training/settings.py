"""training.settings: a training configuration from a YAML file and `key=value` words.

Works for every configuration class of the trainers; unknown keys and wrong values are refused with
the name of the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from mpmesh_core.errors import InputError, MissingFileError, UsageError

Config = TypeVar("Config")


def read_settings(kind: type[Config], path: Path | None, words: Sequence[str] = ()) -> Config:
    """Make a configuration.

    Args:
        kind: a pydantic model or dataclass.
        path: YAML file with its fields, or None for the defaults.
        words: `key=value`, read as YAML, later than the file; `a.b=value` goes into field a.

    Raises:
        MissingFileError, InputError: no such file, or not YAML with fields.
        UsageError: a key or value that is not possible.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Training:
        ...     steps: int = 10
        >>> read_settings(Training, None, ["steps=20"])
        Training(steps=20)
    """
    values = {} if path is None else _read(path)
    for word in words:
        _put(values, word)
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        where = f" of {path}" if path else ""
        raise UsageError(f"setting {key!r}{where}: {first['msg'].lower()}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise MissingFileError(f"configuration {path} does not exist") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"configuration {path} cannot be read: {reason}") from None
    if not isinstance(values, dict):
        raise InputError(f"configuration {path} must hold `key: value` lines")
    return values


def _put(values: dict[str, Any], word: str) -> None:
    key, separator, text = word.partition("=")
    if not separator or not key:
        raise UsageError(f"{word!r} is no key=value")
    *groups, last = key.split(".")
    for group in groups:
        values = values.setdefault(group, {})
        if not isinstance(values, dict):
            raise UsageError(f"{word!r}: {group} has no fields")
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"{word!r}: {text!r} is no YAML value") from None
