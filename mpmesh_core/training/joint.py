"""joint: skeleton network and refiner in one run on L = L_P + L_TS + L_Ref (eq. 6).

What the refiner's losses ask for flows back through inverse kinematics and placement into the
skeleton network (its heatmaps learn from L_P alone, as `networks.skeleton` cuts them off). Reads
scenes in groups of at most N people of a picture (section 3.3), and further people from stores, who
count for L_P and L_TS only: that is where data sets with one person a picture belong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.errors import UsageError
from mpmesh_core.networks.checkpoint import load_network
from mpmesh_core.networks.point_head import PointMaps
from mpmesh_core.networks.refiner import CAMERA_START, RefinerConfig, RefinerNetwork
from mpmesh_core.networks.skeleton import SkeletonNetwork
from mpmesh_core.refine import pose6d_from_rotations
from mpmesh_core.training.adversary import Adversary, make_adversary
from mpmesh_core.training.joint_data import SceneBatches, in_order
from mpmesh_core.training.loading import from_step
from mpmesh_core.training.losses import RefinerLossWeights, RefinerTruth, refiner_losses
from mpmesh_core.training.posed import pose_body, posed_losses
from mpmesh_core.training.refiner import mean_errors, refiner_groups
from mpmesh_core.training.refiner_data import TRUTH
from mpmesh_core.training.scene import ShardFolder
from mpmesh_core.training.skeleton import (
    SkeletonTraining,
    freeze_early,
    skeleton_groups,
    starting_skeleton,
)
from mpmesh_core.training.skeleton_losses import skeleton_losses
from mpmesh_core.training.trainer import Rate, Share, Trainer

SIZE = 256  # side of the crops [px], as in the pipeline


@dataclass(frozen=True, kw_only=True)
class JointTraining(SkeletonTraining):
    """Everything that decides a run; `batch` counts people of scenes, at most that many."""

    scenes: dict[str, Share]  # folder of scene shards -> share of the groups
    # Folder of people -> share of so many further people in a batch, per device.
    stores: dict[str, Share] = field(default_factory=dict)
    store_people: Annotated[int, Field(ge=0)] = 0
    refiner: RefinerConfig = field(default_factory=RefinerConfig)
    refiner_start: str | None = None  # checkpoint to start from
    refiner_rate: Rate = 5e-5  # highest learning rate of the refiner
    refiner_weights: RefinerLossWeights = field(default_factory=RefinerLossWeights)
    real_poses: str | None = None  # data folder with mocap/, for the discriminators
    discriminator_rate: Rate = 1e-4  # HMR's; the paper tells none
    body: str = "open"


class JointNetwork(nn.Module):
    """Both networks."""

    def __init__(self, skeleton: SkeletonNetwork, refiner: RefinerNetwork) -> None:
        super().__init__()
        self.skeleton, self.refiner = skeleton, refiner


class _Line(nn.Module):
    """The pipeline's line from crops to refined people, with what the losses want to see."""

    def __init__(self, network: JointNetwork, body: BodyModel) -> None:
        super().__init__()
        self.network, self.body = network, body

    def forward(
        self, image: Tensor, K: Tensor, context: Tensor, valid: Tensor
    ) -> tuple[
        dict[str, Tensor], dict[str, PointMaps], dict[str, Tensor], dict[str, Tensor]
    ]:  # fmt: skip
        """Outputs and points of the skeleton network, inputs and outputs of the refiner."""
        skeleton, refiner = self.network.skeleton, self.network.refiner
        found, maps, decoded = skeleton.outputs(image)
        every = {"points": maps, **skeleton.extra_points(decoded)}
        inputs = self._pose(found, K, len(context)) | {"context": context, "valid": valid}
        return found, every, inputs, refiner(**inputs)

    def _pose(self, found: dict[str, Tensor], K: Tensor, people: int) -> dict[str, Tensor]:
        """What placement and inverse kinematics make of the first people, for the refiner."""
        first = {name: value[:people] for name, value in found.items()}
        pose = pose_body(first, K[:people], self.body, SIZE)
        return {
            "features": first["features"],
            "heatmaps": first["heatmaps"],
            "pose6d": pose6d_from_rotations(pose.rotations),
            "betas": first["betas"],
            "camera": K.new_tensor(CAMERA_START).expand(people, 3),
        }


