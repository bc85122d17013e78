"""cli.export: `mpmesh export`: a checkpoint as an ONNX file, checked against torch."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from mpmesh_core.cli import options
from mpmesh_core.errors import UsageError


def export(
    network: Annotated[str, typer.Argument(help="detector, skeleton, refiner or all.")] = "all",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.")] = Path(
        "onnx"
    ),
    variant: options.Variant = "light",
    weights: options.Weights = None,
) -> None:
    """Export networks to ONNX with a dynamic batch and compare them with torch.

    Example: mpmesh export skeleton --output onnx
    """
    from mpmesh_core.engines.export import check_parity, export_onnx
    from mpmesh_core.networks import KINDS
    from mpmesh_core.networks.checkpoint import load_checkpoint
    from mpmesh_core.outputs import prepare_folder, refuse_folder
    from mpmesh_core.weights import weights_path

    if variant not in ("light", "paper"):
        raise UsageError(f"--variant {variant!r} is unknown; choose light or paper")
    if network not in (*KINDS, "all"):
        raise UsageError(f"network {network!r} is unknown; choose {', '.join(KINDS)} or all")
    names = KINDS if network == "all" else (network,)
    paths = {name: prepare_folder(output) / f"{name}-{variant}.onnx" for name in names}
    for path in paths.values():
        refuse_folder(path)
    for name, path in paths.items():
        loaded, _ = load_checkpoint(weights_path(name, variant, weights))
        # A file takes its name, and an older one's place, when it computes what torch computes.
        with TemporaryDirectory(prefix=".mpmesh-", dir=path.parent) as scratch:
            made = export_onnx(loaded, Path(scratch) / path.name, check=False)
            worst = max(check_parity(loaded, made).values())
            made.replace(path)
        typer.echo(f"{path}  largest difference from torch {worst:.1e}")
