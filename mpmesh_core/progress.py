"""progress: what a run shows while it goes on, and its summary.

In   sources and a pipeline, or a RunSummary
Out  a progress bar with FPS, then a table: frames, bad frames, people, ms per stage, FPS, backend
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

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

from mpmesh_core.pipeline import Pipeline
from mpmesh_core.run_outputs import RunConfig
from mpmesh_core.runner import RunSummary, run_sources
from mpmesh_core.sources import Source

_WINDOW = 30  # frames that the shown rate is of


def run_with_progress(
    sources: Sequence[Source],
    pipeline: Pipeline,
    config: RunConfig,
    fov_given: bool = False,
    console: Console | None = None,
) -> RunSummary:
    """Run the line over sources with a progress bar, then print the summary.

    Args:
        sources: as `sources.open_sources` gives them.
        pipeline: loaded and ready.
        config: what to assume and to write.
        fov_given: the user named the field of view, so no warning is due where it is assumed.
        console: where to draw; standard error by default, so that results can be piped.

    Returns:
        Counts and timings.

    Raises:
        InputError: no frame could be used, or nothing can be written.
        KeyboardInterrupt, SystemExit: after the summary of what was done until then.
    """
    console = console or Console(stderr=True)
    lengths = [source.length for source in sources]
    total = None if None in lengths else sum(length or 0 for length in lengths)
    summary, start = RunSummary(), time.perf_counter()
    try:
        with RunProgress(total, console) as progress:
            run_sources(sources, pipeline, config, lambda _: progress.advance(), summary)
    except (KeyboardInterrupt, SystemExit):
        console.print("stopped; what was done until here is written")
        if not summary.frames:  # a camera's frames may all be bad, without an end
            print_bad_frames(console, summary)
        raise
    finally:
        if summary.frames:
            seconds = time.perf_counter() - start
            print_summary(console, summary, seconds, f"{pipeline.backend} on {pipeline.device}")
            console.print(Text(f"results: {config.folder}"))
    if summary.assumed_camera and not fov_given:
        console.print(
            f"warning: no camera was given, {config.fov:g} degrees on the longer side are assumed: "
            "distances are approximate (--camera FILE or --fov DEG)",
            style="yellow",
            soft_wrap=True,
        )
    return summary


def print_summary(console: Console, summary: RunSummary, seconds: float, backend: str) -> None:
    """Print the summary table, and the reasons of bad frames, the first ten of them."""
    console.print(summary_table(summary, seconds, backend))
    print_bad_frames(console, summary)


def print_bad_frames(console: Console, summary: RunSummary) -> None:
    """Print the reasons of bad frames, the first ten of them."""
    for bad in summary.bad:
        console.print(Text(f"bad frame: {bad.reason}", style="red"), soft_wrap=True)
    more = summary.bad_frames - len(summary.bad)
    if more:
        console.print(Text(f"and {more} more bad frames", style="red"))


def summary_table(summary: RunSummary, seconds: float, backend: str) -> Table:
    """Frames, bad frames, people, ms per stage and FPS of a run.

    Args:
        summary: what happened.
        seconds: how long it took, reading and writing included [s].
        backend: what ran the networks.
    """
    table = Table(title="Summary", title_justify="left", show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("frames", str(summary.frames))
    table.add_row("bad frames", str(summary.bad_frames), style="red" if summary.bad else None)
    table.add_row("people", f"{summary.people}, {summary.people / summary.frames:.1f} a frame")
    if summary.left_out:
        table.add_row("frames that left something out", str(summary.left_out))
    for stage, times in summary.timings.items():
        p50, p95 = np.percentile(times.values, (50, 95))
        table.add_row(f"{stage} p50 / p95", f"{p50:.1f} / {p95:.1f} ms")
    table.add_row("speed with reading and writing", f"{summary.frames / seconds:.1f} FPS")
    table.add_row("backend", backend)
    return table


class RunProgress:
    """Progress bar of a run; a context manager.

    Args:
        total: number of frames, None where it isn't known.
        console: where to draw.
    """

    def __init__(self, total: int | None, console: Console) -> None:
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,  # a log file has no use for it
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
