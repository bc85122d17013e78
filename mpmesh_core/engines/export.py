"""engines.export: a network as an ONNX file, with a dynamic batch, checked against torch.

The graph has the network's own input and output names; axis 0 of every one of them is the batch.
Weights are float32; the backends lower precision as they see fit.
"""

from __future__ import annotations

import inspect
import os
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mpmesh_core.errors import NumericalError

OPSET = 17
TOLERANCE = 1e-4
_EXAMPLE_BATCH = 2  # 1 would be taken for a constant
_CHECKED_BATCHES = (1, 5)


class _Positional(nn.Module):
    """The network with outputs as a tuple in the order of their names."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = self.network(*inputs)
        return tuple(outputs[name] for name in self.network.OUTPUT_NAMES)


def export_onnx(network: nn.Module, path: str | Path, check: bool = True) -> Path:
    """Write a network (see `mpmesh_core.networks`) as ONNX; an old file is replaced in one step.

    Args:
        network: exported in eval mode, on the CPU, as it is.
        path: the .onnx file; its folder is made.
        check: run the file with onnxruntime and compare (`check_parity`).

    Raises:
        NumericalError: the file does not compute what torch computes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    names = (*network.INPUT_NAMES, *network.OUTPUT_NAMES)
    more: dict[str, dict[int, str]] = getattr(network, "DYNAMIC_AXES", {})  # beside the batch
    legacy = "dynamo" in inspect.signature(torch.onnx.export).parameters
    network.eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on the exporter's own internals
            torch.onnx.export(
                _Positional(network),
                tuple(network.example_inputs(_EXAMPLE_BATCH).values()),  # type: ignore[operator]
                str(scratch),
                input_names=list(network.INPUT_NAMES),  # type: ignore[arg-type]
                output_names=list(network.OUTPUT_NAMES),  # type: ignore[arg-type]
                dynamic_axes={name: {0: "batch", **more.get(name, {})} for name in names},
                opset_version=OPSET,
                **({"dynamo": False} if legacy else {}),
            )
        if check:
            check_parity(network, scratch)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    return path


def check_parity(
    network: nn.Module,
    path: str | Path,
    batches: tuple[int, ...] = _CHECKED_BATCHES,
    tolerance: float = TOLERANCE,
) -> dict[str, float]:
    """Compare an ONNX file with the network it came from, on the CPU.

    Returns:
        For each output the largest difference over all batches, relative to its largest value
        where that is above 1.

    Raises:
        NumericalError: the first output that differs by more than `tolerance`.
    """
    import onnxruntime  # heavy, and only needed here

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst: dict[str, float] = {}
    for batch in batches:
        inputs = network.example_inputs(batch)  # type: ignore[operator]
        with torch.inference_mode():
            expected = network(*inputs.values())
        found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        for name, value in zip(network.OUTPUT_NAMES, found):  # type: ignore[arg-type]
            truth = expected[name].numpy()
            error = float(np.abs(truth - value).max() / max(1.0, float(np.abs(truth).max())))
            if not error <= tolerance:
                raise NumericalError(
                    f"ONNX output {name} differs from torch by {error:.2g} at batch {batch} "
                    f"(allowed {tolerance:.0e}): report the torch and onnxruntime versions"
                )
            worst[name] = max(worst.get(name, 0.0), error)
    return worst
