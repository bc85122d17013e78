"""networks.detector: the shipped person detector, from an image to scored boxes.

In   image (N, 3, H, W) float32 RGB 0..255, H and W multiples of 32
Out  scores (N, P) in 0..1, boxes (N, P, 4) x1, y1, x2, y2 [input px], P = HW/64 + HW/256 + HW/1024

One class, anchor-free, in the RTMDet family (Lyu et al. 2022): a depthwise CSPNeXt backbone, a
two-way feature pyramid, and at each of the strides 8, 16, 32 a small head that gives one score and
four distances from the grid point to the box sides. The convolutions carry their bias (batch
norm is folded in), so the network in training is the network that is exported. It suppresses
nothing: overlapping boxes are `detect`'s job.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

STRIDES = (8, 16, 32)
IMAGE_MEAN = (123.675, 116.28, 103.53)  # RGB, 0..255
IMAGE_STD = (58.395, 57.12, 57.375)
SILU_GAIN = 1.68  # E[SiLU(x)^2] = 0.356 for x of unit variance


class DetectorConfig(BaseModel):
    """Size of the detector network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: tuple[int, int, int, int, int] = (16, 32, 64, 128, 256)  # stem and four stages
    blocks: tuple[int, int, int, int] = (1, 2, 2, 1)  # CSPNeXt blocks a stage
    head_channels: int = Field(default=64, ge=8)
    head_convs: int = Field(default=2, ge=0)


class RawDetections(NamedTuple):
    """What the network says at each of the P grid points, all strides one after another."""

    logits: Tensor  # (N, P) before the sigmoid
    boxes: Tensor  # (N, P, 4) x1, y1, x2, y2 [px]
    points: Tensor  # (P, 2) x, y [px]
    strides: Tensor  # (P,) [px]


class ConvAct(nn.Sequential):
    """Convolution with bias, then SiLU; starts so that activations keep their size."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
        nn.init.normal_(conv.weight, std=SILU_GAIN / (kernel**2 * inputs / groups) ** 0.5)
        _biased(conv, 0.0)
        super().__init__(conv, nn.SiLU())


class SeparableConv(nn.Sequential):
    """Depthwise convolution, then pointwise, each with SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            ConvAct(inputs, inputs, kernel, stride, groups=inputs), ConvAct(inputs, outputs)
        )


class CSPNeXtBlock(nn.Module):
    """A 3x3 and a 5x5 separable convolution, with a shortcut where asked for."""

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = SeparableConv(channels, channels, kernel=3)
        self.conv2 = SeparableConv(channels, channels, kernel=5)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.conv1(x))
        return out + x if self.shortcut else out


