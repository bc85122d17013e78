"""cli.engine: `mpmesh engine`: make engines, list them, compare them with torch."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mpmesh_core.cli import options
from mpmesh_core.errors import NumericalError

if TYPE_CHECKING:
    from mpmesh_core.camera import Camera
    from mpmesh_core.engines.tensorrt_build import Watch
    from mpmesh_core.evaluation.parity import Difference
    from mpmesh_core.types import Array

app = typer.Typer(
    no_args_is_help=True,
    help="Make engines, list them, compare with torch.\n\nExample: mpmesh engine check a.jpg",
)


@app.command("build")
def build(
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    variant: options.Variant = "light",
    weights: options.Weights = None,
    max_people: options.MaxPeople = 32,
    force: Annotated[bool, typer.Option("--force", help="Build even what is there.")] = False,
) -> None:
    """Make the three engines of a variant and keep them for later runs; Ctrl-C stops a build.

    Example: mpmesh engine build --backend tensorrt --max-people 16
    """
    from mpmesh_core.engines import choose_backend, load_engine
    from mpmesh_core.networks import KINDS
    from mpmesh_core.weights import weights_path

    chosen, where = choose_backend(backend, device)  # type: ignore[arg-type]
    for name in KINDS:
        path = weights_path(name, variant, weights)
        if chosen == "tensorrt":
            from mpmesh_core.engines.tensorrt_loading import load_tensorrt

            with _progress(name) as watch:
                load_tensorrt(name, path, where, max_people, watch, force)
        else:
            load_engine(name, path, chosen, where, max_people)
        typer.echo(f"{name}: ready for {chosen} on {where}")


@app.command("info")
def info() -> None:
    """List the TensorRT engines that are kept, and the backend that `auto` takes here.

    Example: mpmesh engine info
    """
    from mpmesh_core.engines import choose_backend
    from mpmesh_core.engines.plan_cache import plan_folder, read_plan

    backend, device = choose_backend()
    typer.echo(f"backend auto takes {backend} on {device}")
    paths = sorted(plan_folder().glob("*.plan"))
    if not paths:
        typer.echo(f"no TensorRT engines in {plan_folder()}")
        return
    table = Table()
    for column in ("file", "network", "GPU", "TensorRT", "shapes", "size"):
        table.add_column(column)
    for path in paths:
        stored = read_plan(path)
        size = f"{path.stat().st_size / 2**20:.1f} MB"
        if isinstance(stored, str):
            table.add_row(path.name, stored, "", "", "", size)
        else:
            key = stored.key
            table.add_row(path.name, key.network, key.gpu, key.tensorrt, key.profile, size)
    Console().print(table)


@app.command("check")
def check(
    sources: Annotated[
        list[str] | None, typer.Argument(help="Pictures; default: a rendered clip.")
    ] = None,
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    variant: options.Variant = "light",
    weights: options.Weights = None,
    frames: Annotated[int, typer.Option(min=1, help="Pictures to compare at the most.")] = 20,
) -> None:
    """Compare a backend with torch on the CPU, stage by stage; fails above a threshold.

    Example: mpmesh engine check photos/ --backend onnxruntime
    """
    from mpmesh_core.evaluation.parity import compare

    line = {"track": False, "mesh": True, "second_look": "off"}
    settings = {"variant": variant, "weights": weights, **line}
    tested = options.load_pipeline(backend=backend, device=device, **settings)
    reference = options.load_pipeline(backend="torch", device="cpu", **settings)
    rows = compare(reference, tested, _pictures(sources, frames))
    title = f"{tested.backend} on {tested.device} against torch on the CPU"
    Console().print(_table(rows, title))
    failed = [f"{row.stage} {row.quantity}" for row in rows if not row.ok]
    if failed:
        raise NumericalError(f"{title}: {', '.join(failed)} differ by more than allowed")


def _pictures(sources: list[str] | None, frames: int) -> Iterator[tuple[Array, Camera]]:
    """Pictures and cameras, from sources or rendered."""
    from itertools import islice

    from mpmesh_core.camera import Camera
    from mpmesh_core.run_outputs import DEFAULT_FOV
    from mpmesh_core.sources import Frame, open_sources
    from mpmesh_core.training.synthetic.demo_clip import demo_clip

    if not sources:
        for scene in demo_clip(frames=frames):
            yield scene.image, scene.camera
        return
    read = (frame for source in open_sources(sources) for frame in source)
    for frame in islice((frame for frame in read if isinstance(frame, Frame)), frames):
        height, width = frame.image.shape[:2]
        yield frame.image, frame.camera or Camera.from_fov(width, height, DEFAULT_FOV)


def _table(rows: list[Difference], title: str) -> Table:
    table = Table(title=title)
    for column in ("stage", "quantity", "mean", "largest", "allowed mean", ""):
        table.add_column(column)
    for row in rows:
        verdict = "ok" if row.ok else "TOO FAR"
        values = (f"{value:.3g} {row.unit}" for value in (row.mean, row.worst, row.limit))
        table.add_row(row.stage, row.quantity, *values, verdict)
    return table


@contextmanager
def _progress(name: str) -> Iterator[Watch]:
    """A bar of what TensorRT is doing; Ctrl-C ends the build after its current step."""
    from mpmesh_core.engines.tensorrt_build import Watch

    stopped = Event()
    before = signal.signal(signal.SIGINT, lambda *_: stopped.set())
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, transient=True) as progress:
            bar = progress.add_task(name, total=1.0)

            def report(phase: str, share: float) -> None:
                progress.update(bar, description=f"{name}: {phase}", completed=share)

            yield Watch(report, stopped.is_set)
    finally:
        signal.signal(signal.SIGINT, before)
