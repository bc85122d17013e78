"""cli.replay: `mpmesh replay`: recorded bags into bags with all that a live node publishes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mpmesh_core.cli import options
from mpmesh_core.errors import MPMeshError, UsageError
from mpmesh_core.paths import expanded

if TYPE_CHECKING:
    from mpmesh_core.evaluation.replayed import Truth
    from mpmesh_core.replay import ReplayConfig, ReplayJob, ReplayReport


def replay(
    bags: Annotated[list[Path], typer.Argument(help="ROS 1 .bag, ROS 2 .mcap, .db3 or folder.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File (.mcap), or folder for several bags.")
    ],
    topic: Annotated[str | None, typer.Option(help="Image topic, where a bag has several.")] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="Topic of the bag to copy, may be repeated; `all` copies each."),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option("--only", help="Output to write, may be repeated; all of them by default."),
    ] = None,
    node: Annotated[str, typer.Option(help="Name before the outputs' topics.")] = "mpmesh",
    vertices: Annotated[bool, typer.Option("--vertices", help="Meshes in people too.")] = False,
    joint_frames: Annotated[
        bool, typer.Option("--joint-frames", help="A TF frame for each joint.")
    ] = False,
    camera: Annotated[
        Path | None, typer.Option(help="CameraInfo YAML instead of the bag's camera_info.")
    ] = None,
    fov: Annotated[
        float | None,
        typer.Option(min=1, max=175, help="Field of view on the longer side [degree] instead."),
    ] = None,
    evaluate: Annotated[
        str | None,
        typer.Option(help="Truth to compare with: a topic of the bag, or a results.jsonl."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Bags at once on this machine.")] = 1,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster to work on, or `auto`.")
    ] = None,
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
    smooth: Annotated[bool, typer.Option("--smooth", help="Quieter bodies.")] = False,
) -> None:
    """Run every picture of bags through the line, without ROS, and write what a node publishes.

    A file that was finished with the same bag and settings is kept, so a stopped replay goes on.

    Example: mpmesh replay drive.mcap --output people.mcap --keep /camera/camera_info
    """
    from mpmesh_core.evaluation.replayed import read_truths
    from mpmesh_core.people_recording import chosen_outputs, node_prefix
    from mpmesh_core.replay import ReplayConfig
    from mpmesh_core.replay_fleet import plan_jobs

    if camera is not None and fov is not None:
        raise UsageError("--camera and --fov say the same thing twice; give one of them")
    if ray is not None and jobs > 1:
        raise UsageError("--jobs is for this machine, --ray for a cluster; give one of them")
    chosen_outputs(outputs)
    node_prefix(node)
    config = ReplayConfig(
        pipeline=options.pipeline_config(
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
            smooth=smooth,
        ),
        topic=topic,
        keep=tuple(keep or ()),
        outputs=None if outputs is None else tuple(outputs),
        node=node,
        vertices=vertices,
        joint_frames=joint_frames,
        camera_file=camera,
        fov_degrees=fov,
    )
    plan = plan_jobs([expanded(bag) for bag in bags], expanded(output))
    truths = {} if evaluate is None else read_truths(plan, config, evaluate)
    console = Console(stderr=True)
    failed: dict[Path, int] = {}  # bag -> exit code
    try:
        for report in _reports(plan, config, jobs, ray, console):
            bag = report.job.bag
            _print_report(console, report, single=len(plan) == 1, fov_given=fov is not None)
            if report.error is not None:
                failed[bag] = report.exit_code
            elif truths and not _evaluated(console, report, config, truths[bag]):
                failed[bag] = 1
    except (KeyboardInterrupt, SystemExit):
        console.print("stopped; bags that are finished are kept, the same call goes on")
        raise
    if failed and len(plan) > 1:
        text = f"{len(failed)} of {len(plan)} bags failed: {', '.join(map(str, failed))}"
        console.print(Text(text, style="red"), soft_wrap=True)
        raise typer.Exit(1)
    if failed:
        raise typer.Exit(*failed.values())


def _reports(
    plan: Sequence[ReplayJob], config: ReplayConfig, jobs: int, ray: str | None, console: Console
) -> Iterator[ReplayReport]:
    from mpmesh_core.replay_fleet import replay_jobs, replay_on_ray

    if ray is not None:
        return replay_on_ray(plan, config, ray)
    if jobs > 1:
        return replay_jobs(plan, config, jobs)
    return (_with_progress(job, config, console) for job in plan)


def _with_progress(job: ReplayJob, config: ReplayConfig, console: Console) -> ReplayReport:
    from mpmesh_core.progress import RunProgress
    from mpmesh_core.replay import replay_or_report
    from mpmesh_core.sources.bags import Bag

    try:
        total = Bag(job.bag, config.topic, camera_info=False).length
    except MPMeshError:
        total = None  # said again, and better, by the replay itself
    with RunProgress(total, console) as progress:
        return replay_or_report(job, config, lambda _: progress.advance())


def _evaluated(console: Console, report: ReplayReport, config: ReplayConfig, truth: Truth) -> bool:
    """Whether the replay could be compared; the figures are shown, or what is wrong."""
    from mpmesh_core.evaluation.replayed import evaluate_replay
    from mpmesh_core.evaluation.report_page import report_figures

    try:
        evaluation = evaluate_replay(report, config, truth)
    except MPMeshError as error:
        _print_error(console, report.job.bag, str(error))
        return False
    table = Table(title=evaluation.title, title_justify="left")
    table.add_column("what")
    table.add_column("value", justify="right")
    for row in report_figures(evaluation):
        table.add_row(*row)
    console.print(table)
    page = report.job.output.with_suffix(".html")
    console.print(Text(f"report: {page} and {page.with_suffix('.json').name}"), soft_wrap=True)
    return True


def _print_report(console: Console, report: ReplayReport, single: bool, fov_given: bool) -> None:
    from mpmesh_core.progress import print_bad_frames, print_summary

    name, summary = report.job.bag, report.summary
    if report.error is not None:
        _print_error(console, name, report.error)
        return
    if report.skipped:
        console.print(Text(f"{report.job.output} is finished, kept as it is"), soft_wrap=True)
        return
    if single:
        print_summary(console, summary, report.seconds, report.backend)
    else:
        text = f"{name}: {summary.frames} frames, {summary.bad_frames} bad, {summary.people} people"
        console.print(Text(text), soft_wrap=True)
        print_bad_frames(console, summary)
    if summary.assumed_camera and not fov_given:
        text = f"warning: {name} has no camera_info for its pictures: 60 degrees are assumed, so "
        text += "distances are approximate (--camera FILE or --fov DEG)"
        console.print(Text(text, style="yellow"), soft_wrap=True)
    console.print(Text(f"written: {report.job.output}"), soft_wrap=True)


def _print_error(console: Console, bag: Path, error: str) -> None:
    """One line that names the bag."""
    text = error if str(bag) in error else f"{bag}: {error}"
    console.print(Text(f"mpmesh: {text}", style="red"), soft_wrap=True)