class ChannelAttention(nn.Module):
    """Scale each channel by a gate from the image-wide mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * nn.functional.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class CSPLayer(nn.Module):
    """Cross-stage partial layer: half the channels pass through blocks, half go around."""

    def __init__(
        self, inputs: int, outputs: int, blocks: int, shortcut: bool, attention: bool
    ) -> None:
        super().__init__()
        half = outputs // 2
        self.short = ConvAct(inputs, half)
        self.main = ConvAct(inputs, half)
        self.blocks = nn.Sequential(*(CSPNeXtBlock(half, shortcut) for _ in range(blocks)))
        self.attention = ChannelAttention(outputs) if attention else nn.Identity()
        self.final = ConvAct(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        short = self.short(x)
        joined = torch.cat([self.blocks(self.main(x)), short], dim=1)
        return self.final(self.attention(joined))


class SpatialPyramidPooling(nn.Module):
    """Max pooling over 5, 9 and 13 cells beside the input, so the last stage sees far."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = ConvAct(channels, channels // 2)
        self.expand = ConvAct(channels * 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        # A 5-cell maximum of a 5-cell maximum is a 9-cell one: cheaper than the wide windows.
        pool5 = nn.functional.max_pool2d(x, 5, 1, 2)
        pool9 = nn.functional.max_pool2d(pool5, 5, 1, 2)
        pool13 = nn.functional.max_pool2d(pool9, 5, 1, 2)
        return self.expand(torch.cat([x, pool5, pool9, pool13], dim=1))


class Backbone(nn.Module):
    """Image to feature maps at strides 8, 16 and 32."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        stem, *stages = config.channels
        self.stem = nn.Sequential(
            ConvAct(3, stem // 2, 3, stride=2),
            ConvAct(stem // 2, stem // 2, 3),
            ConvAct(stem // 2, stem, 3),
        )
        self.stages = nn.ModuleList()
        inputs = stem
        for index, (outputs, blocks) in enumerate(zip(stages, config.blocks)):
            last = index == len(stages) - 1
            layers: list[nn.Module] = [SeparableConv(inputs, outputs, stride=2)]
            if last:
                layers.append(SpatialPyramidPooling(outputs))
            layers.append(CSPLayer(outputs, outputs, blocks, shortcut=not last, attention=True))
            self.stages.append(nn.Sequential(*layers))
            inputs = outputs

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.stages[0](self.stem(x))
        stride8 = self.stages[1](x)
        stride16 = self.stages[2](stride8)
        return stride8, stride16, self.stages[3](stride16)


class FeaturePyramid(nn.Module):
    """Mix the three maps, coarse to fine and back, and bring all to the head's channels."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        low, mid, high = config.channels[2:]
        self.reduce_high = ConvAct(high, mid)
        self.top_down_mid = CSPLayer(2 * mid, mid, 1, shortcut=False, attention=False)
        self.reduce_mid = ConvAct(mid, low)
        self.top_down_low = CSPLayer(2 * low, low, 1, shortcut=False, attention=False)
        self.down_low = SeparableConv(low, low, stride=2)
        self.bottom_up_mid = CSPLayer(2 * low, mid, 1, shortcut=False, attention=False)
        self.down_mid = SeparableConv(mid, mid, stride=2)
        self.bottom_up_high = CSPLayer(2 * mid, high, 1, shortcut=False, attention=False)
        self.out = nn.ModuleList(SeparableConv(c, config.head_channels) for c in (low, mid, high))

    def forward(self, maps: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        low, mid, high = maps
        high = self.reduce_high(high)
        mid = self.reduce_mid(self.top_down_mid(torch.cat([_double(high), mid], dim=1)))
        low = self.top_down_low(torch.cat([_double(mid), low], dim=1))
        mid_out = self.bottom_up_mid(torch.cat([self.down_low(low), mid], dim=1))
        high_out = self.bottom_up_high(torch.cat([self.down_mid(mid_out), high], dim=1))
        return [conv(x) for conv, x in zip(self.out, (low, mid_out, high_out))]


class Head(nn.Module):
    """Score logit and the distances to the four box sides, in strides, at each grid point."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        width = config.head_channels
        self.score_convs = _tower(width, config.head_convs)
        self.box_convs = _tower(width, config.head_convs)
        self.score = _biased(nn.Conv2d(width, 1, 1), -4.6)  # 1 % of the points lie on a person
        self.box = _biased(nn.Conv2d(width, 4, 1), 4.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.score(self.score_convs(x)), self.box(self.box_convs(x))


class DetectorNetwork(nn.Module):
    """The detector network; `forward` is what is exported, `raw` what is trained."""

    KIND: ClassVar[str] = "detector"
    INPUT_NAMES: ClassVar[tuple[str, ...]] = ("image",)
    OUTPUT_NAMES: ClassVar[tuple[str, ...]] = ("scores", "boxes")
    DYNAMIC_AXES: ClassVar[dict[str, dict[int, str]]] = {
        "image": {2: "height", 3: "width"},
        "scores": {1: "points"},
        "boxes": {1: "points"},
    }
    variant = "light"

    mean: Tensor
    std: Tensor

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__()
        self.config = config or DetectorConfig()
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGE_STD).view(1, 3, 1, 1), persistent=False)
        self.backbone = Backbone(self.config)
        self.pyramid = FeaturePyramid(self.config)
        self.heads = nn.ModuleList(Head(self.config) for _ in STRIDES)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DetectorNetwork:
        """Build the network from the configuration in its checkpoint."""
        return cls(DetectorConfig(**config))

    def example_inputs(self, batch: int) -> dict[str, Tensor]:
        """An image batch of the shape that a 640x480 camera gives."""
        return {"image": torch.rand(batch, 3, 320, 416) * 255}

    def raw(self, image: Tensor) -> RawDetections:
        """Logits and boxes with the grid they stand on; image (N, 3, H, W) RGB 0..255."""
        maps = self.pyramid(self.backbone((image - self.mean) / self.std))
        logits, boxes, points, strides = [], [], [], []
        for features, head, stride in zip(maps, self.heads, STRIDES):
            score, distances = head(features)
            # Half precision would move the sides of boxes far from the origin by half a pixel.
            grid = _grid(features) * stride  # (P, 2)
            distances = distances.flatten(2).transpose(1, 2).float() * stride  # (N, P, 4)
            logits.append(score.flatten(1).float())
            boxes.append(torch.cat([grid - distances[..., :2], grid + distances[..., 2:]], dim=-1))
            points.append(grid)
            strides.append(torch.full_like(grid[:, 0], stride))
        return RawDetections(
            torch.cat(logits, 1), torch.cat(boxes, 1), torch.cat(points), torch.cat(strides)
        )

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """`scores` (N, P) and `boxes` (N, P, 4) [px] of image (N, 3, H, W) RGB 0..255."""
        raw = self.raw(image)
        return {"scores": raw.logits.sigmoid(), "boxes": raw.boxes}


def _tower(width: int, convs: int) -> nn.Sequential:
    return nn.Sequential(*(SeparableConv(width, width) for _ in range(convs)))


def _biased(conv: nn.Conv2d, value: float) -> nn.Conv2d:
    if conv.bias is not None:
        nn.init.constant_(conv.bias, value)
    return conv


def _double(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


def _grid(features: Tensor) -> Tensor:
    """Grid points (H*W, 2) as x, y in cells, row by row."""
    height, width = features.shape[-2:]
    x = torch.arange(width, device=features.device, dtype=torch.float32)
    y = torch.arange(height, device=features.device, dtype=torch.float32)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)
