"""trainer: what the runs of skeleton and refiner have in common.

A run goes to the end of its schedule and writes a CSV curve, checkpoints of the averaged weights,
held-out scores, and a state from which it resumes. The schedule counts steps, or minutes on
machines whose speed nobody knows. Subclasses say what is trained, on what, and on which loss.
"""

from __future__ import annotations

import copy
import csv
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from lightning import Fabric
from rich.progress import Progress
from torch import Tensor, nn

from mpmesh_core.networks.checkpoint import save_checkpoint


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """How a run goes, whatever is trained."""

    output: str  # folder for curve, checkpoint and state
    steps: int = 10_000
    minutes: float | None = None  # end the schedule by the clock instead of by steps
    batch: int = 32  # per device
    rate: float = 1e-3  # highest learning rate
    weight_decay: float = 0.02
    warmup: float = 0.05  # part of the schedule
    average: float = 0.998  # decay of the averaged weights
    seed: int = 0
    devices: int = 1
    accelerator: str = "cpu"
    precision: str = "32-true"
    threads: int = 2
    workers: int = 1  # processes that make batches ahead, per device
    save_every: int = 500  # [steps]
    log_every: int = 20  # [steps]


Config = TypeVar("Config", bound=TrainingRun)
Batch = TypeVar("Batch")


def one_cycle(progress: float, warmup: float) -> float:
    """Learning rate factor at a part (0..1) of the schedule: linear up, cosine down to 0."""
    if progress < warmup:
        return 0.05 + 0.95 * progress / warmup
    return 0.5 * (1 + float(np.cos(np.pi * min(1.0, (progress - warmup) / (1 - warmup)))))


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the averaged weights (and running statistics) towards the current ones."""
    pairs = list(zip(average.state_dict().values(), network.state_dict().values()))
    means = [mean for mean, _ in pairs if mean.is_floating_point()]
    values = [value for mean, value in pairs if mean.is_floating_point()]
    torch._foreach_lerp_(means, values, 1 - decay)  # hundreds of tensors in a few kernels
    for mean, value in pairs:
        if not mean.is_floating_point():
            mean.copy_(value)


class Trainer(ABC, Generic[Config, Batch]):
    """One run: network, optimiser, averaged weights, step count."""

    largest_gradient: ClassVar[float]  # norm to which gradients are clipped

    def __init__(self, config: Config) -> None:
        self.config = config
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.threads)
        self.fabric = Fabric(
            accelerator=config.accelerator,
            devices=config.devices,
            strategy="ddp" if config.devices > 1 else "auto",
            precision=config.precision,  # type: ignore[arg-type]
        )
        self.fabric.launch()
        self.network = self.start()
        self.average: Any = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.average.to(self.fabric.device)
        optimizer = torch.optim.AdamW(self.parameter_groups(), fused=True)
        self.model, self.optimizer = self.fabric.setup(self.training_module(), optimizer)
        self.step, self.elapsed, self._saved = 0, 0.0, -1
        self.folder = Path(config.output)
        self._resume()

    @abstractmethod
    def start(self) -> Any:
        """The network as it begins."""

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for AdamW, each with its highest learning rate `rate`."""

    def training_module(self) -> nn.Module:
        """What a training step calls; the network itself unless a subclass wraps it."""
        return self.network

    @abstractmethod
    def batches(self, first: int) -> Iterator[Batch]:
        """Batches without end from a step on; they depend on seed, step and rank only."""

    @abstractmethod
    def loss_terms(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Weighted terms whose sum is the loss; called in training mode."""

    @abstractmethod
    def validate(self) -> dict[str, dict[str, float]]:
        """Scores of the averaged weights, by the name of what was held out."""

    @abstractmethod
    def checkpoint(self) -> Path:
        """The file that training writes."""

    def train_mode(self) -> None:
        """Put the network into training mode."""
        self.network.train()

    def run(self, stop_at: int | None = None) -> None:
        """Train to the end of the schedule, or stop early at a step, to be resumed."""
        began, before = time.monotonic(), self.elapsed
        batches = self.batches(self.step)
        recent: list[dict[str, float]] = []
        with Progress(disable=not self.fabric.is_global_zero) as bar:
            task = bar.add_task("training", total=1.0)
            for batch in batches:
                self.elapsed = before + time.monotonic() - began
                progress = self.progress()
                if progress >= 1 or self.step == stop_at:
                    break
                recent.append(self.train_step(batch, progress))
                self.step += 1
                told = f"step {self.step}, loss {recent[-1]['loss']:.4f}"
                bar.update(task, completed=progress, description=told)
                if self.step % self.config.log_every == 0:
                    self._log(recent)
                    recent = []
                if self.step % self.config.save_every == 0:
                    self.save()
        batches.close()  # type: ignore[attr-defined]
        if self._saved != self.step:
            self.save()

    def progress(self) -> float:
        """How much of the schedule is done, 0..1; the same on all ranks."""
        if self.config.minutes is None:
            return self.step / self.config.steps
        elapsed = self.fabric.broadcast(self.elapsed)
        return elapsed / (60 * self.config.minutes)

    def train_step(self, batch: Batch, progress: float = 0.0) -> dict[str, float]:
        """One step on one batch at a part of the schedule; returns the loss terms."""
        factor = one_cycle(progress, self.config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        self.train_mode()
        terms = self.loss_terms(batch, progress)
        loss = torch.stack(list(terms.values())).sum()
        self.fabric.backward(loss)
        limit = self.largest_gradient
        norm = self.fabric.clip_gradients(self.model, self.optimizer, max_norm=limit)
        if torch.isfinite(torch.as_tensor(norm)):
            self.optimizer.step()
        self.optimizer.zero_grad()
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))
        update_average(self.average, self.network, decay)
        terms["loss"] = loss
        values = torch.stack([value.detach() for value in terms.values()]).tolist()  # one transfer
        return dict(zip(terms, values))

    def save(self) -> None:
        """The state to resume from; then scores and checkpoint of the averaged weights."""
        if self.fabric.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            state: dict[str, Any] = {"step": self.step, "elapsed": self.elapsed}
            parts = ("network", "average", "optimizer")
            scratch = self.folder / "state.pt.partial"
            torch.save(state | {part: getattr(self, part).state_dict() for part in parts}, scratch)
            scratch.replace(self.folder / "state.pt")
            scores = self.validate()
            save_checkpoint(
                self.checkpoint(),
                self.average,
                self.average.config_dict(),
                steps=self.step,
                metrics=scores,
                training={k: v for k, v in asdict(self.config).items() if k != "output"},
            )
            with (self.folder / "validation.jsonl").open("a") as file:
                for name, row in scores.items():
                    file.write(json.dumps({"step": self.step, "of": name, **row}) + "\n")
        self._saved = self.step
        self.fabric.barrier()

    def _resume(self) -> None:
        path = self.folder / "state.pt"
        if path.is_file():
            state = torch.load(path, weights_only=True, map_location=self.fabric.device)
            for part in ("network", "average", "optimizer"):
                getattr(self, part).load_state_dict(state[part])
            self.step, self.elapsed = state["step"], state["elapsed"]

    def _log(self, recent: list[dict[str, float]]) -> None:
        if not self.fabric.is_global_zero:
            return
        row: dict[str, float] = {"step": self.step, "seconds": round(self.elapsed, 1)}
        row |= {name: round(float(np.mean([r[name] for r in recent])), 5) for name in recent[0]}
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "curve.csv"
        fresh = not path.is_file()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)
