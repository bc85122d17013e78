"""cli.weights: `mpmesh weights`: what the checkpoints hold, and those of others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from mpmesh_core.errors import MissingFileError, WeightsError

if TYPE_CHECKING:
    from mpmesh_core.networks.resnet_import import ImportReport

app = typer.Typer(
    no_args_is_help=True,
    help="Look into checkpoints, take over others'.\n\nExample: mpmesh weights list",
)


@app.command("list")
def list_weights(
    folder: Annotated[Path | None, typer.Argument(help="Folder; default: the shipped set.")] = None,
) -> None:
    """List the checkpoints of a folder.

    Example: mpmesh weights list
    """
    from mpmesh_core.networks.checkpoint import read_checkpoint
    from mpmesh_core.weights import ASSETS

    where = folder or ASSETS
    paths = sorted(where.glob("*.safetensors"))
    if not paths:
        raise MissingFileError(f"no .safetensors files in {where}")
    table = Table()
    for column in ("file", "network", "variant", "parameters", "size"):
        table.add_column(column)
    for path in paths:
        metadata, tensors = read_checkpoint(path)
        count = sum(tensor.numel() for tensor in tensors.values())
        table.add_row(
            path.name,
            metadata["kind"],
            metadata["variant"],
            f"{count / 1e6:.2f} M",
            f"{path.stat().st_size / 2**20:.1f} MB",
        )
    Console().print(table)


@app.command("info")
def info(path: Annotated[Path, typer.Argument(help="A .safetensors checkpoint.")]) -> None:
    """Print a checkpoint's metadata as JSON.

    Example: mpmesh weights info runs/skeleton/best.safetensors
    """
    from mpmesh_core.networks.checkpoint import read_checkpoint

    metadata, _ = read_checkpoint(path)
    Console().print_json(data=metadata)


@app.command("import")
def import_weights(
    path: Annotated[Path, typer.Argument(help="A PyTorch checkpoint (.pth, .pt).")],
    kind: Annotated[
        Literal["hybrik", "resnet50"], typer.Option(help="Layout: HybrIK's or torchvision's.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Checkpoint to write.")],
) -> None:
    """Start the paper's skeleton network from a ResNet of others; heads begin untrained.

    Example: mpmesh weights import resnet50.pth --kind resnet50 --output runs/start.safetensors
    """
    from mpmesh_core.networks.checkpoint import save_checkpoint
    from mpmesh_core.networks.resnet_import import import_backbone
    from mpmesh_core.outputs import prepare_folder, refuse_folder

    refuse_folder(output)
    network, report = import_backbone(path, kind)
    Console().print(_report_table(report, path.name))
    if not report.complete:
        wrong = [*report.differ, *report.missing]
        raise WeightsError(
            f"{path} lacks {len(wrong)} tensors of a ResNet, first {wrong[0]}: nothing written"
        )
    prepare_folder(output.parent)
    save_checkpoint(
        output,
        network,
        network.config_dict(),
        imported={"kind": kind, "file": path.name, "tensors": len(report.matched)},
        licence=f"that of {path.name}",
        training_data=f"that of {path.name}; heads untrained",
    )
    typer.echo(f"{output}: go on with `mpmesh train skeleton start={output}`")


def _report_table(report: ImportReport, title: str) -> Table:
    """What became of a file's tensors."""
    table = Table(title=title)
    table.add_column("tensors")
    table.add_column("number", justify="right")
    table.add_column("what became of them")
    table.add_row("backbone", str(len(report.matched)), "taken over")
    for name, (there, here) in report.differ.items():
        table.add_row(name, "1", f"shape {there} instead of {here}")
    if report.missing:
        table.add_row(f"{report.missing[0]}, ...", str(len(report.missing)), "missing in the file")
    for part, count in report.left.items():
        table.add_row(part, str(count), "left: the paper network has no such part")
    return table
