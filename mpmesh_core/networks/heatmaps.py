"""heatmaps: from score maps to coordinates, and where the cells of a map lie in the crop.

A head sees a `Grid` of cells: those of a feature map plus a ring of cells around it, so that a
point on the border of the crop, or just beyond, is the mean of cells on both of its sides. Without
the ring, soft-argmax of a point at the border is pulled inwards.

Softmax runs in float32 whatever the autocast type: half precision loses centimetres.
"""

from __future__ import annotations

import functools
import math
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

    def centres(self, device: torch.device) -> Tensor:
        """(cells,) crop pixel of each cell's centre."""
        return _axis(self.cells, self._pixel(0), self._pixel(self.cells - 1), device)

    def fold(self, coarse: Grid, device: torch.device) -> Tensor:
        """(coarse.cells, cells) linear map to a coarser grid; mass beyond it goes to its edge.

        Columns sum to 1, so a probability map folded on both axes sums to 1 again.
        """
        return _fold(self, coarse, device)

    def _pixel(self, cell: float) -> float:
        return self.offset + self.stride * (cell - self.ring)


# Made once per size and device: constants in an exported graph, no host work in a CUDA graph.
@functools.lru_cache
def _axis(cells: int, first: float, last: float, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.linspace(first, last, cells, dtype=torch.float64).float().to(device)


@functools.lru_cache
def _fold(fine: Grid, coarse: Grid, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        pixels = fine.centres(torch.device("cpu"))
        position = (pixels - coarse.offset) / coarse.stride + coarse.ring
        distance = position.clamp(0, coarse.cells - 1) - torch.arange(coarse.cells)[:, None]
        return (1 - distance.abs()).clamp(min=0).to(device)


def spatial_softmax(logits: Tensor, dims: int) -> Tensor:
    """Softmax over the last `dims` axes together, in float32.

    Args:
        logits: (..., A1, ..., A_dims).

    Returns:
        Same shape, float32; sums to 1 over those axes.
    """
    leading, cells = logits.shape[:-dims], [int(size) for size in logits.shape[-dims:]]
    return logits.float().reshape(*leading, math.prod(cells)).softmax(-1).reshape(*leading, *cells)


def marginals_2d(probability: Tensor) -> tuple[Tensor, ...]:
    """Maps (..., H, W) that sum to 1, to those of x (..., W) and of y (..., H)."""
    return probability.sum(-2), probability.sum(-1)


def marginals_3d(probability: Tensor) -> tuple[Tensor, ...]:
    """Volumes (..., D, H, W) that sum to 1, to those of x (..., W), y (..., H) and z (..., D)."""
    return probability.sum((-3, -2)), probability.sum((-3, -1)), probability.sum((-2, -1))


def expected(marginals: tuple[Tensor, ...], centres: tuple[Tensor, ...]) -> Tensor:
    """Soft-argmax: the mean of each axis under its marginal.

    Args:
        marginals: one (..., cells) per axis, each sums to 1.
        centres: one (cells,) per axis, in the unit wanted.

    Returns:
        (..., axes) coordinates.
    """
    return torch.stack([(m * c).sum(-1) for m, c in zip(marginals, centres)], -1)


def box_centres(marginals: tuple[Tensor, ...], box: float) -> tuple[Tensor, ...]:
    """Coordinates (cells,) [m] of a cube's cells on each axis; the outermost lie on its faces."""
    return tuple(_axis(int(m.shape[-1]), -box / 2, box / 2, m.device) for m in marginals)
