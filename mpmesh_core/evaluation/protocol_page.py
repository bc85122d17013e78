"""evaluation.protocol_page: a ProtocolReport as one HTML page that needs nothing else.

Out  figures, the protocol, tables of parts, histograms as SVG, the worst people as pictures
"""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np

from mpmesh_core.evaluation.plots import histogram, import_plotting
from mpmesh_core.evaluation.protocol import Case, Group, ProtocolReport, figure_text
from mpmesh_core.evaluation.worst import case_jpeg

_TEMPLATE = Path(__file__).with_name("protocol.html")


def protocol_page(report: ProtocolReport) -> str:
    """The page.

    Raises:
        MissingPackageError: matplotlib or jinja2 isn't installed.
    """
    jinja2, markupsafe = import_plotting()
    plots = [
        (f"{name} of the {len(values)} compared people.", markupsafe.Markup(_plot(name, values)))
        for name in report.histogram
        if (values := _values(report, name))
    ]
    environment = jinja2.Environment(autoescape=True)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        report=report,
        figures=[(name, figure_text(name, value)) for name, value in report.figures.items()],
        tables=[group_table(group) for group in report.groups],
        plots=plots,
        pictures=[
            (_caption(case), base64.b64encode(case_jpeg(case)).decode()) for case in report.worst()
        ],
    )


def group_table(group: Group) -> tuple[str, list[str], list[tuple[str, list[str]]]]:
    """Title, heads and rows of text."""
    head = list(dict.fromkeys(name for row in group.rows.values() for name in row))
    rows = [
        (part, [figure_text(name, row.get(name, np.nan)) for name in head])
        for part, row in group.rows.items()
    ]
    return group.title, head, rows


def _values(report: ProtocolReport, name: str) -> list[float]:
    values = [case.errors.get(name, np.nan) for case in report.cases]
    return [value for value in values if np.isfinite(value)]


def _plot(name: str, values: list[float]) -> str:
    return histogram(values, name, "people", bins=60)


def _caption(case: Case) -> str:
    errors = ", ".join(f"{name} {figure_text(name, v)}" for name, v in case.errors.items())
    return f"{case.where}: {errors}"
