"""cli.evaluate_scenes: `mpmesh evaluate synthetic|bag`: scenes and recordings with known people."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from mpmesh_core.cli import options
from mpmesh_core.cli.evaluate_report import Output, check_output, show_report, with_progress
from mpmesh_core.cli.replay import replay
from mpmesh_core.errors import UsageError


def synthetic(
    scenes: Annotated[Path, typer.Argument(help="Folder of shards of `mpmesh train synthesize`.")],
    count: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    variant: options.Variant = "light",
    weights: options.Weights = None,
    refine: options.Refine = True,
    mirror: options.Mirror = False,
    second_look: options.SecondLook = "auto",
    fuse: options.Fuse = "auto",
    max_people: options.MaxPeople = 32,
    output: Output = None,
) -> None:
    """Rendered scenes of several people: errors, F1, by crowd, visibility and overlap.

    Example: mpmesh evaluate synthetic runs/scenes/val --count 100 --output synthetic.json
    """
    from mpmesh_core.body import load_body
    from mpmesh_core.evaluation.synthetic import score_synthetic
    from mpmesh_core.training.scene import ShardFolder

    check_output(output)
    folder = ShardFolder(scenes)
    pipeline = options.load_for_pictures(
        backend=backend,
        device=device,
        variant=variant,
        weights=weights,
        refine=refine,
        mirror=mirror,
        second_look=second_look,
        fuse=fuse,
        max_people=max_people,
    )
    chosen = with_progress(islice(folder, count), "scenes")
    report = score_synthetic(
        chosen,
        lambda scene: pipeline(scene.image, scene.camera),
        load_body("open"),
        data=scenes.name,
        method=f"MPMesh, {variant}" + ("" if refine else ", no refiner"),
    )
    show_report(report, output)


def bag(
    recording: Annotated[Path, typer.Argument(help="ROS 1 .bag, ROS 2 .mcap, .db3 or folder.")],
    truth: Annotated[str, typer.Option(help="A topic of the bag, or a results.jsonl.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Replayed file (.mcap); the report beside it.")
    ],
    topic: Annotated[str | None, typer.Option(help="Image topic, where a bag has several.")] = None,
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    variant: options.Variant = "light",
    weights: options.Weights = None,
    refine: options.Refine = True,
    mirror: options.Mirror = False,
    second_look: options.SecondLook = "auto",
    fuse: options.Fuse = "auto",
) -> None:
    """A recording against its truth: `mpmesh replay --evaluate` in short.

    Example: mpmesh evaluate bag drive.mcap --truth /people/truth --output people.mcap
    """
    if output.suffix.lower() != ".mcap":
        raise UsageError(
            f"--output {output}: name the replayed file (.mcap); the figures are beside it (.json)"
        )
    replay(
        [recording],
        output,
        topic=topic,
        evaluate=truth,
        backend=backend,
        device=device,
        variant=variant,
        weights=weights,
        refine=refine,
        mirror=mirror,
        second_look=second_look,
        fuse=fuse,
    )
