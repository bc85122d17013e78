"""cli.bench_sheet: the tables that `mpmesh bench` prints."""

from __future__ import annotations

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from mpmesh_core.evaluation.bench_files import BenchFile, changes, differences

COLUMNS = {
    "p50": ".1f",
    "p95": ".1f",
    "p99": ".1f",
    "fps": ".1f",
    "people": ".1f",
    "memory_mb": ".0f",
    "fps_at_once": ".1f",
    "up": "g",
    "down": "g",
    "kernels": "g",
}
"""Of the line's table, and how they are written."""

TOLD = ("backend", "precision", "device", "cores", "memory")
"""What the setup says, below the table."""


def print_line(console: Console, found: BenchFile) -> None:
    """Every row, and what the figures belong to."""
    rows = {name: row.model_dump(exclude_none=True) for name, row in found.line.items()}
    measured = {name for row in rows.values() for name in row}
    columns = {name: style for name, style in COLUMNS.items() if name in measured}
    setup = (f"{name}: {found.setup[name]}" for name in TOLD if name in found.setup)
    titles = (name.replace("_", " ") for name in columns)
    line = Table(_what(), *titles, title="whole line in ms", caption=Text("; ".join(setup)))
    stages = dict.fromkeys(stage for row in rows.values() for stage in row["stages"])
    parts = Table(_what(), *stages, title="its stages, p50 in ms")
    for name, row in rows.items():
        values = (format(row[key], style) if key in row else "-" for key, style in columns.items())
        line.add_row(Text(name), *values)
        times = (row["stages"].get(stage) for stage in stages)
        parts.add_row(Text(name), *("-" if ms is None else f"{ms:.1f}" for ms in times))
    console.print(line, parts)


def _what() -> Column:
    """First column of a table, which holds its own cells."""
    return Column("what", overflow="fold")


def print_geometry(console: Console, found: BenchFile) -> None:
    """How exact inverse kinematics and placement are, where it was measured."""
    report = found.geometry
    if report is None or found.ik is None or found.body is None:
        return
    rows = {
        "IK, exact skeletons: largest joint error": f"{report.ik_exact_mm:.4f} mm",
        "IK, exact skeletons: largest rotation error": f"{report.ik_exact_deg:.4f} degree",
        "IK, 25 mm noise: mean joint error": f"{report.ik_noisy_mm:.1f} mm",
        "IK, degenerate skeletons: off SO(3) by": f"{report.ik_worst_orthogonality:.1e}",
        "IK, 16 people": f"{found.ik.p50:.2f} ms",
        "body with vertices, 16 people": f"{found.body.p50:.2f} ms",
        "placement, exact input": f"{report.placement_exact_mm:.3f} mm",
    }
    for distance, share in report.placement_coverage.items():
        rows[f"truths in the 68 % ellipsoid at {distance} m"] = f"{100 * share:.1f} %"
    table = Table(title="geometry")
    table.add_column("what")
    table.add_column("value", justify="right")
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)


def print_changes(console: Console, before: BenchFile, now: BenchFile) -> None:
    """Both files side by side, and what else differs between them."""
    table = Table("what", "before", "now", "change", title="p50 in ms before and now")
    for row in changes(before, now):
        values = ("-" if ms is None else f"{ms:.2f}" for ms in (row.before, row.now))
        only = "only before" if row.now is None else "only now"
        change = only if row.percent is None else f"{row.percent:+.1f} %"
        table.add_row(Text(row.name), *values, change)
    console.print(table)
    if (differing := differences(before, now)) is not None:
        console.print(f"warning: {differing}", style="yellow", markup=False, soft_wrap=True)