class JointTrainer(Trainer[JointTraining, dict[str, Tensor]]):
    """One run on scenes."""

    opponent: Adversary | None

    def start(self) -> JointNetwork:
        """Networks of checkpoints, or new ones."""
        config = self.config
        if config.size != SIZE:
            raise UsageError(f"joint training works at size={SIZE}, as the pipeline does")
        if config.pixels != "loader" or config.awaited:
            raise UsageError("joint training cuts scenes itself: leave out pixels and awaited")
        skeleton = starting_skeleton(config, self.fabric.device)
        refiner = RefinerNetwork(config.refiner)
        if config.refiner_start is not None:
            refiner = load_network(config.refiner_start, RefinerNetwork)
        own, read = skeleton.feature_channels, refiner.config.feature_channels
        if own != read:
            raise UsageError(f"the skeleton network has {own} features, the refiner reads {read}")
        self.body = load_body(config.body).to(self.fabric.device)
        return JointNetwork(skeleton, refiner).to(self.fabric.device)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Each network at its own rates."""
        decay = self.config.weight_decay
        return [
            *skeleton_groups(self.network.skeleton, self.config),
            *refiner_groups(self.network.refiner, self.config.refiner_rate, decay),
        ]

    def training_module(self) -> nn.Module:
        """Crops to refined people in one forward."""
        return _Line(self.network, self.body)

    def prepare(self) -> None:
        """Open the data; discriminators where eq. 15 has a weight."""
        config, devices = self.config, self.fabric.world_size
        people = self.network.refiner.config.max_people
        for folder in config.validation:
            ShardFolder(folder)  # a wrong one is told before the work
        self._batches = SceneBatches(
            config.scenes,
            max(1, config.batch // people) * devices,
            people,
            config.augment,
            config.body,
            config.stores,
            config.store_people * devices,
            config.seed,
            (self.fabric.global_rank, devices),
        )
        self.opponent = make_adversary(
            self.fabric,
            config.refiner_weights,
            config.real_poses,
            config.discriminator_rate,
            self.body,
        )

    def train_mode(self) -> None:
        """Training mode, but for what is frozen."""
        super().train_mode()
        freeze_early(self.network.skeleton, self.config.frozen_stages)

    def batches(self, first: int) -> Iterator[dict[str, Tensor]]:
        """Groups of people."""
        return from_step(self._batches, first, self.config)

    def epoch_steps(self) -> int:
        """By the scenes of all folders."""
        return max(1, round(self._batches.scenes / self._batches.groups))

    def loss_terms(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        """L_P and L_TS, then L_Ref with `refined_` before each name."""
        batch, config = self.fabric.to_device(batch), self.config
        found, maps, inputs, refined = self.model(*_inputs(batch, config.channels_last))
        absolute = progress >= config.absolute_from
        terms = skeleton_losses(found, maps, batch, config.weights, SIZE, absolute)
        terms |= posed_losses(found, batch, self.body, config.weights, SIZE)
        deceive = None if self.opponent is None else self.opponent.deceive
        start = {name: inputs[name].detach() for name in ("pose6d", "betas")}
        ends = refiner_losses(
            refined, start, _truth(batch), self.body, config.refiner_weights, deceive
        )
        return terms | {f"refined_{name}": value for name, value in ends.items()}

    @torch.inference_mode()
    def validate(self) -> dict[str, dict[str, float]]:
        """Held-out errors, beside those of inverse kinematics alone, in scenes."""
        line = _Line(self.average, self.body).eval()
        size = self.network.refiner.config.max_people

        def runs(folder: str) -> Iterator[tuple[Any, Any, RefinerTruth]]:
            for batch in in_order(folder, size, self.body):
                batch = self.fabric.to_device(batch)
                _, _, inputs, refined = line(*_inputs(batch, self.config.channels_last))
                yield inputs, refined, _truth(batch)

        return {
            "-".join(Path(folder).parts[-2:]): mean_errors(runs(folder), self.body)
            for folder in self.config.validation
        }

    def checkpoints(self) -> dict[Path, Any]:
        """A file for each network."""
        variant = self.network.skeleton.variant
        return {
            self.folder / f"skeleton-{variant}.safetensors": self.average.skeleton,
            self.folder / f"refiner-{variant}.safetensors": self.average.refiner,
        }


def train_joint(config: JointTraining) -> list[Path]:
    """Train, or resume, and return the paths of both checkpoints."""
    trainer = JointTrainer(config)
    trainer.run()
    return list(trainer.checkpoints())


def _inputs(batch: dict[str, Tensor], channels_last: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    lie = torch.channels_last if channels_last else torch.contiguous_format
    image = batch["image"].float().contiguous(memory_format=lie)
    return image, batch["K"], batch["context"], batch["valid"]


def _truth(batch: dict[str, Tensor]) -> RefinerTruth:
    return RefinerTruth(**{name: batch[f"truth_{name}"] for name in TRUTH})
