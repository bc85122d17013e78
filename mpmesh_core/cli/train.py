"""cli.train: `mpmesh train`: data and weights, step by step; trainers and synthesize resume.

The order that makes the shipped weights is in docs/training.md.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from mpmesh_core.errors import UsageError

app = typer.Typer()  # its help is that of `recipe`

Config = Annotated[Path | None, typer.Option("--config", "-c", help="YAML file of settings.")]
Settings = Annotated[
    list[str] | None, typer.Argument(help="key=value settings, later than the file's.")
]


@app.callback(invoke_without_command=True)
def recipe(
    context: typer.Context,
    config: Config = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, later than the file's.")
    ] = None,
) -> None:
    """Make training data and train the networks; without a command, all stages of a recipe.

    Example: mpmesh train --config configs/paper.yaml --set joint.batch=16
    """
    if context.invoked_subcommand is not None:
        if config is not None or settings:
            raise UsageError(
                f"give --config behind the command: mpmesh train {context.invoked_subcommand} -c"
            )
        return
    if config is None:
        typer.echo(context.get_help())
        return
    from mpmesh_core.training.recipe import Recipe, train_recipe
    from mpmesh_core.training.settings import read_settings

    for path in train_recipe(read_settings(Recipe, config, settings or ()), _tell):
        _tell(path)


def _tell(what: object) -> None:
    """One line; of processes that train together the first one says it."""
    if os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0":
        typer.echo(what)


@app.command("labels")
def labels(settings: Settings = None, config: Config = None) -> None:
    """Fit bodies to real photos: human 2D labels and teachers become scenes.

    Example: mpmesh train labels data=../data output=runs/real
    """
    from mpmesh_core.training.real import RealConfig, prepare_real
    from mpmesh_core.training.settings import read_settings

    counts = prepare_real(read_settings(RealConfig, config, settings or ()), typer.echo)
    typer.echo(", ".join(f"{name} {count}" for name, count in counts.items()))


@app.command("synthesize")
def synthesize(settings: Settings = None, config: Config = None) -> None:
    """Render people into scenes with full truth.

    Example: mpmesh train synthesize data=../data output=runs/synthetic scenes=12000
    """
    from mpmesh_core.training.settings import read_settings
    from mpmesh_core.training.synthetic.generate import SynthesisConfig, synthesize_shards

    synthesize_shards(read_settings(SynthesisConfig, config, settings or ()), typer.echo)


@app.command("start")
def start(
    data: Annotated[Path, typer.Option(envvar="MPMESH_TEST_DATA", help="The data folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Checkpoint to write.")],
    backbone: Annotated[
        Literal["blazepose-deep", "blazepose", "mobilenetv2"],
        typer.Option(help="What it starts from."),
    ] = "blazepose-deep",
    older: Annotated[
        Path | None, typer.Option(help="Checkpoint to take over wherever names and shapes agree.")
    ] = None,
) -> None:
    """Start the light skeleton network from published weights.

    Example: mpmesh train start --data ../data --output runs/start.safetensors
    """
    from mpmesh_core.training.skeleton_start import skeleton_start

    typer.echo(skeleton_start(data, output, backbone, older=older))


@app.command("people")
def people(
    scenes: Annotated[Path, typer.Argument(help="Folder of scene shards, or LSP-extended's.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    real: Annotated[bool, typer.Option("--real", help="Photos with fitted bodies.")] = False,
    least_visible: Annotated[float, typer.Option(help="Part of a person that is seen.")] = 0.2,
    least_size: Annotated[float, typer.Option(help="Pixels of it, the longer way.")] = 40.0,
) -> None:
    """Cut the people out of scenes, as the skeleton trainer reads them.

    Example: mpmesh train people runs/real/train --real --output runs/people/real
    """
    from mpmesh_core.training.skeleton_start import prepare_people

    count = prepare_people(scenes, output, real, least_visible, least_size)
    typer.echo(f"{count} people in {output}")


@app.command("detector")
def detector(settings: Settings = None, config: Config = None) -> None:
    """Train the person detector.

    Example: mpmesh train detector -c configs/light/detector.yaml data=../data
    """
    from mpmesh_core.training.detector import DetectorTraining, train_detector
    from mpmesh_core.training.settings import read_settings

    training = read_settings(DetectorTraining, config, settings or ())
    typer.echo(train_detector(training, typer.echo))


@app.command("skeleton")
def skeleton(settings: Settings = None, config: Config = None) -> None:
    """Train the skeleton network.

    Example: mpmesh train skeleton -c configs/light/skeleton.yaml
    """
    from mpmesh_core.training.settings import read_settings
    from mpmesh_core.training.skeleton import SkeletonTraining, train_skeleton

    _tell(train_skeleton(read_settings(SkeletonTraining, config, settings or ())))


@app.command("head")
def head(settings: Settings = None, config: Config = None) -> None:
    """Train the skeleton network's joint head alone, through inverse kinematics.

    Example: mpmesh train head -c configs/light/head.yaml
    """
    from mpmesh_core.training.head import HeadTraining, train_head
    from mpmesh_core.training.settings import read_settings

    _tell(train_head(read_settings(HeadTraining, config, settings or ())))


@app.command("refiner")
def refiner(settings: Settings = None, config: Config = None) -> None:
    """Train the refiner on outputs of the skeleton network.

    Example: mpmesh train refiner -c configs/light/refiner.yaml
    """
    from mpmesh_core.training.refiner import RefinerTraining, train_refiner
    from mpmesh_core.training.settings import read_settings

    _tell(train_refiner(read_settings(RefinerTraining, config, settings or ())))
