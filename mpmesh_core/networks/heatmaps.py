"""heatmaps: from score maps to coordinates, and where the cells of a map lie in the crop.

A head sees a `Grid` of cells: those of a feature map plus a ring of cells around it, so that a
point on the border of the crop, or just beyond, is the mean of cells on both of its sides. Without
the ring, soft-argmax of a point at the border is pulled inwards.

Softmax runs in float32 whatever the autocast type: half precision loses centimetres.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RING = 1


@dataclass(frozen=True)
class Grid:
    """Cells of a square map: cell i is centred on pixel `offset + stride * (i - ring)`."""

    cells: int  # across, the ring included
    stride: int  # [px]
    offset: float  # pixel of the first cell inside the ring [px]
    ring: int = RING

    def centres(self) -> Tensor:
        """(cells,) crop pixel of each cell's centre."""
        return self.offset + self.stride * (torch.arange(self.cells) - float(self.ring))

    def fold(self, cells: int, stride: int, offset: float) -> Tensor:
        """(cells, self.cells) linear map to a coarser map; the mass of the ring goes to its edge.

        Columns sum to 1, so a probability map folded on both axes sums to 1 again.
        """
        position = ((self.centres() - offset) / stride).clamp(0, cells - 1)
        return (1 - (position - torch.arange(cells)[:, None]).abs()).clamp(min=0)


def spatial_softmax(logits: Tensor, dims: int) -> Tensor:
    """Softmax over the last `dims` axes together, in float32.

    Args:
        logits: (..., A1, ..., A_dims).

    Returns:
        Same shape, float32; sums to 1 over those axes.
    """
    flat = logits.float().flatten(-dims)
    return flat.softmax(-1).reshape(logits.shape)


def expected_2d(probability: Tensor, centres: Tensor) -> Tensor:
    """Soft-argmax of 2D maps.

    Args:
        probability: (..., H, W) that sums to 1.
        centres: (W,) = (H,) coordinate of each cell.

    Returns:
        (..., 2) x, y in the unit of `centres`.
    """
    x = (probability.sum(-2) * centres).sum(-1)
    y = (probability.sum(-1) * centres).sum(-1)
    return torch.stack((x, y), -1)


def expected_3d(probability: Tensor, box: float) -> Tensor:
    """Soft-argmax of volumes that span a cube.

    Args:
        probability: (..., D, H, W) that sums to 1.
        box: edge of the cube [m]; the outermost cells lie on its faces.

    Returns:
        (..., 3) x, y, z in -box/2 .. box/2 [m].
    """
    axes = ((-3, -2), (-3, -1), (-2, -1))  # summed out for x, y, z
    marginals = [probability.sum(pair) for pair in axes]
    coordinates = [
        (m * torch.linspace(-box / 2, box / 2, m.shape[-1], device=m.device)).sum(-1)
        for m in marginals
    ]
    return torch.stack(coordinates, -1)
