"""evaluation.protocol: what an evaluation measured and by which rules, for JSON, console and page.

Figures are comparable only between methods scored under the same protocol, so a report never goes
without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from mpmesh_core.types import Array

WORST = 12  # people shown


@dataclass(frozen=True)
class Protocol:
    """The rules."""

    name: str
    joints: str
    regressor: str
    alignment: str
    boxes: str
    gender: str
    matching: str
    source: str

    def rows(self) -> list[tuple[str, str]]:
        """Name and text of every rule."""
        return [(field.name, getattr(self, field.name)) for field in fields(self)]


@dataclass(frozen=True)
class Case:
    """One person who was compared with the truth."""

    where: str  # sequence and frame
    errors: Mapping[str, float]  # figure -> [mm]
    found_px: Array  # (J, 2)
    true_px: Array  # (J, 2)
    parents: Sequence[int]  # of the J joints, -1 for a root
    picture: Callable[[], Array]  # gives the (H, W, 3) uint8 RGB picture


@dataclass(frozen=True)
class Group:
    """A table of the same figures for parts of the data, such as sequences."""

    title: str
    rows: Mapping[str, Mapping[str, float]]  # part -> figure -> value


@dataclass(frozen=True)
class ProtocolReport:
    """What was measured."""

    protocol: Protocol
    data: str  # what it was measured on
    method: str  # whose predictions
    figures: Mapping[str, float]  # with the unit in the name; NaN where there is none
    groups: Sequence[Group] = ()
    cases: Sequence[Case] = ()
    notes: Sequence[str] = ()
    histogram: Sequence[str] = field(default=())  # figures of `cases` to show as histograms

    def worst(self) -> list[Case]:
        """The cases with the largest first error, that one first."""
        known = [c for c in self.cases if np.isfinite(next(iter(c.errors.values())))]
        return sorted(known, key=lambda c: -next(iter(c.errors.values())))[:WORST]

    def to_json(self) -> dict[str, Any]:
        """All figures, with None where there is no number."""
        return {
            "protocol": asdict(self.protocol),
            "data": self.data,
            "method": self.method,
            "figures": _numbers(self.figures),
            "groups": {
                group.title: {part: _numbers(row) for part, row in group.rows.items()}
                for group in self.groups
            },
            "notes": list(self.notes),
            "worst": [
                {"where": case.where, "errors": _numbers(case.errors)} for case in self.worst()
            ],
        }


def figure_text(name: str, value: float) -> str:
    """A figure for people, by the unit in its name."""
    if not np.isfinite(value):
        return "–"
    if value == int(value) and not name.endswith(("mm", "%", "]")):
        return f"{value:.0f}"
    return f"{value:.1f}" if name.endswith(("[mm]", "[%]")) else f"{value:.3f}"


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(v) if np.isfinite(v) else None for name, v in values.items()}
