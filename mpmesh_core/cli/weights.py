"""cli.weights: `mpmesh weights`: what the checkpoints hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mpmesh_core.errors import MissingFileError

app = typer.Typer(no_args_is_help=True, help="Look into checkpoints.")


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
