"""cli.bench: `mpmesh bench`: speed of the line and exactness of its geometry on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mpmesh_core.cli import options
from mpmesh_core.errors import UsageError

if TYPE_CHECKING:
    from mpmesh_core.evaluation.bench_files import BenchFile, Row
    from mpmesh_core.pipeline import Pipeline

Size = tuple[int, int]  # [px], width and height
Counts = Sequence[int | None]  # people to force; None: as many as are found


def bench(
    context: typer.Context,
    runs: Annotated[int, typer.Option(min=5, help="Frames to time.")] = 100,
    size: Annotated[list[str] | None, typer.Option(help="Picture, 1920x1080; repeatable.")] = None,
    people: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            max=256,
            help="Force so many people, without second looks unless asked for; repeatable.",
        ),
    ] = None,
    geometry: Annotated[bool, typer.Option(help="Also measure IK, placement and body.")] = True,
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    variant: options.Variant = "light",
    weights: options.Weights = None,
    max_people: options.MaxPeople = 32,
    refine: options.Refine = True,
    mirror: options.Mirror = False,
    second_look: options.SecondLook = "auto",
    fuse: options.Fuse = "auto",
    output: Annotated[
        Path | None, typer.Option(help="Write the figures as JSON, anew after each row.")
    ] = None,
    against: Annotated[Path | None, typer.Option(help="Compare with an older JSON file.")] = None,
    read: Annotated[
        Path | None, typer.Option(help="Show the figures of this file, measure nothing.")
    ] = None,
) -> None:
    """Time the whole line on rendered people; measure IK and placement; compare two files.

    Example: mpmesh bench --size 640x480 --size 3840x2160 --people 1 --people 16 --output new.json
    """
    from mpmesh_core.cli.bench_sheet import print_changes, print_geometry, print_line
    from mpmesh_core.evaluation.bench_files import check_common, read_bench
    from mpmesh_core.outputs import prepare_folder, refuse_folder

    if read is not None:
        _refuse_measuring(context)
    if output is not None:  # a wrong file is told at once, here and below
        refuse_folder(output)
        prepare_folder(output.parent)
    console = Console()
    before = None if against is None else read_bench(against)
    if read is not None:
        found = read_bench(read)
        if before is not None and against is not None:
            check_common(against, before, found.line)
        print_line(console, found)
        print_geometry(console, found)
    else:
        sizes = [options.picture_size(text) for text in size or ["640x480"]]
        counts: Counts = people or [None]
        pipeline = options.load_pipeline(
            backend=backend,
            device=device,
            variant=variant,
            weights=weights,
            refine=refine,
            mirror=mirror,
            second_look="off" if people and second_look == "auto" else second_look,
            fuse=fuse,
            max_people=max([max_people, *(people or [])]),
        )
        if before is not None and against is not None:
            names = [_name(pipeline, *which) for which in product(sizes, counts)]
            check_common(against, before, names)
        found = _measure(pipeline, sizes, counts, runs, geometry, output, console)
    if before is not None:
        print_changes(console, before, found)


def _refuse_measuring(context: typer.Context) -> None:
    """--read goes with --against only."""
    given = [
        "--" + name.replace("_", "-")
        for name in context.params
        if context.get_parameter_source(name).name != "DEFAULT"  # type: ignore[union-attr]
    ]
    if more := [name for name in given if name not in ("--read", "--against")]:
        raise UsageError(f"--read measures nothing: leave out {', '.join(more)}")


def _measure(
    pipeline: Pipeline,
    sizes: Sequence[Size],
    counts: Counts,
    runs: int,
    geometry: bool,
    output: Path | None,
    console: Console,
) -> BenchFile:
    """Everything, printed; written after each row, so that little is lost when it is stopped."""
    from mpmesh_core.cli.bench_sheet import print_geometry, print_line
    from mpmesh_core.evaluation import bench as measure
    from mpmesh_core.evaluation.bench_files import BenchFile
    from mpmesh_core.evaluation.bench_setup import bench_setup

    found = BenchFile(setup=bench_setup(pipeline))

    def keep() -> None:
        if output is not None:
            options.write_json(output, found.model_dump(mode="json", exclude_none=True))

    try:
        for name, row in _rows(pipeline, sizes, counts, runs):
            found.line[name] = row
            keep()
    finally:
        if found.line:
            print_line(console, found)
    if geometry:
        body = pipeline.body.cpu()
        found.geometry = measure.measure_geometry(body)
        found.ik, found.body = measure.bench_ik(body), measure.bench_body(body)
        print_geometry(console, found)
        keep()
    return found


def _rows(
    pipeline: Pipeline, sizes: Sequence[Size], counts: Counts, runs: int
) -> Iterator[tuple[str, Row]]:
    """Names and figures of every size and number of people."""
    from mpmesh_core.evaluation.bench_files import Row
    from mpmesh_core.evaluation.latency import (
        FixedPeople,
        count_copies,
        frame_rate,
        spread_boxes,
        time_frames,
    )
    from mpmesh_core.training.synthetic.demo_clip import demo_clip

    ahead = _frames_at_once(pipeline)
    lines = [line for line in (pipeline, ahead) if line is not None]
    for width, height in sizes:
        scenes = list(demo_clip(frames=30 if width * height < 10**6 else 2, size=(width, height)))
        images, camera = [scene.image for scene in scenes], scenes[0].camera
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
            yield _name(pipeline, (width, height), count), Row(**row)


def _name(pipeline: Pipeline, size: Size, people: int | None) -> str:
    line = f"{pipeline.config.variant} {pipeline.backend} {pipeline.device.type}"
    found = "people found" if people is None else f"{people} people"
    return f"{line} {size[0]}x{size[1]} {found}"


def _frames_at_once(pipeline: Pipeline) -> Pipeline | None:
    """The same line for a frame a core; None where frames go through it one by one."""
    from mpmesh_core.ahead import one_a_core
    from mpmesh_core.pipeline import Pipeline

    at_once = one_a_core()
    if pipeline.device.type != "cpu" or at_once == 1:
        return None
    return Pipeline(pipeline.config, at_once=at_once)
