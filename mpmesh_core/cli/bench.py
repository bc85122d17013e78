"""cli.bench: `mpmesh bench`: speed of the line and exactness of its geometry on this machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mpmesh_core.cli import options
from mpmesh_core.errors import UsageError

if TYPE_CHECKING:
    from mpmesh_core.evaluation.bench import GeometryReport, Timing
    from mpmesh_core.evaluation.bench_files import Change
    from mpmesh_core.pipeline import Pipeline

Rows = dict[str, dict[str, Any]]


def bench(
    runs: Annotated[int, typer.Option(min=5, help="Frames to time.")] = 100,
    size: Annotated[list[str] | None, typer.Option(help="Picture, 1920x1080; repeatable.")] = None,
    people: Annotated[
        list[int] | None, typer.Option(min=1, max=256, help="Force so many people; repeatable.")
    ] = None,
    geometry: Annotated[bool, typer.Option(help="Also measure IK, placement and body.")] = True,
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    variant: options.Variant = "light",
    weights: options.Weights = None,
    refine: options.Refine = True,
    mirror: options.Mirror = False,
    second_look: options.SecondLook = "auto",
    fuse: options.Fuse = "auto",
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
    against: Annotated[Path | None, typer.Option(help="Compare with an older JSON file.")] = None,
    read: Annotated[
        Path | None, typer.Option(help="Take the figures from this file, measure nothing.")
    ] = None,
) -> None:
    """Time the whole line on rendered people; measure IK and placement; compare two files.

    Example: mpmesh bench --size 640x480 --size 3840x2160 --people 1 --people 16 --output new.json
    """
    from mpmesh_core.evaluation.bench_files import changes, read_bench
    from mpmesh_core.outputs import refuse_folder

    if output is not None:
        refuse_folder(output)
    console = Console()
    before = None if against is None else read_bench(against)  # a wrong file is told at once
    if read is not None:
        line = read_bench(read)
    else:
        sizes = [_size(text) for text in size or ["640x480"]]
        pipeline = options.load_pipeline(
            backend=backend,
            device=device,
            variant=variant,
            weights=weights,
            refine=refine,
            mirror=mirror,
            second_look=second_look,
            fuse=fuse,
            max_people=max([32, *(people or [])]),
        )
        ahead = _frames_at_once(pipeline)
        line = dict(_rows(pipeline, ahead, sizes, people or [], runs))
        console.print(_line_table(line, f"{pipeline.backend} on {pipeline.device}, {_machine()}"))
        figures: dict[str, object] = {"machine": _machine(), "line": line}
        if geometry:
            figures |= _geometry(pipeline, console)
        if output is not None:
            options.write_json(output, figures)
    if before is not None:
        console.print(_change_table(changes(before, line)))


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) * int(height)):
        raise UsageError(f"--size {text!r}: give width x height, for example 1920x1080")
    return int(width), int(height)


def _frames_at_once(pipeline: Pipeline) -> Pipeline | None:
    """The same line for a frame a core; None where frames go through it one by one."""
    from mpmesh_core.ahead import one_a_core
    from mpmesh_core.pipeline import Pipeline

    at_once = one_a_core()
    if pipeline.device.type != "cpu" or at_once == 1:
        return None
    return Pipeline(pipeline.config, at_once=at_once)


def _rows(
    pipeline: Pipeline,
    ahead: Pipeline | None,
    sizes: list[tuple[int, int]],
    people: list[int],
    runs: int,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and figures of every size and number of people."""
    from mpmesh_core.evaluation.latency import (
        FixedPeople,
        count_copies,
        frame_rate,
        spread_boxes,
        time_frames,
    )
    from mpmesh_core.training.synthetic.demo_clip import demo_clip

    described = f"{pipeline.config.variant} {pipeline.backend} {pipeline.device.type}"
    lines = [line for line in (pipeline, ahead) if line is not None]
    for width, height in sizes:
        scenes = list(demo_clip(frames=30 if width * height < 10**6 else 2, size=(width, height)))
        images, camera = [scene.image for scene in scenes], scenes[0].camera
        counts: list[int | None] = [*people] or [None]
        for count in counts:
            pipeline.start()
            boxes = None if count is None else spread_boxes(count, width, height)
            fixed = [FixedPeople(line, boxes) for line in lines if boxes is not None]
            row = asdict(time_frames(pipeline, images, camera, runs))
            if pipeline.device.type == "cuda":
                row |= count_copies(pipeline, images[0], camera)
            if ahead is not None:
                row["fps_at_once"] = frame_rate(ahead, images, camera, runs)
            for line in fixed:
                line.free()
            found = "people found" if count is None else f"{count} people"
            yield f"{described} {width}x{height} {found}", row


def _geometry(pipeline: Pipeline, console: Console) -> dict[str, object]:
    from mpmesh_core.evaluation import bench as measure

    body = pipeline.body.cpu()
    report = measure.measure_geometry(body)
    ik, forward = measure.bench_ik(body), measure.bench_body(body)
    console.print(_geometry_table(report, ik, forward))
    return {"geometry": asdict(report), "ik": asdict(ik), "body": asdict(forward)}


def _machine() -> str:
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def _line_table(rows: Rows, title: str) -> Table:
    table = Table(title=f"whole line in ms, {title}")
    columns = {"p50": ".1f", "p95": ".1f", "p99": ".1f", "fps": ".1f", "people": ".1f"}
    columns |= {"memory_mb": ".0f"}
    measured = {name for row in rows.values() for name in row}
    some = {"fps_at_once": ".1f", "up": "g", "down": "g", "kernels": "g"}
    extra = {name: style for name, style in some.items() if name in measured}
    for column in ("what", *columns, *extra, "stages p50"):
        table.add_column(column)
    for name, row in rows.items():
        stages = " ".join(f"{stage} {ms:.1f}" for stage, ms in row["stages"].items())
        values = [f"{row[key]:{style}}" for key, style in columns.items()]
        values += [f"{row.get(key, 0):{style}}" for key, style in extra.items()]
        table.add_row(name, *values, stages)
    return table


def _change_table(rows: list[Change]) -> Table:
    table = Table(title="p50 in ms before and now")
    for column in ("what", "before", "now", "change"):
        table.add_column(column)
    for row in rows:
        table.add_row(row.name, f"{row.before:.2f}", f"{row.now:.2f}", f"{row.percent:+.1f} %")
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
