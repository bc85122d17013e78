"""landmark_reader: the second half of MediaPipe's pose landmark network, as a second opinion.

In   early (N, 24, 32, 32): what the light backbone's first stages, which both share, make of a crop
Out  (N, 33, 7): each landmark's u, v and depth, from -1 at one side of the crop to 1 at the other;
     visibility 0..1; x, y, z [m], hip-centred, crop camera axes

The joint head reads it beside its own heatmaps: a network trained on many more people, on one
upright person a picture. Its late stages stay as published, its trunk learns with the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mpmesh_core.networks.mobilenet import LAYOUTS, MobileNet, folded_copy

LANDMARKS, NUMBERS = 33, 7
_ALL = 39  # landmarks in the file; the last six help its tracker
_WIDTH = 192
_SHORTCUT_STRIDES = (2, 1, 1, 2, 1, 1, 1)
_HALF_CROP = 128.0  # [px]


class TrunkBlock(nn.Module):
    """Depthwise and pointwise convolution with a shortcut; TensorFlow's padding where it halves."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        padding = 1 if stride == 1 else 0
        self.depthwise = nn.Conv2d(_WIDTH, _WIDTH, 3, stride, padding, groups=_WIDTH)
        self.pointwise = nn.Conv2d(_WIDTH, _WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 192, S, S) to (N, 192, S / stride, S / stride)."""
        if self.stride == 1:
            moved, kept = self.depthwise(x), x
        else:
            moved, kept = self.depthwise(F.pad(x, (0, 1, 0, 1))), F.max_pool2d(x, 2)
        return F.relu6(kept + self.pointwise(F.relu6(moved)))


class LandmarkReader(nn.Module):
    """See the module docstring."""

    def __init__(self) -> None:
        super().__init__()
        whole = MobileNet("blazepose")
        self.stages = nn.Sequential(*whole.late_stages())
        self.top = whole.top
        channels = LAYOUTS["blazepose"].top
        self.first = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, groups=channels),
            nn.ReLU6(),
            nn.Conv2d(channels, _WIDTH, 1),
            nn.ReLU6(),
        )
        self.trunk = nn.Sequential(*(TrunkBlock(stride) for stride in _SHORTCUT_STRIDES))
        self.image = nn.Conv2d(_WIDTH, _ALL * 5, 2)
        self.world = nn.Conv2d(_WIDTH, _ALL * 3, 2)
        self._fused: list[nn.Module] = []

    def forward(self, early: Tensor) -> Tensor:
        """Read the people of N crops; see the module docstring."""
        fused = self.training and self._fused
        x = self._fused[0](early) if fused else self.top(self.stages(early))
        x = self.trunk(self.first(x))
        image = self.image(x).float().reshape(-1, _ALL, 5)[:, :LANDMARKS]
        world = self.world(x).float().reshape(-1, _ALL, 3)[:, :LANDMARKS]
        place = torch.cat((image[..., :2] / _HALF_CROP - 1, image[..., 2:3] / _HALF_CROP), -1)
        return torch.cat((place, image[..., 3:4].sigmoid(), world), -1)

    def published(self) -> list[nn.Module]:
        """The parts that don't learn."""
        return [self.stages, self.top]

    def fuse(self) -> None:
        """In training mode, run the published parts as one faster copy with folded norms."""
        self._fused = [folded_copy(nn.Sequential(self.stages, self.top))]

    def plain_convolutions(self) -> list[nn.Conv2d]:
        """Convolutions without norm, in the order in which the published file has them."""
        parts = (self.first, self.trunk, self.image, self.world)
        return [m for part in parts for m in part.modules() if isinstance(m, nn.Conv2d)]
