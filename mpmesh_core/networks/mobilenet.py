"""mobilenet: backbones of inverted residuals, for the `light` networks.

In   image (N, 3, H, W), RGB in -1..1, H and W multiples of 32
Out  features at stride 16 (N, lateral_channels, H/16, W/16) and 32 (N, top_channels, H/32, W/32);
     `early` stops at stride 8 (N, early_channels, H/8, W/8)

Kernels at stride 2 look at pixels 2i-1..2i+1 (padding 1), so cell i at stride s is centred on pixel
s i. MobileNetV2's published weights come from 2i..2i+2; that differs by a shift of one pixel, so
they carry over, and one symmetric padding is faster on every engine than an explicit pad.
BlazePose's are padded like ours.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import cast

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mpmesh_core.networks.depthwise import DepthwiseConv2d


@dataclass(frozen=True)
class Layout:
    """Widths and kernels of one published network."""

    stem: int  # channels
    # expansion, output channels, repeats, stride of the first, kernel
    stages: tuple[tuple[int, int, int, int, int], ...]
    top: int  # channels
    mixed_top: bool = False  # a depthwise 3x3 after the top layer


LAYOUTS = {
    # Sandler et al. 2018, table 2
    "mobilenetv2": Layout(
        stem=32,
        stages=(
            (1, 16, 1, 1, 3),
            (6, 24, 2, 2, 3),
            (6, 32, 3, 2, 3),
            (6, 64, 4, 2, 3),
            (6, 96, 3, 1, 3),
            (6, 160, 3, 2, 3),
            (6, 320, 1, 1, 3),
        ),
        top=1280,
    ),
    # the encoder of MediaPipe's BlazePose landmark network (lite), as its file has it
    "blazepose": Layout(
        stem=24,
        stages=(
            (1, 8, 1, 1, 3),
            (4, 16, 1, 2, 3),
            (6, 16, 1, 1, 3),
            (6, 24, 2, 2, 5),
            (6, 40, 3, 2, 3),
            (6, 56, 3, 1, 5),
            (6, 96, 4, 2, 5),
        ),
        top=576,
        mixed_top=True,
    ),
}
# The same with more blocks where they are cheap.
LAYOUTS["blazepose-deep"] = replace(
    LAYOUTS["blazepose"],
    stages=(
        *LAYOUTS["blazepose"].stages[:4],
        (6, 40, 4, 2, 3),
        (6, 56, 6, 1, 5),
        (6, 96, 8, 2, 5),
    ),
)


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
        kind = DepthwiseConv2d if groups > 1 else nn.Conv2d
        layers: list[nn.Module] = [
            kind(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        if not linear:
            layers.append(nn.ReLU6())
        super().__init__(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        if not self.training or self.norm.training:
            return super().forward(x)
        # A norm that is frozen while the rest learns goes into the convolution: a pass less.
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        scale = self.norm.weight * (variance + self.norm.eps).rsqrt()
        bias = self.norm.bias - mean * scale
        weight = self.conv.weight * scale[:, None, None, None]
        if isinstance(self.conv, DepthwiseConv2d):
            y = self.conv.convolve(x, weight, bias)
        else:
            y = self.conv._conv_forward(x, weight, bias)
        return y if len(self) == 2 else self[2](y)

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

    def __init__(
        self, inputs: int, outputs: int, expansion: int, stride: int, kernel: int = 3
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers = [ConvNorm(inputs, hidden)] if expansion > 1 else []
        layers.append(ConvNorm(hidden, hidden, kernel, stride, groups=hidden))
        layers.append(ConvNorm(hidden, outputs, linear=True))
        self.layers = nn.Sequential(*layers)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        return x + self.layers(x) if self.shortcut else self.layers(x)


class MobileNet(nn.Module):
    """The feature part of a network of inverted residuals; `layout` names one of `LAYOUTS`."""

    def __init__(self, layout: str = "mobilenetv2") -> None:
        super().__init__()
        self.layout, plan = layout, LAYOUTS[layout]
        self.stem = ConvNorm(3, plan.stem, 3, stride=2)
        stages, channels, stride = [], plan.stem, 2
        for expansion, outputs, repeats, first, kernel in plan.stages:
            blocks = []
            for block in range(repeats):
                step = first if block == 0 else 1
                blocks.append(InvertedResidual(channels, outputs, expansion, step, kernel))
                channels, stride = outputs, stride * step
            stages.append(nn.Sequential(*blocks))
            if stride <= 8:
                self._stride8, self.early_channels = len(stages), channels
            if stride <= 16:
                self._stride16, self.lateral_channels = len(stages), channels
        self.stages = nn.ModuleList(stages)
        self._fused: list[nn.Module] = []  # a list, so that it is no submodule
        self._fused_stages = 0
        self.top_channels = plan.top
        layers: list[nn.Module] = [ConvNorm(channels, plan.top)]
        if plan.mixed_top:
            layers.append(ConvNorm(plan.top, plan.top, 3, groups=plan.top))
        self.top = nn.Sequential(*layers) if plan.mixed_top else layers[0]

    @property
    def late_stages(self) -> range:
        """Numbers of the stages from stride 8 on."""
        return range(self._stride8, len(self.stages))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features at stride 16 and 32 (see the module docstring)."""
        return self.late(self.early(image))

    def early(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) to features at stride 8."""
        x, done = image, 0
        if self.training and self._fused:
            x, done = self._fused[0](x), self._fused_stages
        else:
            x = self.stem(x)
        for stage in self.stages[done : self._stride8]:
            x = stage(x)
        return x

    def late(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """From features at stride 8 to those at stride 16 and 32."""
        for stage in self.stages[self._stride8 : self._stride16]:
            x = stage(x)
        lateral = x
        for stage in self.stages[self._stride16 :]:
            x = stage(x)
        return lateral, self.top(x)

    def fuse_early(self, stages: int) -> None:
        """In training mode, run stem and first stages as one faster copy with folded norms.

        For stages that don't learn; at most those up to stride 8. The copy is no part of the
        state, stays on the device that it was made on, and is not made anew when weights change.
        """
        self._fused_stages = min(stages, self._stride8)
        self._fused = [folded_copy(nn.Sequential(self.stem, *self.stages[: self._fused_stages]))]

    def units(self) -> list[ConvNorm]:
        """Every convolution with its norm, in the order in which they run."""
        return [module for module in self.modules() if isinstance(module, ConvNorm)]


def folded_copy(module: nn.Module) -> nn.Module:
    """A copy for inference with every ConvNorm's norm folded into its convolution."""
    return _fold(copy.deepcopy(module).eval()).requires_grad_(False)


def _fold(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        if isinstance(child, ConvNorm):
            layers: list[nn.Module] = [fuse_conv_bn_eval(child.conv, child.norm)]
            if len(child) > 2:
                layers.append(nn.ReLU6(inplace=True))
            child = nn.Sequential(*layers)
        else:
            child = _fold(child)
        setattr(module, name, child)
    return module
