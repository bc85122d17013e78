"""evaluation.plots: figures as SVG text for pages, the same text for the same numbers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from mpmesh_core.canvas import person_colour
from mpmesh_core.errors import MissingPackageError
from mpmesh_core.types import Array

_SIZE = (9.0, 2.8)  # of a plot [inch]


def import_plotting() -> tuple[Any, Any]:
    """The packages jinja2 and markupsafe; matplotlib is there too.

    Raises:
        MissingPackageError: one of them isn't installed.
    """
    try:
        import jinja2
        import markupsafe
        import matplotlib  # noqa: F401 imported where plots are made
    except ImportError as error:
        raise MissingPackageError(
            f"the report needs the package {error.name}: pip install 'mpmesh[report]'"
        ) from None
    return jinja2, markupsafe


def new_figure(across: str, up: str) -> tuple[Any, Any]:
    """A figure and its axes with these labels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def to_svg(figure: Any) -> str:
    """The figure as an element of a page, without what changes from run to run."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "mpmesh", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def plot_colour(number: int) -> str:
    """Colour of a person's number, as everywhere."""
    return "#{:02x}{:02x}{:02x}".format(*person_colour(number))


def histogram(values: Sequence[float] | Array, across: str, up: str, bins: int = 40) -> str:
    """A histogram."""
    figure, axes = new_figure(across, up)
    axes.hist(values, bins=bins, color=plot_colour(0))
    return to_svg(figure)
