"""engines.half: a network made ready for half precision.

Norms are folded into their convolutions, and the weights of convolutions and matrix products become
half precision, so that nothing is converted anew on every run. Layer norms stay float32, like
everything whose network says that it needs it (`float32_parts`): autocast decides about the rest.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class InFloat32(nn.Module):
    """A part of a network that autocast leaves alone."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        """What the part makes of its input, in float32."""
        with torch.autocast(x.device.type, enabled=False):
            return self.part(x.float())


def make_half(network: nn.Module) -> None:
    """Prepare a network, in place, for running under float16 autocast."""
    fold_norms(network)
    for name in getattr(network, "float32_parts", ()):
        holder, _, own = name.rpartition(".")
        parent = network.get_submodule(holder)
        setattr(parent, own, InFloat32(parent.get_submodule(own)))
    halve_weights(network)


def fold_norms(network: nn.Module) -> None:
    """Fold each batch norm that follows a convolution in an `nn.Sequential` into it, in place."""
    for sequence in network.modules():
        if not isinstance(sequence, nn.Sequential):
            continue
        for (before, conv), (after, norm) in pairwise(list(sequence.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(sequence, before, fuse_conv_bn_eval(conv, norm))
                setattr(sequence, after, nn.Identity())


def halve_weights(network: nn.Module) -> None:
    """Convolutions and linear layers keep their weights as float16, in place."""
    exact = {
        module
        for part in network.modules()
        if isinstance(part, InFloat32)
        for module in part.modules()
    }
    for module in network.modules():
        if module in exact:
            continue
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(torch.float16)
        elif isinstance(module, nn.LayerNorm):
            module.register_forward_pre_hook(_in_float32)


def _in_float32(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(value.float() for value in inputs)
