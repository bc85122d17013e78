"""head: trains the joint head alone, on tokens that are worked out once (see `head_tokens`).

A tenth of a second for 50 people on one CPU core, where a step through the whole network takes one
and a half. The losses are those of the network's outputs and of the bodies that the line makes of
them; heatmaps have none, since they don't change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mpmesh_core.body import load_body
from mpmesh_core.errors import UsageError
from mpmesh_core.networks.checkpoint import load_network
from mpmesh_core.networks.joint_head import JointTokens
from mpmesh_core.networks.skeleton import SkeletonNetwork
from mpmesh_core.training.head_tokens import TokenCache, cache_tokens, joint_tokens
from mpmesh_core.training.posed import posed_losses
from mpmesh_core.training.skeleton import SkeletonTrainer, SkeletonTraining
from mpmesh_core.training.skeleton_batches import Batches
from mpmesh_core.training.skeleton_losses import output_losses

_CROPS = 32  # in one pass of the frozen network


@dataclass(frozen=True, kw_only=True)
class HeadTraining(SkeletonTraining):
    """The same, of which rates and stages of other parts don't matter."""

    tokens: int = 150_000  # crops to learn from


class _Conclude(nn.Module):
    """The joint head's part of the network."""

    def __init__(self, network: SkeletonNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: JointTokens) -> dict[str, Tensor]:
        return self.network.conclude(tokens)


class HeadTrainer(SkeletonTrainer):
    """One run of the joint head."""

    config: HeadTraining

    def start(self) -> SkeletonNetwork:
        """A checkpoint's network, of which only the joint head learns."""
        if self.config.start is None:
            raise UsageError("training on tokens needs a network to read them: set start")
        if self.config.tokens < 1:
            raise UsageError(f"tokens must be 1 or more, got {self.config.tokens}")
        network = load_network(self.config.start, SkeletonNetwork).to(self.fabric.device)
        network.requires_grad_(False)
        network.joints.requires_grad_(True)
        return network

    def training_module(self) -> nn.Module:
        """From tokens to outputs."""
        return _Conclude(self.network)

    def prepare(self) -> None:
        """Work out the tokens that are missing."""
        config = self.config
        folder = self.folder / "tokens"
        batches = Batches(replace(config, batch=_CROPS, pixels="loader", awaited=False))
        half = torch.bfloat16 if config.precision == "bf16-mixed" else torch.float32
        part = self.fabric.global_rank, self.fabric.world_size
        network, made_from = self.network.eval(), _origin(config)
        cache_tokens(folder, network, batches, config.tokens, made_from, half, part)
        self.fabric.barrier()
        self._tokens = TokenCache(folder)
        self._body = load_body().to(self.fabric.device)

    def batches(self, first: int) -> Iterator[dict[str, Tensor]]:
        """Crops at random; each device has its part of one draw."""
        rank, devices = self.fabric.global_rank, self.fabric.world_size
        for step in count(first):
            rng = np.random.default_rng((self.config.seed, step))
            rows = rng.integers(len(self._tokens), size=self.config.batch * devices)
            yield self._tokens[rows[rank::devices]]

    def epoch_steps(self) -> int:
        """By the crops."""
        return max(1, round(len(self._tokens) / (self.config.batch * self.fabric.world_size)))

    def loss_terms(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        """Of the outputs, and of posed bodies."""
        batch = self.fabric.to_device(batch)
        found = {name: value.float() for name, value in self.model(joint_tokens(batch)).items()}
        weights, size = self.config.weights, self.config.size
        terms = output_losses(found, batch, weights, size)
        return terms | posed_losses(found, batch, self._body, weights, size)


def train_head(config: HeadTraining) -> Path:
    """Train, or resume, and return the path of the checkpoint."""
    trainer = HeadTrainer(config)
    trainer.run()
    return next(iter(trainer.checkpoints()))


def _origin(config: HeadTraining) -> dict[str, Any]:
    """What decides the tokens."""
    assert config.start is not None
    return {
        "start": sha256(Path(config.start).read_bytes()).hexdigest(),
        "stores": config.stores,
        "augment": asdict(config.augment),
        "size": config.size,
        "tokens": config.tokens,
        "seed": config.seed,
        "precision": config.precision,
    }
