"""mobilenet: the MobileNetV2 backbone of the `light` networks.

In   image (N, 3, H, W), RGB in -1..1, H and W multiples of 32
Out  features at stride 16 (N, 96, H/16, W/16) and stride 32 (N, 1280, H/32, W/32)

Kernels at stride 2 look at pixels 2i-1..2i+1 (padding 1), so cell i at stride s is centred on pixel
s i. The published weights come from 2i..2i+2; that differs by a shift of one pixel, so they carry
over, and one symmetric padding is faster on every engine than an explicit pad.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

# expansion, output channels, repeats, stride of the first: Sandler et al. 2018, table 2
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STRIDE16_STAGE = 4  # the last stage at stride 16
LATERAL_CHANNELS = 96
TOP_CHANNELS = 1280


class _PickingConv2d(nn.Conv2d):
    """A depthwise convolution of stride 2 that trains several times faster on CPUs.

    oneDNN has no fast gradient for it; stride 1 with every second cell picked is the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H / 2, W / 2)."""
        if self.training and x.device.type == "cpu":
            full = functional.conv2d(x, self.weight, None, 1, self.padding, 1, self.groups)
            return full[..., ::2, ::2].contiguous(memory_format=torch.channels_last)
        return super().forward(x)


class ConvNorm(nn.Sequential):
    """Convolution, batch norm and (unless `linear`) ReLU6."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        kind = _PickingConv2d if stride == 2 and groups > 1 else nn.Conv2d
        layers: list[nn.Module] = [
            kind(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        if not linear:
            layers.append(nn.ReLU6())
        super().__init__(*layers)

    @property
    def conv(self) -> nn.Conv2d:
        """The convolution."""
        return cast(nn.Conv2d, self[0])

    @property
    def norm(self) -> nn.BatchNorm2d:
        """Its batch norm."""
        return cast(nn.BatchNorm2d, self[1])


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; with a shortcut where shapes allow it."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers = [ConvNorm(inputs, hidden)] if expansion > 1 else []
        layers.append(ConvNorm(hidden, hidden, 3, stride, groups=hidden))
        layers.append(ConvNorm(hidden, outputs, linear=True))
        self.layers = nn.Sequential(*layers)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        return x + self.layers(x) if self.shortcut else self.layers(x)


class MobileNetV2(nn.Module):
    """The feature part of MobileNetV2 at width 1.0."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 32, 3, stride=2)
        stages, channels = [], 32
        for expansion, outputs, repeats, stride in _STAGES:
            blocks = []
            for block in range(repeats):
                step = stride if block == 0 else 1
                blocks.append(InvertedResidual(channels, outputs, expansion, step))
                channels = outputs
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.top = ConvNorm(channels, TOP_CHANNELS)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features at stride 16 and 32 (see the module docstring)."""
        x = self.stem(image)
        for stage in self.stages[: _STRIDE16_STAGE + 1]:
            x = stage(x)
        lateral = x
        for stage in self.stages[_STRIDE16_STAGE + 1 :]:
            x = stage(x)
        return lateral, self.top(x)

    def units(self) -> list[ConvNorm]:
        """Every convolution with its norm, in the order in which they run."""
        return [module for module in self.modules() if isinstance(module, ConvNorm)]
