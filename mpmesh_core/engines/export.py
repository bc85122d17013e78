"""engines.export: a network as an ONNX file, with a dynamic batch, checked against torch.

The graph has the network's own input and output names; axis 0 of every one of them is the batch.
Weights are float32, unless half precision is asked for: then every type is in the graph, and a
backend that keeps to them needs no choice of its own.
"""

from __future__ import annotations

import copy
import inspect
import os
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mpmesh_core.engines.half import make_half
from mpmesh_core.errors import NumericalError
from mpmesh_core.networks import Network

OPSET = 17
TOLERANCE = 1e-4
HALF_TOLERANCE = 5e-2  # of the largest value: only tells a broken file from a rounded one
_EXAMPLE_BATCH = 2  # 1 would be taken for a constant
_CHECKED_BATCHES = (1, 5)


class _Positional(nn.Module):
    """The network with outputs as a float32 tuple in the order of their names."""

    def __init__(self, network: nn.Module, half: bool) -> None:
        super().__init__()
        self.network, self.in_half = network, half
        self.names = cast(Network, network).OUTPUT_NAMES

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", torch.float16, enabled=self.in_half, cache_enabled=False):
            outputs = self.network(*inputs)
        return tuple(outputs[name].float() for name in self.names)


def export_onnx(
    network: nn.Module, path: str | Path, check: bool = True, half: bool = False
) -> Path:
    """Write a network (see `mpmesh_core.networks`) as ONNX; an old file is replaced in one step.

    Args:
        network: exported in eval mode, on the CPU, as it is.
        path: the .onnx file; its folder is made.
        check: run the file with onnxruntime and compare (`check_parity`).
        half: types as the torch engine has them on a GPU: convolutions and matrix products in
            float16, the rest in float32. Inputs and outputs stay float32.

    Raises:
        NumericalError: the file does not compute what torch computes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    described = cast(Network, network)
    names = (*described.INPUT_NAMES, *described.OUTPUT_NAMES)
    more: dict[str, dict[int, str]] = getattr(network, "DYNAMIC_AXES", {})  # beside the batch
    options: dict[str, Any] = {"opset_version": OPSET}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        options["dynamo"] = False  # the tracing exporter needs no further package
    exported = copy.deepcopy(network) if half else network
    if half:
        make_half(exported)
    positional = _Positional(exported, half).eval()  # the exporter gives back the mode it found
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on the exporter's own internals
            torch.onnx.export(
                positional,
                tuple(described.example_inputs(_EXAMPLE_BATCH).values()),
                str(scratch),
                input_names=list(described.INPUT_NAMES),
                output_names=list(described.OUTPUT_NAMES),
                dynamic_axes={name: {0: "batch", **more.get(name, {})} for name in names},
                **options,
            )
        if check:
            check_parity(network, scratch, tolerance=HALF_TOLERANCE if half else TOLERANCE)
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
    used = [entry.name for entry in session.get_inputs()]  # the exporter drops the others
    described = cast(Network, network.eval())
    worst: dict[str, float] = {}
    for batch in batches:
        inputs = described.example_inputs(batch)
        with torch.inference_mode():
            expected = described(*inputs.values())
        found = session.run(None, {name: inputs[name].numpy() for name in used})
        for name, value in zip(described.OUTPUT_NAMES, found):
            truth = expected[name].numpy()
            error = float(np.abs(truth - value).max() / max(1.0, float(np.abs(truth).max())))
            if not error <= tolerance:
                raise NumericalError(
                    f"ONNX output {name} differs from torch by {error:.2g} at batch {batch} "
                    f"(allowed {tolerance:.0e}): report the torch and onnxruntime versions"
                )
            worst[name] = max(worst.get(name, 0.0), error)
    return worst
