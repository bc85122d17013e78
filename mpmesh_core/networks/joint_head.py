"""joint_head: what the heatmaps' points say together (f^TS of the paper, and a second look at f^P).

In   JointTokens: the points as the heatmaps have them, and what the maps say under each
Out  JointReading: corrections of points3d, points2d and log_scale, twist (N, 23, 2), betas (N, 10)

A heatmap sees one point at a time, so where depth is uncertain it shrinks towards the middle. Here
every point is a token (the features under its heatmap, where it was found), and a small transformer
lets them agree on bone lengths, symmetry and what a body can do.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mpmesh_core.networks.transformer import Layer

POINTS = 29
TWISTS = 23
_HALF_CROP = 128.0  # [px]
_METRES, _PIXELS = 0.2, 12.0  # what an output of 1 means
_HEADS, _HEAD_DIM = 4, 48


class JointTokens(NamedTuple):
    """What the joint head reads of N crops."""

    under: Tensor  # (N, 29, C1 + C2) mean of decoder map and features under each point's heatmap
    whole: Tensor  # (N, C2) mean of the features
    points3d: Tensor  # (N, 29, 3) [m], pelvis-relative
    points2d: Tensor  # (N, 29, 2) [crop px]
    log_scale: Tensor  # (N, 29) log of the expected 2D error [px]
    under_fine: Tensor | None  # (N, 29, fine) mean of the fine map, where there is one


class JointReading(NamedTuple):
    """What the tokens say."""

    shift3d: Tensor  # (N, 29, 3) [m] to add to the points
    shift2d: Tensor  # (N, 29, 2) [crop px]
    log_scale: Tensor  # (N, 29), to add to the heatmaps'
    twist: Tensor  # (N, 23, 2), unit (cos, sin)
    betas: Tensor  # (N, 10)


class JointHead(nn.Module):
    """Tokens of 29 points through a transformer."""

    def __init__(
        self,
        decoded: int,
        features: int,
        fine: int = 0,
        width: int = 192,
        layers: int = 3,
    ) -> None:
        super().__init__()
        self.local = nn.Linear(decoded + features, width)
        self.fine = nn.Linear(fine, width, bias=False) if fine else None
        self.whole = nn.Linear(features, width)
        self.place = nn.Linear(3 + 2 + 1, width)
        self.name = nn.Parameter(torch.randn(POINTS, width) * 0.02)
        self.layers = nn.ModuleList(
            Layer(width, _HEADS, _HEAD_DIM, 2 * width) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.shift = nn.Linear(width, 3 + 2 + 1)
        self.twist = nn.Parameter(torch.randn(TWISTS, width, 2) * 0.01)
        self.twist_bias = nn.Parameter(torch.tensor([[1.0, 0.0]]).repeat(TWISTS, 1))
        self.betas = nn.Linear(width, 10)
        for last in (self.shift, self.betas):  # untrained, it moves nothing
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, read: JointTokens) -> JointReading:
        """Let the points agree."""
        place = torch.cat(
            (
                read.points3d / _METRES,
                read.points2d / _HALF_CROP - 1,
                read.log_scale.unsqueeze(-1),
            ),
            -1,
        )
        tokens = self.local(read.under) + self.place(place) + self.name
        tokens = tokens + self.whole(read.whole).unsqueeze(1)
        if self.fine is not None:
            tokens = tokens + self.fine(read.under_fine)
        for layer in self.layers:
            tokens = layer(tokens)
        tokens = self.norm(tokens)
        shift = self.shift(tokens).float()
        turned = torch.einsum("njk,jko->njo", tokens[:, 1 : 1 + TWISTS].float(), self.twist)
        twist = turned + self.twist_bias
        norm = (twist * twist).sum(-1, keepdim=True).clamp(min=1e-12).sqrt()
        return JointReading(
            shift3d=shift[..., :3] * _METRES,
            shift2d=shift[..., 3:5] * _PIXELS,
            log_scale=shift[..., 5],
            twist=twist / norm,
            betas=self.betas(tokens.mean(1)).float(),
        )
