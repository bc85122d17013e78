"""point_head: heatmaps of one label convention, and its points."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from mpmesh_core.networks.decoder import finer
from mpmesh_core.networks.heatmaps import (
    box_centres,
    expected,
    marginals_2d,
    marginals_3d,
    spatial_softmax,
)


class PointMaps(NamedTuple):
    """Points of one convention, read from their heatmaps."""

    points3d: Tensor  # (N, J, 3) [m], free origin
    points2d: Tensor  # (N, J, 2) [crop px]
    heatmaps: Tensor  # (N, J, G, G)
    log_scale: Tensor  # (N, J) log of the expected 2D error [px]
    marginals3d: tuple[Tensor, ...]  # of x, y and z, each (N, J, cells)
    centres3d: tuple[Tensor, ...]  # [m] of those cells, each (cells,)
    marginals2d: tuple[Tensor, ...]  # of u and v, each (N, J, G)
    centres2d: tuple[Tensor, ...]  # [crop px], each (G,)


class PointHead(nn.Module):
    """One 1x1 convolution to metric volumes, image heatmaps and error maps of J points.

    Where there is a fine map, image heatmaps and error maps are brought to its cells, and another
    1x1 convolution corrects the heatmaps; untrained, it adds nothing.
    """

    def __init__(self, channels: int, points: int, fine: int, depth_bins: int, box: float) -> None:
        """Make the convolutions.

        Args:
            channels: of the decoder's coarse map.
            points: J.
            fine: channels of its fine map; 0: none.
            depth_bins: cells of the volumes along z.
            box: side of the cube that they span [m].
        """
        super().__init__()
        self.points, self.depth, self.box = points, depth_bins, box
        self.conv = nn.Conv2d(channels, points * (depth_bins + 2), 1)
        nn.init.normal_(self.conv.weight, std=0.1)
        self.sharpen = nn.Conv2d(fine, points, 1) if fine else None
        if self.sharpen is not None:
            nn.init.zeros_(self.sharpen.weight)
            nn.init.zeros_(self.sharpen.bias)  # type: ignore[arg-type]

    def forward(self, decoded: Tensor, fine: Tensor | None, centres: Tensor) -> PointMaps:
        """Maps to points.

        Args:
            decoded: (N, channels, D, D) decoder output.
            fine: (N, fine, G, G) fine map, or None where there is none, and then G = D.
            centres: (G,) centres of the image heatmaps' cells [crop px].
        """
        maps = self.conv(decoded).float()
        batch, cells = maps.shape[0], int(maps.shape[-1])
        maps = maps.reshape(batch, self.depth + 2, self.points, cells, cells)
        volumes = spatial_softmax(maps[:, : self.depth].transpose(1, 2), 3)
        scores, errors = maps[:, self.depth], maps[:, self.depth + 1]
        if self.sharpen is not None and fine is not None:
            scores = finer(scores) + self.sharpen(fine).float()
            errors = finer(errors)
        heatmaps = spatial_softmax(scores, 2)
        log_scale = (heatmaps * errors).sum((-2, -1))
        in_box, in_crop = marginals_3d(volumes), marginals_2d(heatmaps)
        cells3d, cells2d = box_centres(in_box, self.box), (centres, centres)
        return PointMaps(
            points3d=expected(in_box, cells3d),
            points2d=expected(in_crop, cells2d),
            heatmaps=heatmaps,
            log_scale=log_scale.clamp(-3, 5) + 2.0,
            marginals3d=in_box,
            centres3d=cells3d,
            marginals2d=in_crop,
            centres2d=cells2d,
        )
