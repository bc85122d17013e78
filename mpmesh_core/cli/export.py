"""cli.export: `mpmesh export`: a checkpoint as an ONNX file, checked against torch."""

from __future__ import annotations

from pathlib import Path
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
    from mpmesh_core.outputs import prepare_folder
    from mpmesh_core.weights import weights_path

    if variant not in ("light", "paper"):
        raise UsageError(f"--variant {variant!r} is unknown; choose light or paper")
    if network not in (*KINDS, "all"):
        raise UsageError(f"network {network!r} is unknown; choose {', '.join(KINDS)} or all")
    prepare_folder(output)
    for name in KINDS if network == "all" else (network,):
        loaded, _ = load_checkpoint(weights_path(name, variant, weights))
        path = output / f"{name}-{variant}.onnx"
        export_onnx(loaded, path, check=False)
        worst = max(check_parity(loaded, path).values())
        typer.echo(f"{path}  largest difference from torch {worst:.1e}")
