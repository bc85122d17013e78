"""curve: what training writes down on its way, so that a kill and a resume leave one curve.

In   rows of numbers, each with its step
Out  curve.csv, validation.jsonl and, if wanted, TensorBoard events beside them
A run that resumes at a step takes back what was written after it; it comes again.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from mpmesh_core.errors import MissingPackageError


class Curve:
    """The records of one run, in its folder."""

    def __init__(self, folder: Path, step: int, tensorboard: bool = False) -> None:
        """Open, and forget what lies beyond a step."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._rows, self._scores = folder / "curve.csv", folder / "validation.jsonl"
        _cut(self._rows, lambda line: _step_of_row(line, step))
        _cut(self._scores, lambda line: _step_of_scores(line, step))
        self._board = _board(folder, step) if tensorboard else None

    def add(self, row: dict[str, float]) -> None:
        """One line of the curve; `step` is one of its columns, which are the same every time."""
        fresh = not self._rows.is_file()
        with self._rows.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if fresh:
                writer.writeheader()
            writer.writerow(row)
        self._show("training", row)

    def add_scores(self, step: int, scores: dict[str, dict[str, float]]) -> None:
        """Held-out scores, by the name of what was held out."""
        with self._scores.open("a") as file:
            for name, row in scores.items():
                file.write(json.dumps({"step": step, "of": name, **row}) + "\n")
                self._show(name, {"step": step, **row})

    def _show(self, group: str, row: dict[str, float]) -> None:
        if self._board is not None:
            for name, value in row.items():
                if name != "step":
                    self._board.add_scalar(f"{group}/{name}", value, int(row["step"]))
            self._board.flush()


def _cut(path: Path, keep: Any) -> None:
    """Keep those lines; a line cut short by a kill is dropped as well."""
    if path.is_file():
        lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and keep(line)]
        scratch = path.with_suffix(".partial")
        scratch.write_text("".join(kept))
        scratch.replace(path)


def _step_of_row(line: str, step: int) -> bool:
    first = line.split(",")[0]
    return first == "step" or int(first) <= step


def _step_of_scores(line: str, step: int) -> bool:
    return int(json.loads(line)["step"]) <= step


def _board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingPackageError(
            "TensorBoard is not installed: pip install 'mpmesh[tensorboard]', or set "
            "tensorboard=false; curve.csv holds the same numbers"
        ) from None
    return SummaryWriter(str(folder), purge_step=step + 1)
