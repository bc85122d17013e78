"""training.settings: a training configuration from a YAML file and `key=value` words.

Works for every configuration class of the trainers; unknown keys and wrong values are refused with
the name of the key.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from mpmesh_core.errors import InputError, MissingFileError, UsageError
from mpmesh_core.outputs import write_file

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


def check_same(path: Path, settings: dict[str, Any], holds: str) -> None:
    """Write down what decides a folder's content, or compare with what a former call wrote down.

    Args:
        path: a JSON file in the folder.
        settings: what decides, as values that JSON can hold.
        holds: what the folder holds, for the message.

    Raises:
        InputError: the file is damaged.
        UsageError: another value than before.
    """
    settings = json.loads(json.dumps(settings))
    if not path.is_file():
        write_file(path, json.dumps(settings, indent=1).encode())
        return
    try:
        former = json.loads(path.read_text())
    except ValueError:
        raise InputError(f"{path} is damaged: remove its folder or give another output") from None
    other = [name for name in settings if former.get(name) != settings[name]]
    if other:
        raise UsageError(
            f"{path.parent} holds {holds} another {other[0]}: give another output=FOLDER"
        )


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
