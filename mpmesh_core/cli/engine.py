"""cli.engine: `mpmesh engine`: make engines, list them, compare them with torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mpmesh_core.cli import options
from mpmesh_core.errors import InputError, NumericalError

if TYPE_CHECKING:
    from mpmesh_core.camera import Camera
    from mpmesh_core.engines.tensorrt_build import Watch
    from mpmesh_core.evaluation.parity import Comparison
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
    max_people: Annotated[
        int,
        typer.Option(min=1, max=256, help="Most people of TensorRT engines; others have no limit."),
    ] = 32,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Build TensorRT engines, or export for ONNX Runtime and OpenVINO, even where they"
            " are kept; torch keeps nothing.",
        ),
    ] = False,
) -> None:
    """Make the three engines of a variant and keep them for later runs; Ctrl-C stops a build.

    Example: mpmesh engine build --backend tensorrt --max-people 16
    """
    from mpmesh_core.engines import CPU_ONLY, choose_backend, load_engine
    from mpmesh_core.engines.onnx_cache import cached_onnx
    from mpmesh_core.networks import KINDS
    from mpmesh_core.weights import weights_path

    chosen, where = choose_backend(backend, device)  # type: ignore[arg-type]
    if chosen == "torch":
        typer.echo("torch runs checkpoints as they are: nothing is built or kept")
    for name in KINDS:
        path = weights_path(name, variant, weights)
        if chosen == "tensorrt":
            from mpmesh_core.engines.tensorrt_loading import load_tensorrt

            with _progress(name) as watch:
                load_tensorrt(name, path, where, max_people, watch, force)
        else:
            if force and chosen in CPU_ONLY:
                cached_onnx(name, path, force=True)
            load_engine(name, path, chosen, where)
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
    for path in paths:
        stored, size = read_plan(path), f"{path.stat().st_size / 2**20:.1f} MB"
        if isinstance(stored, str):
            typer.echo(f"{path.name}: not usable, {stored}, {size}")
            continue
        key = stored.key
        batch = "1 picture" if key.network == "detector" else f"1..{key.max_people} people"
        typer.echo(f"{path.name}: {batch}, {key.precision}")
        typer.echo(f"  {key.gpu}, TensorRT {key.tensorrt}, {size}")


@app.command("check")
def check(
    sources: Annotated[
        list[str] | None, typer.Argument(help="Pictures; default: a rendered clip.")
    ] = None,
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    variant: options.Variant = "light",
    weights: options.Weights = None,
    max_people: options.MaxPeople = 32,
    frames: Annotated[int, typer.Option(min=1, help="Pictures to compare at the most.")] = 20,
) -> None:
    """Compare a backend with torch on the CPU, stage by stage; fails above a threshold.

    Example: mpmesh engine check photos/ --backend onnxruntime
    """
    from mpmesh_core.evaluation.parity import compare

    line = {"track": False, "mesh": True, "second_look": "off"}
    settings = {"variant": variant, "weights": weights, "max_people": max_people, **line}
    tested = options.load_pipeline(backend=backend, device=device, **settings)
    reference = options.load_pipeline(backend="torch", device="cpu", **settings)
    compared = compare(reference, tested, _pictures(sources, frames))
    title = f"{tested.backend} on {tested.device} against torch on the CPU"
    Console().print(_table(compared, title))
    failed = [f"{row.stage} {row.quantity}" for row in compared.rows if not row.ok]
    if failed:
        raise NumericalError(f"{title}: {', '.join(failed)} differ by more than allowed")


def _pictures(sources: list[str] | None, frames: int) -> Iterator[tuple[Array, Camera]]:
    """Pictures and cameras, from sources or rendered; bad pictures are told and left out.

    Raises:
        InputError: no picture could be used.
    """
    from mpmesh_core.camera import Camera
    from mpmesh_core.run_outputs import DEFAULT_FOV
    from mpmesh_core.sources import BadFrame, open_sources
    from mpmesh_core.training.synthetic.demo_clip import demo_clip

    if not sources:
        for scene in demo_clip(frames=frames):
            yield scene.image, scene.camera
        return
    used, first_reason = 0, ""
    for frame in (frame for source in open_sources(sources) for frame in source):
        if isinstance(frame, BadFrame):
            typer.echo(f"left out: {frame.reason}", err=True)
            first_reason = first_reason or frame.reason
            continue
        height, width = frame.image.shape[:2]
        yield frame.image, frame.camera or Camera.from_fov(width, height, DEFAULT_FOV)
        used += 1
        if used == frames:
            return
    if not used:
        raise InputError(f"no picture could be used: {first_reason or 'the sources hold no frame'}")


def _table(compared: Comparison, title: str) -> Table:
    counts = f"{compared.pictures} pictures, {compared.people} people"
    table = Table(title=f"{title}: {counts}")
    for column in ("stage", "quantity", "mean", "largest", "allowed mean", ""):
        table.add_column(column)
    for row in compared.rows:
        verdict = "ok" if row.ok else "TOO FAR"
        values = (f"{value:.3g} {row.unit}" for value in (row.mean, row.worst, row.limit))
        table.add_row(row.stage, row.quantity, *values, verdict)
    return table


@contextmanager
def _progress(name: str) -> Iterator[Watch]:
    """A bar of what TensorRT is doing; Ctrl-C ends the build after its current step."""
    from mpmesh_core.engines.tensorrt_build import Watch
    from mpmesh_core.stopping import StopRequest

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    bar = progress.add_task(name, total=1.0)

    def report(phase: str, share: float) -> None:
        progress.update(bar, description=f"{name}: {phase}", completed=share)

    with StopRequest(progress.console.print) as stop:
        try:
            with progress:
                yield Watch(report, lambda: stop.asked)
        finally:
            stop.obey()  # also where the wish came too late for the build
