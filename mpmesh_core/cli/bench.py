"""cli.bench: `mpmesh bench`: speed of the line and exactness of its geometry on this machine."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mpmesh_core.cli import options

if TYPE_CHECKING:
    from mpmesh_core.evaluation.bench import GeometryReport, LineReport, Timing


def bench(
    runs: Annotated[int, typer.Option(min=5, help="Frames to time.")] = 100,
    geometry: Annotated[bool, typer.Option(help="Also measure IK, placement and body.")] = True,
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    variant: options.Variant = "light",
    weights: options.Weights = None,
    refine: options.Refine = True,
    mirror: options.Mirror = False,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Time the whole line at 640x480 with three rendered people; measure IK and placement.

    Example: mpmesh bench --backend onnxruntime --output bench.json
    """
    from mpmesh_core.evaluation import bench as measure
    from mpmesh_core.training.synthetic.demo_clip import demo_clip

    pipeline = options.load_pipeline(
        backend=backend,
        device=device,
        variant=variant,
        weights=weights,
        refine=refine,
        mirror=mirror,
    )
    scenes = list(demo_clip(frames=30))
    line = measure.bench_line(pipeline, [scene.image for scene in scenes], scenes[0].camera, runs)
    console = Console()
    console.print(_line_table(line, pipeline.backend))
    figures: dict[str, object] = {"machine": _machine(), "line": asdict(line)}
    if geometry:
        body = pipeline.body.cpu()
        report = measure.measure_geometry(body)
        ik, forward = measure.bench_ik(body), measure.bench_body(body)
        console.print(_geometry_table(report, ik, forward))
        figures |= {"geometry": asdict(report), "ik": asdict(ik), "body": asdict(forward)}
    if output is not None:
        options.write_json(output, figures)


def _machine() -> str:
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def _line_table(report: LineReport, backend: str) -> Table:
    table = Table(title=f"640x480, {report.people:.1f} people found, {backend}, {_machine()}")
    for column in ("stage", "p50 [ms]", "p95 [ms]"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for name, timing in report.stages.items():
        table.add_row(name, f"{timing.p50:.1f}", f"{timing.p95:.1f}")
    table.add_row("all", f"{report.total.p50:.1f}", f"{report.total.p95:.1f}")
    table.caption = f"{1e3 / report.total.p50:.1f} FPS, peak memory {report.peak_memory_mb:.0f} MB"
    return table


def _geometry_table(report: GeometryReport, ik: Timing, forward: Timing) -> Table:
    table = Table(title="geometry")
    table.add_column("what")
    table.add_column("value", justify="right")
    rows = {
        "IK, exact skeletons: largest joint error": f"{report.ik_exact_mm:.4f} mm",
        "IK, exact skeletons: largest rotation error": f"{report.ik_exact_deg:.4f} degree",
        "IK, 25 mm noise: mean joint error": f"{report.ik_noisy_mm:.1f} mm",
        "IK, degenerate skeletons: off SO(3) by": f"{report.ik_worst_orthogonality:.1e}",
        "IK, 16 people": f"{ik.p50:.2f} ms",
        "body with vertices, 16 people": f"{forward.p50:.2f} ms",
        "placement, exact input": f"{report.placement_exact_mm:.3f} mm",
    }
    for distance, share in report.placement_coverage.items():
        rows[f"truths in the 68 % ellipsoid at {distance} m"] = f"{100 * share:.1f} %"
    for name, value in rows.items():
        table.add_row(name, value)
    return table
