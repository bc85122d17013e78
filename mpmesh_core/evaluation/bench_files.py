"""evaluation.bench_files: what `mpmesh bench` writes, read again, and two of them side by side."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat, ValidationError

from mpmesh_core.errors import InputError, MissingFileError
from mpmesh_core.evaluation.bench import GeometryReport, Timing


class Row(BaseModel):
    """One size of picture and number of people: a `Latency`, and what was measured beside it.

    Only the median has to be there, so that older files can be read.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    p50: PositiveFloat  # [ms], likewise the next two
    p95: PositiveFloat | None = None
    p99: PositiveFloat | None = None
    fps: PositiveFloat | None = None
    runs: int | None = None
    people: NonNegativeFloat | None = None
    memory_mb: NonNegativeFloat | None = None
    fps_at_once: PositiveFloat | None = None  # with a frame a core, on a CPU
    up: NonNegativeFloat | None = None  # copies to the GPU and back, and kernels, of a frame
    down: NonNegativeFloat | None = None
    kernels: NonNegativeFloat | None = None
    stages: dict[str, NonNegativeFloat] = {}  # p50 [ms]


class BenchFile(BaseModel):
    """Figures, and what decides them (`bench_setup`; older files do not say)."""

    setup: dict[str, Any] = {}
    line: dict[str, Row] = {}
    geometry: GeometryReport | None = None
    ik: Timing | None = None
    body: Timing | None = None


@dataclass(frozen=True)
class Change:
    """One row of a benchmark, before and now; p50 [ms], None where a file does not have it."""

    name: str
    before: float | None
    now: float | None

    @property
    def percent(self) -> float | None:
        """How much longer it takes now [%]."""
        if self.before is None or self.now is None:
            return None
        return 100 * (self.now / self.before - 1)


def read_bench(path: Path) -> BenchFile:
    """What a file holds, one row at least.

    Raises:
        MissingFileError, InputError: no such file, or not one of `mpmesh bench`.
    """
    complaint = f"{path} is no result of `mpmesh bench --output`"
    try:
        found = BenchFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise MissingFileError(
            f"benchmark {path} does not exist; make it with `mpmesh bench --output FILE`"
        ) from None
    except OSError as error:
        raise InputError(f"benchmark {path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{complaint}: {where + ': ' if where else ''}{first['msg']}") from None
    if not found.line:
        raise InputError(f"{complaint}: it has no rows of the line")
    return found


def check_common(path: Path, before: BenchFile, names: Collection[str]) -> None:
    """See that there is something to compare.

    Raises:
        InputError: a file has none of the rows.
    """
    if before.line.keys().isdisjoint(names):
        raise InputError(
            f"{path} has no row in common: it has {', '.join(before.line)}; to be compared are "
            f"{', '.join(names)}"
        )


def changes(before: BenchFile, now: BenchFile) -> list[Change]:
    """All rows, those of `now` first."""
    names = now.line | before.line
    p50 = [{name: row.p50 for name, row in file.line.items()} for file in (before, now)]
    return [Change(name, *(values.get(name) for values in p50)) for name in names]


def differences(before: BenchFile, now: BenchFile) -> str | None:
    """In one line what differs beside the figures; None where nothing does."""
    old, new = before.setup, now.setup
    if not (old and new):
        return "one of the two does not say how it was measured" if old or new else None
    names = [name for name in new if name in old and new[name] != old[name]]
    pairs = [f"{name} ({old[name]}, now {new[name]})" for name in names]
    return f"measured differently: {', '.join(pairs)}" if pairs else None
