"""trainer: what the runs of skeleton and refiner have in common.

A run goes to the end of its schedule and writes a curve, checkpoints of the averaged weights,
held-out scores, and a state from which it resumes. The schedule counts steps, epochs, or minutes
on machines whose speed nobody knows. Subclasses say what is trained, on what, and on which loss.

Whatever is random depends on seed, step and rank only, so a run that was killed goes on with the
curve that it would have had. On several devices (also those that torchrun starts) each takes its
part of one large batch, and losses are means over all of it. What differs from one device: batch
norms see their own part, unless they are synchronised or frozen, and masks of the refiner, real
poses and noise of crops cut on the device are drawn for that part, without knowing the others'.
"""

from __future__ import annotations

import copy
import pickle
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, Protocol, TypeVar

import numpy as np
import torch
from pydantic import Field
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mpmesh_core.errors import UsageError
from mpmesh_core.networks.checkpoint import save_checkpoint
from mpmesh_core.stopping import StopRequest
from mpmesh_core.training.curve import Curve
from mpmesh_core.training.devices import make_fabric, synchronised

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0)]  # of a batch, any unit
Precision = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true"]


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """How a run goes, whatever is trained."""

    # Made from settings, it refuses unknown keys.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    output: str  # folder for curve, checkpoint and state
    steps: Count = 10_000
    # End the schedule after so many passes over the data instead, or by the clock.
    epochs: Annotated[float, Field(gt=0)] | None = None
    minutes: Annotated[float, Field(gt=0)] | None = None
    batch: Count = 32  # per device
    optimizer: Literal["adamw", "adam"] = "adamw"
    schedule: Literal["one_cycle", "exponential"] = "one_cycle"
    rate: Rate = 1e-3  # highest learning rate
    decay: float = 0.9  # of the rate, an epoch (exponential)
    weight_decay: float = 0.02
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05  # part of the schedule (one_cycle)
    largest_gradient: float | None = 5.0  # norm to which gradients are clipped
    average: Annotated[float, Field(ge=0, le=1)] = (
        0.998  # decay of the averaged weights; 0: no averaging
    )
    norms: Literal["batch", "synchronised", "frozen"] = "batch"  # statistics of batch norms
    seed: Annotated[int, Field(ge=0)] = 0
    devices: Count = 1
    accelerator: Literal["cpu", "cuda", "gpu", "auto"] = "cpu"
    precision: Precision = "32-true"
    threads: Count = 2
    workers: Annotated[int, Field(ge=0)] = 1  # processes that make batches ahead, per device
    save_every: Count = 500  # [steps]
    log_every: Count = 20  # [steps]
    tensorboard: bool = False  # events beside curve.csv


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


