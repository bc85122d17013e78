"""cli.demo: `mpmesh demo`: a rendered clip of moving people through the line, against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mpmesh_core.cli import options
from mpmesh_core.cli.evaluate_report import show_report


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.")] = Path(
        "demo_output"
    ),
    seconds: Annotated[float, typer.Option(min=0.2, max=60, help="Length of the clip.")] = 8.0,
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    weights: options.Weights = None,
    refine: options.Refine = True,
    mirror: options.Mirror = False,
    second_look: options.SecondLook = "auto",
    fuse: options.Fuse = "auto",
) -> None:
    """Render a clip, find its people, and compare them with the truth; needs no data.

    Example: mpmesh demo --output demo_output
    """
    from mpmesh_core.evaluation.clip import compare_clip, posed_truths
    from mpmesh_core.evaluation.summaries import clip_report
    from mpmesh_core.outputs import read_results
    from mpmesh_core.pipeline import Pipeline
    from mpmesh_core.progress import run_with_progress
    from mpmesh_core.run_outputs import RunConfig
    from mpmesh_core.showcase import write_showcase
    from mpmesh_core.training.synthetic.clip_source import ClipSource
    from mpmesh_core.training.synthetic.demo_clip import FPS, demo_clip

    config = options.pipeline_config(
        backend=backend,
        device=device,
        weights=weights,
        refine=refine,
        mirror=mirror,
        second_look=second_look,
        fuse=fuse,
    )
    with Console().status("rendering the clip"):
        scenes = list(demo_clip(frames=max(3, round(seconds * FPS))))
    clip = ClipSource(scenes, FPS)
    pipeline = Pipeline(config, at_once=options.frames_at_once(0, config, [clip]))
    summary = run_with_progress([clip], pipeline, RunConfig(folder=output))
    results = read_results(output)
    report = compare_clip(results, posed_truths(scenes, pipeline.body), pipeline.body)
    show_report(clip_report(report), None)
    pictures = [scene.image for scene in scenes]
    best = write_showcase(output / "demo.jpg", pictures, results, pipeline.body, scenes[0].camera)
    typer.echo(f"video: {summary.last_overlay}")
    typer.echo(f"picture: {best or 'none, nobody was found'}")
