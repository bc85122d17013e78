"""evaluation.report_page: an evaluation as one HTML page that needs nothing else.

In   a PeopleReport, the errors of its frames, both sides' people, latencies [ms]
Out  HTML with the figures and plots as SVG; the same text for the same numbers
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpmesh_core.evaluation.observed import ObservedFrame
from mpmesh_core.evaluation.people import FrameErrors, PeopleReport
from mpmesh_core.evaluation.plots import (
    histogram,
    import_plotting,
    new_figure,
    plot_colour,
    to_svg,
)
from mpmesh_core.types import Array

_TEMPLATE = Path(__file__).with_name("report.html")
_NONE = "–"


@dataclass(frozen=True)
class Evaluation:
    """All that a page shows."""

    title: str
    truth: str  # where it comes from
    report: PeopleReport
    frames: Sequence[FrameErrors]
    found_people: Sequence[ObservedFrame]
    true_people: Sequence[ObservedFrame]
    latency_ms: Sequence[float] = ()  # of each frame; empty where it wasn't measured


def report_figures(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Name and value of every figure, for people."""
    report = evaluation.report
    identities = report.identities
    rows = [
        ("frames", f"{report.frames} ({report.missing_frames} missing)"),
        ("people true / found", f"{report.truths} / {report.found}"),
        ("detection F1", f"{report.f1:.3f}"),
        ("precision / recall", f"{report.precision:.3f} / {report.recall:.3f}"),
        ("position error", _length(report.position_mm)),
        ("of the distance", _share(report.position_relative)),
        ("MPJPE", _length(report.mpjpe_mm)),
        ("PA-MPJPE", _length(report.pa_mpjpe_mm)),
        ("MOTA", _share(None if identities is None else identities.mota)),
        ("IDF1", _share(None if identities is None else identities.idf1)),
        ("HOTA", _share(None if identities is None else identities.hota)),
        ("ID switches", _NONE if identities is None else str(identities.id_switches)),
    ]
    if evaluation.latency_ms:
        p50, p95 = np.percentile(evaluation.latency_ms, (50, 95))
        rows.append(("latency p50 / p95", f"{p50:.0f} / {p95:.0f} ms"))
    return rows


def report_page(evaluation: Evaluation) -> str:
    """The page.

    Raises:
        MissingPackageError: matplotlib or jinja2 isn't installed.
    """
    jinja2, markupsafe = import_plotting()
    plots = [
        ("Position error of each matched pelvis.", _error_plot(evaluation, "position")),
        ("People in the truth, and people found.", _count_plot(evaluation)),
        ("Paths seen from above: truth grey, found in the colour of its id.", _paths(evaluation)),
    ]
    if evaluation.report.mpjpe_mm is not None:
        caption = "MPJPE of each matched person."
        plots.insert(1, (caption, _error_plot(evaluation, "mpjpe")))
    if evaluation.latency_ms:
        plots.append(
            (
                "Time of each frame, all stages together.",
                histogram(evaluation.latency_ms, "[ms]", "frames"),
            )
        )
    environment = jinja2.Environment(autoescape=True)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        title=evaluation.title,
        subtitle=f"against {evaluation.truth}; matched up to 1 m",
        figures=report_figures(evaluation),
        plots=[(caption, markupsafe.Markup(svg)) for caption, svg in plots],
    )


def _length(millimetres: float | None) -> str:
    return _NONE if millimetres is None else f"{millimetres:.1f} mm"


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{100 * value:.1f} %"


def _error_plot(evaluation: Evaluation, name: str) -> str:
    times = _seconds(evaluation.frames)
    values = [1e3 * getattr(frame, name) for frame in evaluation.frames]
    stretched = np.repeat(times, [len(v) for v in values])
    figure, axes = new_figure("time [s]", "[mm]")
    axes.plot(stretched, np.concatenate([np.zeros(0), *values]), ".", ms=3, color=plot_colour(0))
    axes.set_ylim(bottom=0)
    return to_svg(figure)


def _count_plot(evaluation: Evaluation) -> str:
    times = _seconds(evaluation.frames)
    figure, axes = new_figure("time [s]", "people")
    for name, label, colour, width in (
        ("truths", "truth", "0.6", 3),
        ("found", "found", plot_colour(0), 1),
    ):
        counts = [getattr(frame, name) for frame in evaluation.frames]
        axes.step(times, counts, where="mid", label=label, color=colour, lw=width)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return to_svg(figure)


def _paths(evaluation: Evaluation) -> str:
    figure, axes = new_figure("right [m]", "ahead [m]")
    for frames, own in ((evaluation.true_people, "0.75"), (evaluation.found_people, None)):
        for number, path in sorted(_by_identity(frames).items()):
            colour = own or plot_colour(number)
            axes.plot(path[:, 0], path[:, 2], ".", ms=5 if own else 2, color=colour)
    axes.set_aspect("equal", adjustable="datalim")
    return to_svg(figure)


def _by_identity(frames: Sequence[ObservedFrame]) -> dict[int, Array]:
    """(P, 3) positions of each identity [m]."""
    paths: dict[int, list[Array]] = {}
    for frame in frames:
        for number, position in zip(frame.ids.tolist(), frame.positions):
            paths.setdefault(number, []).append(position)
    return {number: np.stack(path) for number, path in paths.items()}


def _seconds(frames: Sequence[FrameErrors]) -> Array:
    stamps = np.array([frame.stamp_ns for frame in frames], np.int64)
    return 1e-9 * (stamps - stamps[0])