class Opponent(Protocol):
    """What learns against the network, after each of its steps."""

    def learn(self, *seed: int) -> dict[str, Tensor]:
        """One step of its own; losses for the curve."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Trainer(ABC, Generic[Config, Batch]):
    """One run: network, optimiser, averaged weights, step count."""

    opponent: Opponent | None = None  # `prepare` sets it

    def __init__(self, config: Config) -> None:
        self.config = config
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.threads)
        self.fabric = make_fabric(config)
        if self.fabric.device.type == "cuda":  # every step has the same shapes
            torch.backends.cudnn.benchmark = True
        self.network = self.start()
        if config.norms == "synchronised":
            self.network = synchronised(self.network, self.fabric)
        self.average: Any = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.average.to(self.fabric.device)
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        optimizer = kind(self.parameter_groups(), fused=True)
        self.model, self.optimizer = self.fabric.setup(self.training_module(), optimizer)
        self.step, self.elapsed, self._saved = 0, 0.0, -1
        self._terms: list[str] = []  # names of the loss terms
        self._recent: list[Tensor] = []  # this device's values, a row a step, since the last log
        self.folder = Path(config.output)
        self.prepare()
        self._resume()
        alone = self.fabric.is_global_zero
        self._curve = Curve(self.folder, self.step, config.tensorboard) if alone else None

    @abstractmethod
    def start(self) -> Any:
        """The network as it begins."""

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimiser, each with its highest learning rate `rate`."""

    def prepare(self) -> None:
        """Make what else the run needs, before its state is read."""

    @abstractmethod
    def epoch_steps(self) -> int:
        """Steps in which everything is seen once, on average."""

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
    def checkpoints(self) -> dict[Path, Any]:
        """The files that training writes, each with its averaged network."""

    def train_mode(self) -> None:
        """Put the network into training mode; frozen norms keep their statistics."""
        self.network.train()
        if self.config.norms == "frozen":
            for module in self.network.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    def run(self, stop_at: int | None = None) -> None:
        """Train to the end of the schedule, or stop early, to be resumed.

        Ctrl-C ends it after the step; processes that train together could not agree on one, and
        end as they are.

        Args:
            stop_at: a step to stop at.
        """
        began, before = 0.0, self.elapsed
        batches = self.batches(self.step)
        with Progress(disable=not self.fabric.is_global_zero) as bar, self._stop(bar) as stop:
            task = bar.add_task("training", total=1.0)
            for batch in batches:
                began = began or time.monotonic()  # the clock starts with the first batch
                self.elapsed = before + time.monotonic() - began
                progress = self.progress()
                bar.update(task, completed=min(progress, 1.0))
                if progress >= 1 or self.step == stop_at:
                    break
                terms = self.train_step(batch, progress)
                self._terms = list(terms)
                self._recent.append(torch.stack(list(terms.values())))
                self.step += 1
                if self.step % self.config.log_every == 0:
                    told = f"step {self.step}, loss {float(terms['loss']):.4f}"
                    bar.update(task, description=told)
                    self._log()
                if self.step % self.config.save_every == 0:
                    self.save()
                if stop.asked:
                    break
        batches.close()  # type: ignore[attr-defined]
        if self._saved != self.step:
            self.save()
        stop.obey()

    def _stop(self, bar: Progress) -> StopRequest:
        return StopRequest(bar.console.print, heard=self.fabric.world_size == 1)

    def progress(self) -> float:
        """How much of the schedule is done, 0..1; the same on all ranks."""
        if self.config.minutes is not None:
            return self.fabric.broadcast(self.elapsed) / (60 * self.config.minutes)
        if self.config.epochs is not None:
            return self.step / (self.config.epochs * self.epoch_steps())
        return self.step / self.config.steps

    def rate_factor(self, progress: float) -> float:
        """What the schedule makes of the highest learning rates."""
        if self.config.schedule == "exponential":
            return self.config.decay ** (self.step // self.epoch_steps())
        return one_cycle(progress, self.config.warmup)

    def train_step(self, batch: Batch, progress: float = 0.0) -> dict[str, Tensor]:
        """One step on one batch at a part of the schedule; returns the loss terms.

        Nothing here waits for the device, which thus always has the next kernels.
        """
        torch.manual_seed(_seed(self.config.seed, self.step, self.fabric.global_rank))
        factor = self.rate_factor(progress)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        self.train_mode()
        terms = self.loss_terms(batch, progress)
        loss = torch.stack(list(terms.values())).sum()
        self.fabric.backward(loss)
        limit = self.config.largest_gradient
        norm = self.fabric.clip_gradients(
            self.model,
            self.optimizer,
            max_norm=float("inf") if limit is None else limit,
            error_if_nonfinite=False,
        )
        if self.config.precision != "16-mixed":  # there, the loss scaling skips such steps
            self.optimizer.optimizer.found_inf = (~torch.isfinite(torch.as_tensor(norm))).float()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.opponent is not None:
            terms |= self.opponent.learn(self.config.seed, self.step, self.fabric.global_rank)
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))
        update_average(self.average, self.network, decay)
        terms["loss"] = loss
        return {name: value.detach() for name, value in terms.items()}

    def save(self) -> None:
        """Scores and checkpoints of the averaged weights, and last the state to resume from."""
        recent = self._shared(torch.stack(self._recent)).unbind() if self._recent else ()
        if self._curve is not None:
            scores = self.validate()
            for path, network in self.checkpoints().items():
                save_checkpoint(
                    path,
                    network,
                    network.config_dict(),
                    steps=self.step,
                    metrics=scores,
                    training={k: v for k, v in asdict(self.config).items() if k != "output"},
                )
            self._curve.add_scores(self.step, scores)
            state: dict[str, Any] = {"step": self.step, "elapsed": self.elapsed}
            state |= {name: part.state_dict() for name, part in self._state_parts().items()}
            scratch = self.folder / "state.pt.partial"
            torch.save(state | {"terms": self._terms, "recent": list(recent)}, scratch)
            scratch.replace(self.folder / "state.pt")
        self._saved = self.step
        self.fabric.barrier()

    def _state_parts(self) -> dict[str, Any]:
        parts = {name: getattr(self, name) for name in ("network", "average", "optimizer")}
        return parts if self.opponent is None else parts | {"opponent": self.opponent}

    def _resume(self) -> None:
        path = self.folder / "state.pt"
        if path.is_file():
            try:
                state = torch.load(path, weights_only=True, map_location=self.fabric.device)
                for name, part in self._state_parts().items():
                    part.load_state_dict(state[name])
            except (RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError):
                raise UsageError(
                    f"{path} is no state of a run with these settings: remove it, or give "
                    "another output="
                ) from None
            self.step, self.elapsed = state["step"], state["elapsed"]
            self._terms = state.get("terms", [])
            self._recent = state["recent"] if self._terms else []
            self._saved = self.step

    def _shared(self, values: Tensor) -> Tensor:
        """Means over all devices."""
        return torch.as_tensor(self.fabric.all_reduce(values))

    def _log(self) -> None:
        """Means since the last line, over all devices."""
        means = self._shared(torch.stack(self._recent).mean(0))
        row: dict[str, float] = {"step": self.step, "seconds": round(self.elapsed, 1)}
        row |= {k: round(v, 5) for k, v in zip(self._terms, means.tolist())}
        self._recent = []
        if self._curve is not None:
            self._curve.add(row)


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
