"""skeleton: trains the skeleton network from stores of labelled people.

`train_skeleton(config)` runs to the end of its schedule, writes a CSV curve, checkpoints of the
averaged weights and a state from which it resumes. The schedule counts steps, or minutes on
machines whose speed nobody knows. Batches depend on seed, step and rank only, so a resumed run
sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import copy
import csv
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning import Fabric
from torch import Tensor, nn

from mpmesh_core.networks.checkpoint import load_checkpoint, save_checkpoint
from mpmesh_core.networks.mobilenet import MobileNetV2
from mpmesh_core.networks.skeleton import PointMaps, SkeletonConfig, SkeletonNetwork
from mpmesh_core.training.augment import AugmentConfig
from mpmesh_core.training.skeleton_data import PeopleStore
from mpmesh_core.training.skeleton_losses import LossWeights, skeleton_losses
from mpmesh_core.training.skeleton_validation import validate_skeleton

Array = np.ndarray


@dataclass(frozen=True)
class SkeletonTraining:
    """Everything that decides a run."""

    output: str  # folder for curve, checkpoint and state
    stores: dict[str, float]  # folder of people -> share of a batch
    network: SkeletonConfig = field(default_factory=SkeletonConfig)
    start: str | None = None  # checkpoint to start from
    steps: int = 10_000
    minutes: float | None = None  # end the schedule by the clock instead of by steps
    batch: int = 32  # per device
    size: int = 256  # side of the crops [px]; smaller trains faster
    rate: float = 1e-3  # highest learning rate of the backbone
    head_rate: float = 4e-3  # ... of everything else
    weight_decay: float = 0.02
    warmup: float = 0.05  # part of the schedule
    frozen_stages: int = 2  # of the light backbone, which keep their starting weights
    absolute_from: float = 0.6  # part of the schedule before the absolute loss counts
    average: float = 0.998  # decay of the averaged weights
    seed: int = 0
    devices: int = 1
    accelerator: str = "cpu"
    precision: str = "bf16-mixed"
    threads: int = 2
    save_every: int = 200  # [steps]
    validation: tuple[str, ...] = ()  # folders of people kept out, measured at every save
    log_every: int = 20  # [steps]
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


class Batches:
    """Batches by step number, made ahead in a thread."""

    def __init__(self, config: SkeletonTraining, rank: int) -> None:
        self._config, self._rank = config, rank
        self._stores = [PeopleStore(folder) for folder in config.stores]
        self._shares = np.array(list(config.stores.values())) / sum(config.stores.values())

    def make(self, step: int) -> dict[str, Tensor]:
        """The batch of one step."""
        config = self._config
        rng = np.random.default_rng((config.seed, step, self._rank))
        counts = rng.multinomial(config.batch, self._shares)
        samples = [
            store.crop(int(rng.integers(len(store))), rng, config.augment, config.size)
            for store, count in zip(self._stores, counts)
            for _ in range(count)
        ]
        return {name: torch.from_numpy(np.stack([s[name] for s in samples])) for name in samples[0]}

    def from_step(self, first: int) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """(step, batch) without end, one batch ahead."""
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self.make, first)
            step = first
            while True:
                batch = ahead.result()
                ahead = pool.submit(self.make, step + 1)
                yield step, batch
                step += 1


def one_cycle(progress: float, warmup: float) -> float:
    """Learning rate factor at a part (0..1) of the schedule: linear up, cosine down to 0."""
    if progress < warmup:
        return 0.05 + 0.95 * progress / warmup
    return 0.5 * (1 + float(np.cos(np.pi * min(1.0, (progress - warmup) / (1 - warmup)))))


def freeze_early(network: SkeletonNetwork, stages: int) -> None:
    """Keep stem and first stages of a MobileNetV2 as they are, their norms' statistics too."""
    if network.variant != "light" or stages == 0:
        return
    backbone = cast(MobileNetV2, network.backbone)
    for part in (backbone.stem, *backbone.stages[:stages]):
        part.requires_grad_(False)
        part.eval()


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the averaged weights (and running statistics) towards the current ones."""
    for mean, value in zip(average.state_dict().values(), network.state_dict().values()):
        if mean.is_floating_point():
            mean.lerp_(value.to(mean.dtype), 1 - decay)
        else:
            mean.copy_(value)


class SkeletonTrainer:
    """One run: network, optimiser, averaged weights, step count."""

    def __init__(self, config: SkeletonTraining) -> None:
        self.config = config
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.threads)
        strategy = "ddp" if config.devices > 1 else "auto"
        self.fabric = Fabric(
            accelerator=config.accelerator,
            devices=config.devices,
            strategy=strategy,
            precision=config.precision,  # type: ignore[arg-type]
        )
        self.fabric.launch()
        self.network = _starting_network(config)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        freeze_early(self.network, config.frozen_stages)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.average.to(self.fabric.device)
        optimizer = torch.optim.AdamW(_groups(self.network, config), fused=True)
        self.model, self.optimizer = self.fabric.setup(_Predict(self.network), optimizer)
        self.step, self.elapsed = 0, 0.0
        self._folder = Path(config.output)
        self._resume()

    def run(self, stop_at: int | None = None) -> None:
        """Train to the end of the schedule, or stop early at a step, to be resumed."""
        began, before = time.monotonic(), self.elapsed
        batches = Batches(self.config, self.fabric.global_rank).from_step(self.step)
        recent: list[dict[str, float]] = []
        for _, batch in batches:
            self.elapsed = before + time.monotonic() - began
            if self.progress() >= 1 or self.step == stop_at:
                break
            recent.append(self.train_step(batch))
            self.step += 1
            if self.step % self.config.log_every == 0:
                self._log(recent)
                recent = []
            if self.step % self.config.save_every == 0:
                self.save()
        batches.close()  # type: ignore[attr-defined]
        self.save()

    def progress(self) -> float:
        """How much of the schedule is done, 0..1; the same on all ranks."""
        if self.config.minutes is None:
            return self.step / self.config.steps
        elapsed = self.fabric.broadcast(self.elapsed)
        return elapsed / (60 * self.config.minutes)

    def train_step(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """One step on one batch; returns the loss terms."""
        progress = self.progress()
        factor = one_cycle(progress, self.config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        self.network.train()
        freeze_early(self.network, self.config.frozen_stages)
        batch = self.fabric.to_device(batch)
        image = batch["image"].float().contiguous(memory_format=torch.channels_last)
        found, maps = self.model(image)
        absolute = progress >= self.config.absolute_from
        terms = skeleton_losses(found, maps, batch, self.config.weights, self.config.size, absolute)
        loss = torch.stack(list(terms.values())).sum()
        self.fabric.backward(loss)
        norm = self.fabric.clip_gradients(self.model, self.optimizer, max_norm=5.0)
        if torch.isfinite(torch.as_tensor(norm)):
            self.optimizer.step()
        self.optimizer.zero_grad()
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))
        update_average(self.average, self.network, decay)
        terms["loss"] = loss
        return {name: float(value.detach()) for name, value in terms.items()}

    def save(self) -> None:
        """Checkpoint of the averaged weights, and the state to resume from."""
        state: dict[str, Any] = {"step": self.step, "elapsed": self.elapsed}
        state |= {"network": self.network.state_dict(), "average": self.average.state_dict()}
        if self.fabric.is_global_zero:
            self._folder.mkdir(parents=True, exist_ok=True)
            scratch = self._folder / "state.pt.partial"
            torch.save(state | {"optimizer": self.optimizer.state_dict()}, scratch)
            scratch.replace(self._folder / "state.pt")
            save_checkpoint(
                self._folder / "skeleton.safetensors",
                self.average,
                self.network.config_dict(),
                steps=self.step,
                training={k: v for k, v in asdict(self.config).items() if k != "output"},
            )
            self._validate()
        self.fabric.barrier()

    def _validate(self) -> None:
        """Measure the averaged weights; one JSON line a store and save."""
        for folder in self.config.validation:
            scores = validate_skeleton(self.average, PeopleStore(folder), self.config.size)
            row = {"step": self.step, "store": Path(folder).name, **scores}
            with (self._folder / "validation.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")

    def _resume(self) -> None:
        path = self._folder / "state.pt"
        if path.is_file():
            state = torch.load(path, weights_only=True, map_location=self.fabric.device)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.elapsed = state["step"], state["elapsed"]

    def _log(self, recent: list[dict[str, float]]) -> None:
        if not self.fabric.is_global_zero:
            return
        mean = {name: float(np.mean([row[name] for row in recent])) for name in recent[0]}
        row: dict[str, Any] = {"step": self.step, "seconds": round(self.elapsed, 1)}
        row |= {name: round(value, 5) for name, value in mean.items()}
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / "curve.csv"
        fresh = not path.is_file()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)


def train_skeleton(config: SkeletonTraining) -> Path:
    """Train, or resume, and return the path of the checkpoint."""
    SkeletonTrainer(config).run()
    return Path(config.output) / "skeleton.safetensors"


def _starting_network(config: SkeletonTraining) -> SkeletonNetwork:
    if config.start is None:
        return SkeletonNetwork(config.network)
    network, _ = load_checkpoint(config.start)
    if not isinstance(network, SkeletonNetwork):
        raise TypeError(f"{config.start} holds a {type(network).__name__}")
    return network


def _groups(network: SkeletonNetwork, config: SkeletonTraining) -> list[dict[str, Any]]:
    """Backbone and head at their own rates; no decay on norms and biases."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("backbone."), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "rate": config.rate if backbone else config.head_rate,
            "weight_decay": config.weight_decay if matrix else 0.0,
        }
        for (backbone, matrix), parameters in groups.items()
    ]
