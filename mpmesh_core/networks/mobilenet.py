"""mobilenet: the MobileNetV2 backbone of the `light` networks.

In   image (N, 3, H, W), RGB in -1..1, H and W multiples of 32
Out  features at stride 16 (N, 96, H/16, W/16) and stride 32 (N, 1280, H/32, W/32)

A 3x3 kernel at stride 2 can look at its cell from either side: padded below and right (cell i sees
2i..2i+2, as the published weights do) or above and left (2i-1..2i+1). The two differ by a shift of
one pixel, so weights carry over. `_PAD_AFTER` picks the sides such that the cells at stride 16
are centred on pixel 7 + 16 i, half a pixel from the middle of their patch, instead of 15 + 16 i.
"""

from __future__ import annotations

from torch import Tensor, nn

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
_PAD_AFTER = {2: True, 4: True, 8: True, 16: False, 32: True}  # by the stride that is reached
_STRIDE16_STAGE = 4  # the last stage at stride 16
LATERAL_CHANNELS = 96
TOP_CHANNELS = 1280


class ConvNorm(nn.Sequential):
    """Convolution, batch norm and (unless `linear`) ReLU6; 3x3 kernels pad themselves."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
        pad_after: bool = True,
    ) -> None:
        padding = kernel // 2 if stride == 1 else 0
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        if stride == 2:
            sides = (0, 1, 0, 1) if pad_after else (1, 0, 1, 0)
            layers.insert(0, nn.ZeroPad2d(sides))
        if not linear:
            layers.append(nn.ReLU6())
        super().__init__(*layers)

    @property
    def conv(self) -> nn.Conv2d:
        """The convolution, wherever padding put it."""
        return next(layer for layer in self if isinstance(layer, nn.Conv2d))

    @property
    def norm(self) -> nn.BatchNorm2d:
        """The batch norm."""
        return next(layer for layer in self if isinstance(layer, nn.BatchNorm2d))


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; with a shortcut where shapes allow it."""

    def __init__(
        self, inputs: int, outputs: int, expansion: int, stride: int, pad_after: bool
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers = [ConvNorm(inputs, hidden)] if expansion > 1 else []
        layers.append(ConvNorm(hidden, hidden, 3, stride, groups=hidden, pad_after=pad_after))
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
        self.stem = ConvNorm(3, 32, 3, stride=2, pad_after=_PAD_AFTER[2])
        stages, channels, reached = [], 32, 2
        for expansion, outputs, repeats, stride in _STAGES:
            reached *= stride
            blocks = []
            for block in range(repeats):
                step = stride if block == 0 else 1
                after = _PAD_AFTER[reached]
                blocks.append(InvertedResidual(channels, outputs, expansion, step, after))
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
