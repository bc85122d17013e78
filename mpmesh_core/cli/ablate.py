"""cli.ablate: `mpmesh ablate`: Table 4 of the paper on data of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def ablate(
    settings: Annotated[
        list[str] | None, typer.Argument(help="key=value settings, later than the file's.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML file of refiner training settings.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=99, help="Trainings a row.")] = 3,
    row: Annotated[
        list[str] | None,
        typer.Option(help="Only this: position, no_mask, n1, n2, n3 or n4; repeatable."),
    ] = None,
) -> None:
    """Train and measure the rows of the paper's ablation table; goes on where it was stopped.

    Settings are those of `mpmesh train refiner`. Results go to table4.json and table4.md in the
    folder `output`.

    Example: mpmesh ablate -c configs/light/ablation.yaml output=runs/ablation steps=300
    """
    from rich.console import Console
    from rich.markdown import Markdown

    from mpmesh_core.cli.options import write_json
    from mpmesh_core.evaluation.ablation import run_ablation
    from mpmesh_core.evaluation.ablation_report import summarise, to_markdown
    from mpmesh_core.outputs import write_file
    from mpmesh_core.training.refiner import RefinerTraining
    from mpmesh_core.training.settings import read_settings

    training = read_settings(RefinerTraining, config, settings or ())
    report = summarise(run_ablation(training, seeds, row, typer.echo))
    folder = Path(training.output)
    write_json(folder / "table4.json", report)
    page = to_markdown(report)
    write_file(folder / "table4.md", page.encode())
    Console().print(Markdown(page))
    typer.echo(f"tables: {folder / 'table4.md'}")
