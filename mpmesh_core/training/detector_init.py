"""training.detector_init: start the detector from the public RTMDet-nano person detector.

In   an RTMDet ONNX file of this size (one class, batch norm folded into the convolutions)
Out  a DetectorNetwork with the same numbers at every grid point

The file stores its convolutions in the order in which the graph runs them; the network here runs
the same ones in the same order, so they are matched one by one with their shapes checked. Two
conventions differ and are moved into the weights: the file wants BGR and calls its distances by
the same strides, the network takes RGB (the first kernel is flipped).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mpmesh_core.errors import MissingFileError, WeightsError
from mpmesh_core.networks.detector import STRIDES, DetectorConfig, DetectorNetwork


def detector_from_onnx(path: Path, config: DetectorConfig | None = None) -> DetectorNetwork:
    """Read an RTMDet ONNX file into the detector network.

    Raises:
        MissingFileError: no such file.
        WeightsError: the file's convolutions are not those of the network.
    """
    network = DetectorNetwork(config)
    stored = _graph_convolutions(path)
    wanted = _run_order(network)
    if len(stored) != len(wanted):
        raise WeightsError(
            f"{path} has {len(stored)} convolutions, the detector has {len(wanted)}: give the "
            "RTMDet-nano person detector"
        )
    with torch.no_grad():
        for index, (conv, (weight, bias)) in enumerate(zip(wanted, stored)):
            if conv.weight.shape != weight.shape or conv.bias is None:
                raise WeightsError(
                    f"convolution {index} of {path} has shape {tuple(weight.shape)}, the detector "
                    f"has {tuple(conv.weight.shape)}: give the RTMDet-nano person detector"
                )
            conv.weight.copy_(weight)
            conv.bias.copy_(bias)
        first = wanted[0]
        first.weight.copy_(first.weight.flip(1))
    return network.eval()


def _graph_convolutions(path: Path) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of every convolution, in the order of the graph."""
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    if not path.is_file():
        raise MissingFileError(f"no ONNX file {path}: check --init-onnx")
    try:
        graph = onnx.load(str(path)).graph
    except DecodeError as error:
        raise WeightsError(f"{path} is not an ONNX file ({error})") from None
    values = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    convolutions = []
    for node in graph.node:
        if node.op_type == "Conv":
            missing = [name for name in node.input[1:] if name not in values]
            if missing or len(node.input) != 3:
                raise WeightsError(f"{path}: convolution {node.name} has no stored weight and bias")
            weight, bias = (torch.from_numpy(np.array(values[n])) for n in node.input[1:])
            convolutions.append((weight, bias))
    return convolutions


def _run_order(network: DetectorNetwork) -> list[nn.Conv2d]:
    """The convolutions in the order in which one forward pass runs them."""
    order: list[nn.Conv2d] = []
    handles = [
        module.register_forward_hook(lambda conv, _inputs, _output: order.append(conv))
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        network(torch.zeros(1, 3, STRIDES[-1], STRIDES[-1]))
    for handle in handles:
        handle.remove()
    return order
