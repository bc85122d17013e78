"""transformer: the pre-norm layer of refiner and joint head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

UNSEEN = -1e4  # a score whose softmax is exactly 0, in half precision too


class Layer(nn.Module):
    """A pre-norm transformer layer whose attention leaves out masked tokens."""

    def __init__(self, width: int, heads: int, head_dim: int, mlp: int) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * inner)
        self.attended = nn.Linear(inner, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, mlp), nn.GELU(), nn.Linear(mlp, width)
        )

    def forward(
        self, tokens: Tensor, seen: Tensor | None = None, wanted: int | None = None
    ) -> Tensor:
        """Each token, with what it takes from all of them.

        Args:
            tokens: (B, T, width).
            seen: (B, 1, 1, T) bool, which tokens count; None: all.
            wanted: how many tokens to return; those behind them are only read. None: all.

        Returns:
            (B, wanted, width).
        """
        share, values = self._look(tokens, seen, wanted)
        tokens = tokens[:, :wanted]
        tokens = tokens + self.attended((share @ values).transpose(1, 2).flatten(2))
        return tokens + self.mlp(tokens)

    def shares(self, tokens: Tensor, seen: Tensor | None = None) -> Tensor:
        """(B, heads, T, T) how much each token takes from each; sums to 1 over the last axis."""
        return self._look(tokens, seen)[0]

    def _look(
        self, tokens: Tensor, seen: Tensor | None, wanted: int | None = None
    ) -> tuple[Tensor, Tensor]:
        x, linear = self.attention_norm(tokens), self.queries_keys_values
        inner = linear.out_features // 3
        queries = F.linear(x[:, :wanted], linear.weight[:inner], linear.bias[:inner])
        others = F.linear(x, linear.weight[inner:], linear.bias[inner:])
        queries = queries.unflatten(2, (self.heads, -1)).transpose(1, 2)
        keys, values = others.unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(2, 3)
        # Written out: exporters do not agree on the mask of torch's fused attention.
        if seen is not None:
            scores = torch.where(seen, scores, UNSEEN)
        return scores.softmax(-1), values
