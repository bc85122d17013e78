"""progress: what a run shows while it goes on, and its summary.

In   FrameResults with their timings [ms], BadFrames
Out  a progress bar with FPS, then a table: frames, bad frames, people, ms per stage, FPS, backend
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from mpmesh_core.types import FrameResult

_WINDOW = 30  # frames that the shown rate is of
_LISTED = 10  # bad frames named in the summary


@dataclass
class RunStatistics:
    """Counts and times of one run; `add` and `add_bad` grow it, `table` shows it."""

    frames: int = 0
    people: int = 0  # over all frames
    tracks: set[int] = field(default_factory=set)
    bad: list[str] = field(default_factory=list)  # reasons
    stages: dict[str, list[float]] = field(default_factory=dict)  # [ms]
    started: float = field(default_factory=time.perf_counter)
    finished: float | None = None

    def add(self, result: FrameResult) -> None:
        """Count a good frame."""
        self.frames += 1
        self.people += len(result.people)
        self.tracks.update(p.track_id for p in result.people if p.track_id >= 0)
        for stage, ms in result.timings.items():
            self.stages.setdefault(stage, []).append(ms)

    def add_stage(self, stage: str, ms: float) -> None:
        """Add the time [ms] of a stage outside the line, such as drawing."""
        self.stages.setdefault(stage, []).append(ms)

    def add_bad(self, reason: str) -> None:
        """Count a bad frame."""
        self.bad.append(reason)

    def finish(self) -> None:
        """Stop the clock."""
        self.finished = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Time from the start until `finish` or now [s]."""
        return (self.finished or time.perf_counter()) - self.started

    @property
    def fps(self) -> float:
        """Frames a second, reading and writing included."""
        return self.frames / self.seconds if self.frames else 0.0

    def table(self, backend: str, output: str = "") -> Table:
        """The summary."""
        table = Table(title="Summary", title_justify="left", show_header=False, box=None)
        table.add_column(style="bold")
        table.add_column(justify="right")
        table.add_row("frames", str(self.frames))
        table.add_row("bad frames", str(len(self.bad)), style="red" if self.bad else None)
        tracked = f" in {len(self.tracks)} tracks" if self.tracks else ""
        table.add_row("people", f"{self.people}{tracked}")
        for stage, times in self.stages.items():
            p50, p95 = np.percentile(times, (50, 95))
            table.add_row(f"{stage} p50 / p95", f"{p50:.1f} / {p95:.1f} ms")
        table.add_row("speed", f"{self.fps:.1f} FPS")
        table.add_row("backend", backend)
        if output:
            table.add_row("output", output)
        return table

    def print(self, console: Console, backend: str, output: str = "") -> None:
        """Print the summary and the reasons of bad frames, the first ten of them."""
        console.print(self.table(backend, output))
        for reason in self.bad[:_LISTED]:
            console.print(Text(f"bad frame: {reason}", style="red"))
        if len(self.bad) > _LISTED:
            console.print(Text(f"and {len(self.bad) - _LISTED} more bad frames", style="red"))


class RunProgress:
    """Progress bar of a run; a context manager.

    Args:
        total: number of frames, None where it isn't known.
        console: where to draw; standard error by default, so that results can be piped.
    """

    def __init__(self, total: int | None, console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
        )
        self._task = self._progress.add_task("frames", total=total, fps=0.0)
        self._times: deque[float] = deque(maxlen=_WINDOW)

    def advance(self) -> None:
        """One frame more, good or bad."""
        self._times.append(time.perf_counter())
        span = self._times[-1] - self._times[0]
        fps = (len(self._times) - 1) / span if span > 0 else 0.0
        self._progress.update(self._task, advance=1, fps=fps)

    def __enter__(self) -> RunProgress:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()


class _Rate(ProgressColumn):
    """Frames a second and milliseconds a frame of the last frames."""

    def render(self, task: Task) -> Text:
        fps = task.fields["fps"]
        return Text(f"{fps:5.1f} FPS {1e3 / fps:6.1f} ms" if fps > 0 else "", style="cyan")
