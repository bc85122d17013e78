"""decoder: the backbone's features as the maps from which points are read.

In   features (N, C1, S, S); of the light variant also the backbone's maps at half that stride and
     at a quarter, (N, C2, 2S, 2S) and (N, C3, 4S, 4S)
Out  DecodedMaps
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from mpmesh_core.networks.heatmaps import RING
from mpmesh_core.networks.mobilenet import ConvNorm

FINE_RING = 2
_DECODER_BLOCKS, _FINE_BLOCKS = 3, 2


class DecodedMaps(NamedTuple):
    """What the heads read."""

    coarse: Tensor  # (N, hidden, D, D)
    fine: Tensor | None  # (N, fine, 2D - 1, 2D - 1)


class Decoder(nn.Module):
    """Features to a finer map with a ring of cells around the crop."""

    def __init__(self, features: int, lateral: int, hidden: int) -> None:
        super().__init__()
        self.top = ConvNorm(features, hidden, linear=True)
        self.lateral = ConvNorm(lateral, hidden, linear=True) if lateral else None
        blocks = [
            nn.Sequential(ConvNorm(hidden, hidden, 3, groups=hidden), ConvNorm(hidden, hidden))
            for _ in range(_DECODER_BLOCKS)
        ]
        self.mix = nn.Sequential(*blocks)

    def forward(self, features: Tensor, lateral: Tensor) -> Tensor:
        """(N, features, S, S) and (N, lateral, 2S, 2S) to (N, hidden, G, G)."""
        x = self.top(features)
        if self.lateral is not None:
            x = self.lateral(lateral) + F.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.mix(F.pad(F.relu(x), (RING,) * 4))


class FineMap(nn.Module):
    """The decoder's map on cells of half the size, joined with the backbone's at stride 8."""

    def __init__(self, hidden: int, early: int, channels: int) -> None:
        super().__init__()
        self.top = ConvNorm(hidden, channels, linear=True)
        self.lateral = ConvNorm(early, channels, linear=True)
        blocks = [
            nn.Sequential(
                ConvNorm(channels, channels, 5, groups=channels), ConvNorm(channels, channels)
            )
            for _ in range(_FINE_BLOCKS)
        ]
        self.mix = nn.Sequential(*blocks)

    def forward(self, decoded: Tensor, early: Tensor) -> Tensor:
        """(N, hidden, D, D) and (N, early, 4S, 4S) to (N, channels, 2D - 1, 2D - 1)."""
        around = (FINE_RING, FINE_RING - 1) * 2
        return self.mix(F.relu(finer(self.top(decoded)) + F.pad(self.lateral(early), around)))


def finer(maps: Tensor) -> Tensor:
    """Maps (N, C, D, D) with a cell between any two neighbours, (N, C, 2D - 1, 2D - 1)."""
    cells = 2 * int(maps.shape[-1]) - 1
    return F.interpolate(maps, (cells, cells), mode="bilinear", align_corners=True)
