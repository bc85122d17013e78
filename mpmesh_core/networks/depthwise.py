"""depthwise: depthwise convolutions that train several times faster on a CPU.

oneDNN has no fast gradients of depthwise convolutions for stride 2, where stride 1 with every
second cell picked is the same, nor for 5x5 kernels. There, the gradient of the input is the same
convolution with the kernel turned round, and that of the kernel is a loop of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn
from torch.nn import functional

_PICTURES_AT_ONCE = 8  # in the loop: what their maps take stays in the cache


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` with a group for each channel, an odd kernel, and padding that keeps the size."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H / stride, W / stride)."""
        return self.convolve(x, self.weight, self.bias)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The same with weight (C, 1, K, K) and bias (C,) from elsewhere."""
        if not (self.training and x.device.type == "cpu"):
            return self._conv_forward(x, weight, bias)
        large = weight.shape[-1] > 3
        y = _Depthwise.apply(*_autocast(x, weight)) if large else _same(x, weight)
        if self.stride[0] == 2:
            y = y[..., ::2, ::2].contiguous(memory_format=torch.channels_last)
        return y if bias is None else y + bias.to(y.dtype)[:, None, None]


def _autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors in the type that autocast asks for; a function of our own has none."""
    if not torch.is_autocast_enabled("cpu"):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype("cpu")) for tensor in tensors)


def _same(x: Tensor, weight: Tensor) -> Tensor:
    return functional.conv2d(x, weight, None, 1, weight.shape[-1] // 2, 1, len(weight))


class _Depthwise(torch.autograd.Function):
    """Depthwise convolution of stride 1 that keeps the size."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _same(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight = ctx.needs_input_grad
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        return (
            _same(gradient, weight.flip(2, 3)) if of_x else None,
            _weight_gradient(x, gradient, weight) if of_weight else None,
        )


def _weight_gradient(x: Tensor, gradient: Tensor, weight: Tensor) -> Tensor:
    """(C, 1, K, K), summed in float32 at least."""
    kernel = weight.shape[-1]
    wide = torch.promote_types(weight.dtype, torch.float32)
    sums = torch.zeros(kernel, kernel, len(weight), dtype=wide)
    for maps in zip(x.split(_PICTURES_AT_ONCE), gradient.split(_PICTURES_AT_ONCE)):
        seen, wanted = (m.to(wide).permute(0, 2, 3, 1).contiguous().numpy() for m in maps)
        _add_products(seen, wanted, sums.numpy())
    return sums.permute(2, 0, 1).unsqueeze(1).to(weight.dtype)


@njit(cache=True, nogil=True, fastmath=True)
def _add_products(x: np.ndarray, gradient: np.ndarray, sums: np.ndarray) -> None:
    """Add to sums (K, K, C) each tap's products of x and gradient (N, H, W, C)."""
    pictures, height, width, channels = gradient.shape
    kernel = sums.shape[0]
    half = kernel // 2
    for picture in range(pictures):
        for row in range(height):
            for a in range(max(0, half - row), min(kernel, height + half - row)):
                for column in range(width):
                    factor = gradient[picture, row, column]
                    for b in range(max(0, half - column), min(kernel, width + half - column)):
                        seen = x[picture, row + a - half, column + b - half]
                        total = sums[a, b]
                        for channel in range(channels):
                            total[channel] += seen[channel] * factor[channel]
