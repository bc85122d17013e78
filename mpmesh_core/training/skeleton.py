"""skeleton: trains the skeleton network from stores of labelled people (see `trainer`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from mpmesh_core.body import load_body
from mpmesh_core.errors import UsageError
from mpmesh_core.networks.checkpoint import load_network
from mpmesh_core.networks.mobilenet import MobileNet
from mpmesh_core.networks.point_head import PointMaps
from mpmesh_core.networks.skeleton import SkeletonConfig, SkeletonNetwork
from mpmesh_core.training.augment import AugmentConfig
from mpmesh_core.training.device_crops import DeviceCrops
from mpmesh_core.training.loading import from_step
from mpmesh_core.training.posed import posed_losses
from mpmesh_core.training.skeleton_batches import Batches
from mpmesh_core.training.skeleton_data import LABELS, PeopleStore
from mpmesh_core.training.skeleton_losses import LossWeights, skeleton_losses
from mpmesh_core.training.skeleton_validation import validate_skeleton
from mpmesh_core.training.trainer import Precision, Rate, Share, Trainer, TrainingRun


@dataclass(frozen=True, kw_only=True)
class SkeletonTraining(TrainingRun):
    """Everything that decides a run; `rate` is the backbone's."""

    stores: dict[str, Share]  # folder of people -> share of a batch
    network: SkeletonConfig = field(default_factory=SkeletonConfig)
    start: str | None = None  # checkpoint to start from
    # Side of the crops [px]; smaller trains faster.
    size: Annotated[int, Field(ge=32, multiple_of=32)] = 256
    head_rate: Rate = 4e-3  # highest learning rate of decoder and heatmap heads; 0: frozen
    joint_rate: Rate = 1e-3  # of the joint head: transformers bear less
    frozen_stages: int = 2  # of the light backbone, which keep their starting weights
    absolute_from: float = 0.6  # part of the schedule before the absolute loss counts
    precision: Precision = "bf16-mixed"
    channels_last: bool = True  # how pictures and maps lie in memory; either may be faster
    pixels: Literal["loader", "device"] = "loader"  # who cuts the crops, see `device_crops`
    awaited: bool = False  # stores that are not there yet join once they are written
    validation: tuple[str, ...] = ()  # folders of people kept out, measured at every save
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    weights: LossWeights = field(default_factory=LossWeights)


class _Predict(nn.Module):
    """The network's outputs and points of all conventions in one forward, as training wants."""

    def __init__(self, network: SkeletonNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[dict[str, Tensor], dict[str, PointMaps]]:
        found, maps, decoded = self.network.outputs(image)
        return found, {"points": maps, **self.network.extra_points(decoded)}


def freeze_early(network: SkeletonNetwork, stages: int) -> None:
    """Keep stem and first stages of a MobileNet as they are, their norms' statistics too.

    With more stages than there are, its top layer stays as well.
    """
    if network.variant != "light" or stages == 0:
        return
    backbone = cast(MobileNet, network.backbone)
    parts = [backbone.stem, *backbone.stages, backbone.top][: stages + 1]
    for part in parts:
        part.requires_grad_(False)
        part.eval()


class SkeletonTrainer(Trainer[SkeletonTraining, dict[str, Tensor]]):
    """One run on stores of people."""

    def start(self) -> SkeletonNetwork:
        """A checkpoint's network, or a new one; early stages frozen."""
        return starting_skeleton(self.config, self.fabric.device)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Each part at its own rate; no decay on norms and biases."""
        return skeleton_groups(self.network, self.config)

    def training_module(self) -> nn.Module:
        """The network with the points of all conventions."""
        return _Predict(self.network)

    def prepare(self) -> None:
        """Open the stores.

        Raises:
            UsageError: stores are awaited in a run that must know their size or have them all.
        """
        config = self.config
        by_size = config.epochs is not None or config.schedule == "exponential"
        if config.awaited and (by_size or self.fabric.world_size > 1):
            raise UsageError(
                "awaited stores need one device, steps or minutes, and schedule=one_cycle: "
                "how many people there will be is not known"
            )
        for folder in config.validation:
            PeopleStore(folder)  # a wrong one is told before the work
        self._batches = Batches(self.config, self.fabric.global_rank, self.fabric.world_size)
        self._crops = DeviceCrops(self.fabric.device)
        self._body = load_body().to(self.fabric.device)

    def train_mode(self) -> None:
        """Training mode, but for what is frozen."""
        super().train_mode()
        freeze_early(self.network, self.config.frozen_stages)

    def batches(self, first: int) -> Iterator[dict[str, Tensor]]:
        """Crops from all stores."""
        return from_step(self._batches, first, self.config)

    def epoch_steps(self) -> int:
        """By the people of all stores."""
        return max(1, round(self._batches.people / (self.config.batch * self.fabric.world_size)))

    def loss_terms(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        """See `skeleton_losses`."""
        image = self._pictures(batch)
        batch = {name: self.fabric.to_device(batch[name]) for name in LABELS}
        lie = torch.channels_last if self.config.channels_last else torch.contiguous_format
        found, maps = self.model(image.contiguous(memory_format=lie))
        absolute = progress >= self.config.absolute_from
        weights, size = self.config.weights, self.config.size
        terms = skeleton_losses(found, maps, batch, weights, size, absolute)
        return terms | posed_losses(found, batch, self._body, weights, size)

    def _pictures(self, batch: dict[str, Tensor]) -> Tensor:
        """Crops (N, 3, S, S) on the device."""
        if self.config.pixels == "loader":
            return self.fabric.to_device(batch["image"]).float()
        stores = self._batches.open_stores()
        for number in batch["store"].unique().tolist():
            self._crops.hold(number, stores[number])
        return self._crops(batch, self.config.size)

    def validate(self) -> dict[str, dict[str, float]]:
        """Errors on people kept out."""
        return {
            Path(folder).name: validate_skeleton(
                self.average, PeopleStore(folder), self.config.size, body=self._body
            )
            for folder in self.config.validation
        }

    def checkpoints(self) -> dict[Path, Any]:
        """The file that training writes."""
        return {self.folder / "skeleton.safetensors": self.average}


def train_skeleton(config: SkeletonTraining) -> Path:
    """Train, or resume, and return the path of the checkpoint."""
    trainer = SkeletonTrainer(config)
    trainer.run()
    return next(iter(trainer.checkpoints()))


def starting_skeleton(config: SkeletonTraining, device: torch.device) -> SkeletonNetwork:
    """A checkpoint's network, or a new one, its early stages frozen.

    Raises:
        WeightsError: the checkpoint is of another kind.
    """
    if config.start is None:
        network = SkeletonNetwork(config.network)
    else:
        network = load_network(config.start, SkeletonNetwork)
    network.to(device)
    if not config.head_rate:
        for name, part in network.named_children():
            part.requires_grad_(name in ("backbone", "joints"))
    if config.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    freeze_early(network, config.frozen_stages)
    if config.frozen_stages and isinstance(network.backbone, MobileNet):
        network.backbone.fuse_early(config.frozen_stages)
    return network


def skeleton_groups(network: SkeletonNetwork, config: SkeletonTraining) -> list[dict[str, Any]]:
    """Groups for the optimiser: each part at its own rate; no decay on norms and biases."""
    rates = {"backbone": config.rate, "joints": config.joint_rate}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            rate = rates.get(name.split(".")[0], config.head_rate)
            groups.setdefault((rate, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "rate": rate,
            "weight_decay": config.weight_decay if matrix else 0.0,
        }
        for (rate, matrix), parameters in groups.items()
    ]
