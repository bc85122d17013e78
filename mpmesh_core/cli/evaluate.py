"""cli.evaluate: `mpmesh evaluate`: accuracy against known truth, protocol by protocol."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from mpmesh_core.cli import evaluate_scenes, evaluate_sets, options

app = typer.Typer(no_args_is_help=True, help="Measure accuracy against known truth.")
app.command("3dpw")(evaluate_sets.threedpw)
app.command("mupots")(evaluate_sets.mupots)
app.command("agora")(evaluate_sets.agora)
app.command("synthetic")(evaluate_scenes.synthetic)
app.command("bag")(evaluate_scenes.bag)
Output = Annotated[Path | None, typer.Option(help="Write the figures as JSON.")]


@app.command("photos")
def photos(
    data: options.DataFolder,
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    weights: options.Weights = None,
    refine: options.Refine = True,
    mirror: options.Mirror = False,
    output: Output = None,
) -> None:
    """Detection and 2D keypoints on real photos with COCO keypoints.

    Example: mpmesh evaluate photos --data ../data
    """
    from mpmesh_core.evaluation.photos import evaluate_photos, photos_with_keypoints

    report = evaluate_photos(
        options.load_pipeline(
            backend=backend,
            device=device,
            weights=weights,
            refine=refine,
            mirror=mirror,
            track=False,
        ),
        photos_with_keypoints(data),
    )
    table = Table(title=f"{report.photos} photos, {report.truths} people of 96 px or more")
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_row(
        "recall / precision of the reported people", _pair(report.recall, report.precision)
    )
    table.add_row("recall at precision 0.85", f"{report.recall_at_85:.3f}")
    table.add_row(f"PCK@0.2 torso, {report.keypoints} keypoints", f"{report.pck_02:.3f}")
    table.add_row("PCK@0.5 torso", f"{report.pck_05:.3f}")
    _show(table, asdict(report), output)


@app.command("studio")
def studio(
    data: options.DataFolder,
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    weights: options.Weights = None,
    refine: options.Refine = True,
    mirror: options.Mirror = False,
    output: Output = None,
) -> None:
    """3D joints on Human3.6M and MPI-INF-3DHP frames, 12 limb joints.

    Example: mpmesh evaluate studio --data ../data
    """
    from mpmesh_core.evaluation.studio import evaluate_studio, studio_frames

    report = evaluate_studio(
        options.load_pipeline(
            backend=backend,
            device=device,
            weights=weights,
            refine=refine,
            mirror=mirror,
            track=False,
        ),
        studio_frames(data),
    )
    table = Table(title="12 limb joints of the final mesh [mm]")
    for column in ("frame", "MPJPE", "PA-MPJPE", "distance error"):
        table.add_column(column, justify="left" if column == "frame" else "right")
    rows = zip(report.names, report.mpjpe, report.pa_mpjpe, report.distance_error)
    for name, error, aligned, distance in rows:
        table.add_row(name, f"{error:.1f}", f"{aligned:.1f}", f"{100 * distance:+.1f} %")
    spread = np.nanmean(np.abs(report.distance_error))
    table.add_row(
        "mean",
        f"{np.nanmean(report.mpjpe):.1f}",
        f"{np.nanmean(report.pa_mpjpe):.1f}",
        f"{100 * spread:.1f} %",
    )
    figures = {name: np.asarray(value).tolist() for name, value in asdict(report).items()}
    _show(table, figures, output)


@app.command("demo")
def demo(
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    weights: options.Weights = None,
    refine: options.Refine = True,
    mirror: options.Mirror = False,
    output: Output = None,
) -> None:
    """The rendered demo clip with known truth; needs no data.

    Example: mpmesh evaluate demo
    """
    from mpmesh_core.evaluation.clip import clip_table, evaluate_clip
    from mpmesh_core.training.synthetic.demo_clip import demo_clip

    pipeline = options.load_pipeline(
        backend=backend, device=device, weights=weights, refine=refine, mirror=mirror
    )
    report = evaluate_clip(pipeline, demo_clip())
    _show(clip_table(report), asdict(report), output)


def _pair(first: float, second: float) -> str:
    return f"{first:.3f} / {second:.3f}"


def _show(table: Table, figures: dict, output: Path | None) -> None:
    Console().print(table)
    if output is not None:
        options.write_json(output, figures)
