"""cli.data: `mpmesh data`: which data sets there are, whether they are whole, what to train on."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mpmesh_core.cli import options
from mpmesh_core.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpmesh_core.datasets import FrameRecord
    from mpmesh_core.training.dataset_people import TargetBody

app = typer.Typer(
    no_args_is_help=True,
    help="Published data sets: list, check, convert.\n\nExample: mpmesh data list",
)

Name = Annotated[str, typer.Argument(help="Name of the data set; see `mpmesh data list`.")]
Split = Annotated[str | None, typer.Option(help="train, val, test, ...; default: the first.")]
Every = Annotated[int, typer.Option(min=1, help="Take one frame in so many of a sequence.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many frames.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")]
Kind = Annotated[str, typer.Option("--body", help="Body that is trained: open or smpl.")]
Gender = Annotated[str, typer.Option(help="Of --body smpl: neutral, male or female.")]
SHARD = 256  # scenes


@app.command("list")
def list_sets(
    root: Annotated[
        Path | None, typer.Option(envvar="MPMESH_DATASETS", help="Says what is found there.")
    ] = None,
) -> None:
    """All data sets: folder under the root, labels, licence, where to get them.

    Example: mpmesh data list --root ../datasets
    """
    from mpmesh_core.datasets import DATASETS
    from mpmesh_core.datasets.catalogue import place_of

    table = Table(title="data sets")
    for column in ("name", "folder", "found", "splits", "labels", "licence", "page"):
        table.add_column(column, overflow="fold")
    for info in DATASETS.values():
        found = "-" if root is None else ("yes" if place_of(info, root).is_dir() else "no")
        splits = ", ".join(info.splits)
        table.add_row(info.name, info.folder, found, splits, info.labels, info.licence, info.page)
    Console().print(table)


@app.command("check")
def check(
    name: Name,
    root: options.DatasetRoot,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Contact sheet to write (PNG).")
    ] = None,
    pictures: Annotated[int, typer.Option(min=1, max=64, help="On the sheet.")] = 12,
    limit: Limit = None,
) -> None:
    """What is there of a data set, and how well its labels agree with one another.

    Example: mpmesh data check coco --root ../datasets --output coco.png
    """
    from mpmesh_core.cli.data_sheet import write_sheet
    from mpmesh_core.datasets.catalogue import dataset_info, place_of
    from mpmesh_core.datasets.check import SplitReport, check_split_of, spread_out
    from mpmesh_core.outputs import refuse_folder

    if output is not None:
        refuse_folder(output)
    info = dataset_info(name)
    folder = place_of(info, root)
    reports: list[SplitReport] = [check_split_of(name, root, s, limit) for s in info.splits]
    table = Table(title=f"{info.title} in {folder}")
    for column in ("split", "sequences", "frames", "people", "labels", "3D on 2D [px]", "state"):
        table.add_column(column, overflow="fold")
    for report in reports:
        labels = ", ".join(f"{key} {count}" for key, count in sorted(report.labels.items()))
        error = "-" if report.error_px is None else f"{report.error_px:.2f}"
        counts = (str(n) for n in (report.sequences, report.frames, report.people))
        table.add_row(report.split, *counts, labels, error, report.state)
    Console().print(table)
    for report in reports:
        if report.error is not None:
            typer.echo(f"{report.split}: {report.error}")
    whole = [report for report in reports if report.frames]
    if not whole:
        errors = [report.error for report in reports if report.error is not None]
        raise errors[0] if errors else InputError(f"{info.title}: no frame in {folder}")
    if output is not None:
        first = whole[0]
        write_sheet(output, spread_out(name, root, first.split, first.frames, pictures))
        typer.echo(f"{output}")


@app.command("people")
def people(
    name: Name,
    root: options.DatasetRoot,
    output: Output,
    split: Split = None,
    every: Every = 1,
    limit: Limit = None,
    least_size: Annotated[float, typer.Option(help="Pixels of a person, the longer way.")] = 40.0,
    body: Kind = "open",
    gender: Gender = "neutral",
) -> None:
    """Cut people out with their labels, as `mpmesh train skeleton` reads them.

    Example: mpmesh data people h36m --root ../datasets --every 50 --output runs/people/h36m
    """
    from mpmesh_core.training.dataset_people import dataset_people
    from mpmesh_core.training.skeleton_data import write_people

    records = _records(name, root, split, every, limit)
    bad: list[str] = []
    found = dataset_people(records, _target(body, gender), least_size, bad)
    try:
        typer.echo(f"{write_people(output, found)} people in {output}")
    finally:
        _report(bad)


@app.command("scenes")
def scenes(
    name: Name,
    root: options.DatasetRoot,
    output: Output,
    split: Split = None,
    every: Every = 1,
    limit: Limit = None,
    body: Kind = "open",
    gender: Gender = "neutral",
) -> None:
    """Write shards of scenes, as `mpmesh train refiner` reads them, where bodies are known.

    Example: mpmesh data scenes surreal --root ../datasets --body smpl --gender male -o runs/male
    """
    from mpmesh_core.outputs import prepare_folder
    from mpmesh_core.training.dataset_people import dataset_scenes
    from mpmesh_core.training.scene import write_shard

    bad: list[str] = []
    records = _records(name, root, split, every, limit)
    found = dataset_scenes(records, _target(body, gender), bad)
    folder, count = prepare_folder(output), 0
    if any(folder.glob("shard-*.npz")):
        raise UsageError(f"{output} holds scenes already; remove them, or give another --output")
    while shard := list(islice(found, SHARD)):
        write_shard(folder / f"shard-{count // SHARD:05d}.npz", shard)
        count += len(shard)
    if not count:
        raise UsageError(
            f"{name} has no frame with {gender} {body} bodies only; "
            "give --body and --gender as the set has them, or use `mpmesh data people`"
        )
    typer.echo(f"{count} scenes in {output}")
    _report(bad)


def _report(bad: list[str]) -> None:
    """Frames that were left out, with the first reason."""
    if bad:
        typer.echo(f"{len(bad)} frames left out; the first: {bad[0]}", err=True)


def _records(
    name: str, root: Path, split: str | None, step: int, limit: int | None
) -> Iterator[FrameRecord]:
    from mpmesh_core.datasets import read_dataset
    from mpmesh_core.training.dataset_people import every

    return islice(every(read_dataset(name, root, split), step), limit)


def _target(kind: str, gender: str) -> TargetBody:
    from mpmesh_core.body import load_body
    from mpmesh_core.training.dataset_people import TargetBody

    if kind not in ("open", "smpl"):
        raise UsageError(f"--body {kind!r}: must be open or smpl")
    return TargetBody(load_body(kind, gender), kind, gender)
