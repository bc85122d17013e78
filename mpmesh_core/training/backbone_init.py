"""backbone_init: starting weights for the light backbones.

Reads a TensorFlow Lite file (quantised MobileNetV2, half-precision BlazePose) whose batch norms
were folded into the convolutions. Integers come back times their per-channel scales; batch norms
are re-created in one pass over a few real images: gamma is the measured standard deviation and
beta the bias plus the measured mean, so the network computes what the file says and can be trained
on as usual.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from flatbuffers import encode, number_types, packer
from flatbuffers.table import Table
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mpmesh_core.errors import InputError, MissingFileError
from mpmesh_core.networks.mobilenet import ConvNorm, InvertedResidual, MobileNet

# fields of the TensorFlow Lite schema (schema.fbs), by table
_MODEL_SUBGRAPHS, _MODEL_BUFFERS = 2, 4
_GRAPH_TENSORS, _GRAPH_OPERATORS = 0, 3
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_BUFFER, _TENSOR_QUANTIZATION = 0, 1, 2, 4
_QUANTIZATION_SCALE, _QUANTIZATION_ZERO = 2, 3
_OPERATOR_INPUTS, _OPERATOR_OUTPUTS = 1, 2
_BUFFER_DATA = 0
_DTYPES = {0: np.float32, 1: np.float16, 2: np.int32, 3: np.uint8, 9: np.int8}


@dataclass(frozen=True)
class FoldedConv:
    """One convolution of the file with its folded bias."""

    weight: np.ndarray  # (outputs, height, width, inputs), depthwise (1, height, width, channels)
    bias: np.ndarray  # (outputs,)


def read_tflite_convolutions(path: str | Path) -> list[FoldedConv]:
    """All convolutions of a TensorFlow Lite file, dequantised, in the order in which they run.

    Raises:
        MissingFileError: no such file.
        InputError: not a TensorFlow Lite file.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"no backbone file {path}: give the network's .tflite file")
    data = bytearray(path.read_bytes())
    if data[4:8] != b"TFL3":
        raise InputError(f"{path} is not a TensorFlow Lite file")
    model = Table(data, encode.Get(packer.uoffset, data, 0))
    graph = _tables(model, _MODEL_SUBGRAPHS)[0]
    tensors, buffers = _tables(graph, _GRAPH_TENSORS), _tables(model, _MODEL_BUFFERS)
    found, stored = [], list(tensors)
    for operator in _tables(graph, _GRAPH_OPERATORS):
        inputs = _vector(operator, _OPERATOR_INPUTS, np.int32)
        if len(inputs) == 3:  # image, weight, bias: only convolutions have three inputs here
            weight, bias = (_dequantised(stored[i], buffers) for i in inputs[1:])
            found.append(FoldedConv(weight, bias))
        elif len(inputs) == 1:  # weights kept as halves pass through an operator of their own
            outputs = _vector(operator, _OPERATOR_OUTPUTS, np.int32)
            stored[outputs[0]] = tensors[inputs[0]]
    return found


@torch.no_grad()
def start_from_tflite(
    backbone: MobileNet, path: str | Path, images: Tensor, from_zero: bool = False
) -> None:
    """Give the backbone the weights of a TensorFlow Lite network that begins with it.

    Args:
        backbone: changed in place.
        path: the .tflite file; a classifier after the last feature layer is ignored.
        images: (N, 3, H, W) real photos in -1..1 from which the norms' statistics are measured.
        from_zero: whether the file's network takes pictures in 0..1 instead of -1..1.

    Raises:
        MissingFileError, InputError: no such file, or one of another network.
    """
    units = backbone.units()
    remaining, folded = iter(read_tflite_convolutions(path)), []
    for number, unit in enumerate(units):
        for source in remaining:
            weight = _torch_kernel(unit.conv, source)
            if weight.shape == unit.conv.weight.shape:  # others belong to branches not wanted
                break
        else:
            raise InputError(f"{path} is not a {backbone.layout}: nothing fits layer {number}")
        bias = source.bias
        if number == 0 and from_zero:
            weight = weight / 2
            bias = bias + weight.sum((1, 2, 3)).numpy()
        unit.conv.weight.copy_(weight)
        folded.append(FoldedConv(source.weight, bias))
    _recreate_norms(backbone, units, folded, images)


