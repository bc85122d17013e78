"""resnet: the ResNet-50 backbone of the `paper` networks.

In   image (N, 3, H, W), RGB in -1..1, H and W multiples of 32
Out  features at stride 16 (N, 1024, H/16, W/16) and stride 32 (N, 2048, H/32, W/32)

Stock kernels at stride 2 look at cells 2i-1..2i+1, so the cells of the last map would lie on pixels
32 i. Its last stride looks at 2i..2i+2 instead, which puts them on 16 + 32 i, the middle of their
patch (MeTRAbs' centred stride); any ImageNet weights carry over.
"""

from __future__ import annotations

from torch import Tensor, nn

_BLOCKS = (3, 4, 6, 3)  # He et al. 2016, table 1
_WIDTHS = (64, 128, 256, 512)
_EXPANSION = 4
RESNET_CHANNELS = _WIDTHS[-1] * _EXPANSION


class _OddCells(nn.Module):
    """Every second cell, from the second on: stride 2 centred on cells 2i + 1."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H / 2, W / 2)."""
        return x[..., 1::2, 1::2]


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut; the stride sits in the 3x3 (2, centred, where asked)."""

    def __init__(self, inputs: int, width: int, stride: int = 1, centred: bool = False) -> None:
        super().__init__()
        outputs = width * _EXPANSION
        self.layers = nn.Sequential(
            *_conv(inputs, width, 1),
            nn.ReLU(inplace=True),
            *_centred_conv(width) if centred else _conv(width, width, 3, stride),
            nn.ReLU(inplace=True),
            *_conv(width, outputs, 1),
        )
        self.shortcut: nn.Module = nn.Identity()
        if centred:
            self.shortcut = nn.Sequential(_OddCells(), *_conv(inputs, outputs, 1))
        elif stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(*_conv(inputs, outputs, 1, stride))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, 4 width, H / stride, W / stride)."""
        return self.relu(self.layers(x) + self.shortcut(x))


class ResNet50(nn.Module):
    """The feature part of ResNet-50 with a centred last stride."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *_conv(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1)
        )
        stages, channels = [], 64
        for number, (blocks, width) in enumerate(zip(_BLOCKS, _WIDTHS)):
            stride, last = min(number, 1) + 1, number == len(_BLOCKS) - 1
            stage = [Bottleneck(channels, width, stride, centred=last)]
            channels = width * _EXPANSION
            stage += [Bottleneck(channels, width) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*stage))
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features at stride 16 and 32 (see the module docstring)."""
        x = self.stem(image)
        for stage in self.stages[:-1]:
            x = stage(x)
        return x, self.stages[-1](x)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return conv, nn.BatchNorm2d(outputs)


def _centred_conv(width: int) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(width, width, 3, 2, bias=False)
    return nn.ZeroPad2d((0, 1, 0, 1)), conv, nn.BatchNorm2d(width)
