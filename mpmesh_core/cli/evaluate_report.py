"""cli.evaluate_report: a ProtocolReport on the console, as JSON and as a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mpmesh_core.cli import options
from mpmesh_core.errors import UsageError

if TYPE_CHECKING:
    from mpmesh_core.evaluation.protocol import ProtocolReport

T = TypeVar("T")
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="JSON file of the figures; a page (.html) beside it."),
]


def check_output(output: Path | None) -> None:
    """Say before the work what would stop its end.

    Raises:
        UsageError: the JSON has the page's name.
        MissingPackageError: the page's packages aren't installed.
        InputError: the folder cannot be written, or JSON or page are folders.
    """
    if output is not None:
        from mpmesh_core.evaluation.plots import import_plotting
        from mpmesh_core.outputs import prepare_folder, refuse_folder

        if output.suffix == ".html":
            raise UsageError(f"--output {output}: name the JSON file; the page is beside it")
        refuse_folder(output)
        refuse_folder(output.with_suffix(".html"))
        import_plotting()
        prepare_folder(output.parent)


def with_progress(things: Iterable[T], name: str) -> Iterator[T]:
    """The same things, counted on standard error."""
    columns = (SpinnerColumn(), TextColumn("{task.completed} {task.description}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        yield from progress.track(things, total=None, description=name)


def show_report(
    report: ProtocolReport, output: Path | None, also: Mapping[str, Any] | None = None
) -> None:
    """Print the figures; write JSON and page where asked for.

    Args:
        report: what was measured.
        output: the JSON file.
        also: more for the JSON.
    """
    from mpmesh_core.evaluation.protocol import figure_text
    from mpmesh_core.evaluation.protocol_page import group_table, protocol_page
    from mpmesh_core.outputs import write_file

    console = Console()
    title = f"{report.protocol.name}: {report.method}"
    console.print(Text(title, style="bold"), soft_wrap=True)
    table = Table()
    table.add_column("what")
    table.add_column("value", justify="right")
    for name, value in report.figures.items():
        table.add_row(Text(name), figure_text(name, value))
    console.print(table)
    for group in report.groups:
        title, head, rows = group_table(group)
        console.print(Text(title, style="bold"))
        parts = Table()
        parts.add_column("")
        for name in head:
            parts.add_column(Text(name), justify="right")
        for part, cells in rows:
            parts.add_row(part, *cells)
        console.print(parts)
    console.print(Text(report.data), soft_wrap=True)
    for name, text in report.protocol.rows():
        console.print(Text(f"{name}: {text}", style="dim"), soft_wrap=True)
    for note in report.notes:
        console.print(Text(note, style="yellow"), soft_wrap=True)
    if output is not None:
        page = output.with_suffix(".html")
        options.write_json(output, {**(also or {}), **report.to_json()})
        write_file(page, protocol_page(report).encode())
        console.print(Text(f"report: {page} and {output.name}"), soft_wrap=True)