@torch.no_grad()
def deepen(deep: MobileNet, shallow: MobileNet) -> None:
    """Give a backbone the weights of one with fewer blocks; blocks of its own begin as identity.

    Args:
        deep: changed in place.
        shallow: of a layout that differs in `repeats` alone.
    """
    known = shallow.state_dict()
    deep.load_state_dict(deep.state_dict() | known)
    for name, block in deep.named_modules():
        if isinstance(block, InvertedResidual) and f"{name}.layers.0.0.weight" not in known:
            last = cast(ConvNorm, block.layers[-1])
            nn.init.zeros_(last.norm.weight)


def _torch_kernel(conv: nn.Conv2d, source: FoldedConv) -> Tensor:
    """(outputs, height, width, inputs) or, depthwise, (1, height, width, channels) to torch's."""
    axes = (3, 0, 1, 2) if conv.groups > 1 else (0, 3, 1, 2)
    return torch.from_numpy(source.weight.transpose(axes).copy())


def _recreate_norms(
    backbone: MobileNet, units: list[ConvNorm], folded: list[FoldedConv], images: Tensor
) -> None:
    """Set each norm as its input arrives, so later layers already see right inputs."""

    def measure(unit: ConvNorm, bias: Tensor) -> RemovableHandle:
        def hook(norm: torch.nn.BatchNorm2d, args: tuple[Tensor]) -> None:
            mean, var = args[0].mean((0, 2, 3)), args[0].var((0, 2, 3), correction=0)
            norm.running_mean.copy_(mean)  # type: ignore[union-attr]
            norm.running_var.copy_(var)  # type: ignore[union-attr]
            norm.weight.copy_((var + norm.eps).sqrt())
            norm.bias.copy_(bias + mean)

        return unit.norm.register_forward_pre_hook(hook)

    hooks = [measure(u, torch.from_numpy(f.bias)) for u, f in zip(units, folded)]
    was_training = backbone.training
    backbone.eval()(images)
    backbone.train(was_training)
    for hook in hooks:
        hook.remove()


def _dequantised(tensor: Table, buffers: list[Table]) -> np.ndarray:
    dtype = _DTYPES[_scalar(tensor, _TENSOR_TYPE, number_types.Int8Flags)]
    buffer = buffers[_scalar(tensor, _TENSOR_BUFFER, number_types.Uint32Flags)]
    values = _vector(buffer, _BUFFER_DATA, np.uint8).view(dtype).astype(np.float32)
    values = values.reshape(_vector(tensor, _TENSOR_SHAPE, np.int32))
    offset = tensor.Offset(4 + 2 * _TENSOR_QUANTIZATION)
    if not offset:
        return values
    quantization = Table(tensor.Bytes, tensor.Indirect(offset + tensor.Pos))
    scale = _vector(quantization, _QUANTIZATION_SCALE, np.float32)
    if not len(scale):
        return values
    zero = _vector(quantization, _QUANTIZATION_ZERO, np.int64).astype(np.float32)
    # per-channel scales run along the output channels: last for depthwise kernels, else first
    last = values.ndim == 4 and values.shape[0] == 1
    shape = (-1,) + (1,) * (0 if last else values.ndim - 1)
    return (values - zero.reshape(shape)) * scale.reshape(shape)


def _tables(table: Table, field: int) -> list[Table]:
    offset = table.Offset(4 + 2 * field)
    if not offset:
        return []
    start = table.Vector(offset)
    return [
        Table(table.Bytes, table.Indirect(start + 4 * i)) for i in range(table.VectorLen(offset))
    ]


def _vector(table: Table, field: int, dtype: type) -> np.ndarray:
    offset = table.Offset(4 + 2 * field)
    if not offset:
        return np.zeros(0, dtype)
    count, start = table.VectorLen(offset), table.Vector(offset)
    return np.frombuffer(table.Bytes, dtype, count, start)


def _scalar(table: Table, field: int, flags: type) -> int:
    offset = table.Offset(4 + 2 * field)
    return table.Get(flags, offset + table.Pos) if offset else 0
