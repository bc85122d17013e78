"""resnet: the ResNet backbones of the `paper` networks.

In   image (N, 3, H, W), RGB in -1..1, H and W multiples of 32
Out  features at stride 16 (N, C / 2, H/16, W/16) and stride 32 (N, C, H/32, W/32); C is 2048 for
     ResNet-50, the paper's, and 512 for ResNet-34

Stock kernels at stride 2 look at cells 2i-1..2i+1, so the cells of the last map would lie on pixels
32 i. Its last stride looks at 2i..2i+2 instead, which puts them on 16 + 32 i, the middle of their
patch (MeTRAbs' centred stride); any ImageNet weights carry over.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

Layout = Literal["resnet34", "resnet50"]
_BLOCKS = (3, 4, 6, 3)  # He et al. 2016, table 1; the same for both
_WIDTHS = (64, 128, 256, 512)
_EXPANSION: dict[Layout, int] = {"resnet34": 1, "resnet50": 4}


class _OddCells(nn.Module):
    """Every second cell, from the second on: stride 2 centred on cells 2i + 1."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H / 2, W / 2)."""
        return x[..., 1::2, 1::2]


class Residual(nn.Module):
    """Convolutions with a shortcut around them.

    Of ResNet-50 1x1, 3x3, 1x1, of ResNet-34 3x3, 3x3. The stride sits in the first 3x3 (2, centred,
    where asked).
    """

    def __init__(
        self, layout: Layout, inputs: int, width: int, stride: int = 1, centred: bool = False
    ) -> None:
        super().__init__()
        outputs = width * _EXPANSION[layout]
        narrow = layout == "resnet50"
        before = width if narrow else inputs
        self.layers = nn.Sequential(
            *((*_conv(inputs, width, 1), nn.ReLU(inplace=True)) if narrow else ()),
            *_centred_conv(before, width) if centred else _conv(before, width, 3, stride),
            nn.ReLU(inplace=True),
            *_conv(width, outputs, 1 if narrow else 3),
        )
        self.shortcut: nn.Module = nn.Identity()
        if centred:
            self.shortcut = nn.Sequential(_OddCells(), *_conv(inputs, outputs, 1))
        elif stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(*_conv(inputs, outputs, 1, stride))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        return self.relu(self.layers(x) + self.shortcut(x))


class ResNet(nn.Module):
    """The feature part of a ResNet with a centred last stride."""

    def __init__(self, layout: Layout = "resnet50") -> None:
        super().__init__()
        self.layout = layout
        self.channels = _WIDTHS[-1] * _EXPANSION[layout]  # C
        self.stem = nn.Sequential(
            *_conv(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1)
        )
        stages, channels = [], 64
        for number, (blocks, width) in enumerate(zip(_BLOCKS, _WIDTHS)):
            stride, last = min(number, 1) + 1, number == len(_BLOCKS) - 1
            stage = [Residual(layout, channels, width, stride, centred=last)]
            channels = width * _EXPANSION[layout]
            stage += [Residual(layout, channels, width) for _ in range(blocks - 1)]
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


def _centred_conv(inputs: int, width: int) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(inputs, width, 3, 2, bias=False)
    return nn.ZeroPad2d((0, 1, 0, 1)), conv, nn.BatchNorm2d(width)
