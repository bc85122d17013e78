"""cli.run: `mpmesh run`: people from pictures, videos, cameras and bags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mpmesh_core.cli import options
from mpmesh_core.errors import UsageError


def run(
    sources: Annotated[
        list[str],
        typer.Argument(help="Images, folders, globs, videos, camera numbers or bags."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.")],
    camera: Annotated[
        Path | None, typer.Option(help="CameraInfo YAML of the camera that took the pictures.")
    ] = None,
    fov: Annotated[
        float | None,
        typer.Option(help="Field of view on the longer side [degree] where no camera is known."),
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Image topic of a bag.")] = None,
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    variant: options.Variant = "light",
    weights: options.Weights = None,
    detector: options.DetectorFile = None,
    body: options.Body = "open",
    max_people: options.MaxPeople = 32,
    refine: options.Refine = True,
    mirror: options.Mirror = False,
    second_look: options.SecondLook = "auto",
    fuse: options.Fuse = "auto",
    track: Annotated[bool, typer.Option("--track/--no-track", help="Follow people.")] = True,
    smooth: Annotated[bool, typer.Option("--smooth", help="Quieter bodies on videos.")] = False,
    mesh: Annotated[bool, typer.Option("--mesh", help="Write vertices (meshes/).")] = False,
    deadline: options.DeadlineMs = None,
    at_once: options.AtOnce = 0,
    overlay: Annotated[bool, typer.Option("--overlay/--no-overlay", help="Write pictures.")] = True,
    stages: Annotated[
        bool, typer.Option("--stages", help="Draw every stage of the line (stages/).")
    ] = False,
    attention: Annotated[
        bool, typer.Option("--attention", help="Draw who looks at whom (attention/).")
    ] = False,
    rerun: Annotated[Path | None, typer.Option(help="Write a recording for rerun (.rrd).")] = None,
    mcap: Annotated[
        Path | None, typer.Option(help="Write everything as ROS 2 messages (.mcap).")
    ] = None,
) -> None:
    """Find the people in every picture and write them to OUTPUT/results.jsonl.

    Example: mpmesh run photo.jpg street.mp4 --output people --fov 70
    """
    from mpmesh_core.camera import Camera
    from mpmesh_core.pipeline import Pipeline
    from mpmesh_core.progress import run_with_progress
    from mpmesh_core.rerun_output import import_rerun
    from mpmesh_core.run_outputs import DEFAULT_FOV, RunConfig
    from mpmesh_core.runner import refuse_own_output
    from mpmesh_core.sources import open_sources

    if attention and not refine:
        raise UsageError("--attention shows how people are refined; leave --no-refine away")
    if smooth and not track:
        raise UsageError("--smooth follows people from frame to frame; leave --no-track away")
    if camera is not None and fov is not None:
        raise UsageError("--camera and --fov say the same thing twice; give one of them")
    if fov is not None and not 1 <= fov <= 175:
        raise UsageError(f"--fov must be 1 to 175 degrees, got {fov:g}")
    if rerun is not None:
        import_rerun()  # a missing package is told before the work, not after
    config = RunConfig(
        folder=output,
        camera=None if camera is None else Camera.from_file(camera),
        fov=DEFAULT_FOV if fov is None else fov,
        overlay=overlay,
        stages=stages,
        attention=attention,
        rerun=rerun,
        mcap=mcap,
    )
    known = camera is not None or fov is not None  # then a bag's own camera isn't asked
    opened = open_sources(sources, topic, camera_info=not known)
    if mcap is not None and len(opened) > 1:
        raise UsageError("--mcap records one source, whose time it keeps; run each by itself")
    if topic is not None and all(source.kind != "bag" for source in opened):
        raise UsageError(f"--topic {topic} is a bag's, and no source is a bag; leave it away")
    refuse_own_output(opened, config)
    chosen = options.pipeline_config(
        backend=backend,
        device=device,
        variant=variant,
        weights=weights,
        detector=detector,
        body=body,
        max_people=max_people,
        refine=refine,
        mirror=mirror,
        second_look=second_look,
        fuse=fuse,
        track=track,
        smooth=smooth,
        mesh=mesh,
        deadline_ms=deadline,
    )
    frames = options.frames_at_once(at_once, chosen, opened)
    pipeline = Pipeline(chosen, keep_stages=stages or attention, at_once=frames)
    run_with_progress(opened, pipeline, config, fov_given=fov is not None)
