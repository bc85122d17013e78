"""evaluation.bench_files: two files of `mpmesh bench` side by side."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpmesh_core.errors import InputError, MissingFileError


@dataclass(frozen=True)
class Change:
    """One row of a benchmark, before and now."""

    name: str
    before: float  # p50 [ms]
    now: float

    @property
    def percent(self) -> float:
        """How much longer it takes now [%]."""
        return 100 * (self.now / self.before - 1)


def read_bench(path: Path) -> dict[str, dict[str, Any]]:
    """Rows of a file by name.

    Raises:
        MissingFileError, InputError: no such file, or not one of `mpmesh bench`.
    """
    try:
        rows = json.loads(path.read_text())["line"]
        if not all("p50" in row for row in rows.values()):
            raise KeyError("p50")
    except FileNotFoundError:
        raise MissingFileError(
            f"benchmark {path} does not exist; make it with `mpmesh bench --output FILE`"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path} is no result of `mpmesh bench --output`") from None
    return rows


def changes(before: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]]) -> list[Change]:
    """Rows that both have, in the order of `now`."""
    return [
        Change(name, float(before[name]["p50"]), float(row["p50"]))
        for name, row in now.items()
        if name in before
    ]
