"""cli.evaluate: `mpmesh evaluate`: accuracy against known truth, protocol by protocol."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import typer

from mpmesh_core.cli import evaluate_scenes, evaluate_sets, options
from mpmesh_core.cli.evaluate_report import Output, check_output, show_report

app = typer.Typer(
    no_args_is_help=True,
    help="Measure accuracy against known truth.\n\nExample: mpmesh evaluate photos --data ../data",
)
app.command("3dpw")(evaluate_sets.threedpw)
app.command("mupots")(evaluate_sets.mupots)
app.command("agora")(evaluate_sets.agora)
app.command("synthetic")(evaluate_scenes.synthetic)
app.command("bag")(evaluate_scenes.bag)


@app.command("photos")
def photos(
    data: options.DataFolder,
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    weights: options.Weights = None,
    refine: options.Refine = True,
    mirror: options.Mirror = False,
    second_look: options.SecondLook = "auto",
    fuse: options.Fuse = "auto",
    output: Output = None,
) -> None:
    """Detection and 2D keypoints on real photos with COCO keypoints.

    Example: mpmesh evaluate photos --data ../data
    """
    from mpmesh_core.evaluation.photos import evaluate_photos, photos_with_keypoints
    from mpmesh_core.evaluation.summaries import photo_report

    check_output(output)
    report = evaluate_photos(
        options.load_for_pictures(
            backend=backend,
            device=device,
            weights=weights,
            refine=refine,
            mirror=mirror,
            second_look=second_look,
            fuse=fuse,
        ),
        photos_with_keypoints(data),
    )
    show_report(photo_report(report), output, asdict(report))


@app.command("studio")
def studio(
    data: options.DataFolder,
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    weights: options.Weights = None,
    refine: options.Refine = True,
    mirror: options.Mirror = False,
    second_look: options.SecondLook = "auto",
    fuse: options.Fuse = "auto",
    output: Output = None,
) -> None:
    """3D joints on Human3.6M and MPI-INF-3DHP frames, 12 limb joints.

    Example: mpmesh evaluate studio --data ../data
    """
    from mpmesh_core.evaluation.studio import evaluate_studio, studio_frames
    from mpmesh_core.evaluation.summaries import studio_report

    check_output(output)
    report = evaluate_studio(
        options.load_for_pictures(
            backend=backend,
            device=device,
            weights=weights,
            refine=refine,
            mirror=mirror,
            second_look=second_look,
            fuse=fuse,
        ),
        studio_frames(data),
    )
    figures = {name: np.asarray(value).tolist() for name, value in asdict(report).items()}
    show_report(studio_report(report), output, figures)


@app.command("demo")
def demo(
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    weights: options.Weights = None,
    refine: options.Refine = True,
    mirror: options.Mirror = False,
    second_look: options.SecondLook = "auto",
    fuse: options.Fuse = "auto",
    output: Output = None,
) -> None:
    """The rendered demo clip with known truth; needs no data.

    Example: mpmesh evaluate demo
    """
    from mpmesh_core.evaluation.clip import evaluate_clip
    from mpmesh_core.evaluation.summaries import clip_report
    from mpmesh_core.training.synthetic.demo_clip import demo_clip

    check_output(output)
    pipeline = options.load_pipeline(
        backend=backend,
        device=device,
        weights=weights,
        refine=refine,
        mirror=mirror,
        second_look=second_look,
        fuse=fuse,
    )
    report = evaluate_clip(pipeline, demo_clip())
    show_report(clip_report(report), output, asdict(report))
