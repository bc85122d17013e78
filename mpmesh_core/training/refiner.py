"""refiner: trains the refiner on outputs of the skeleton network (eq. 11-13, section 3.3).

`train_refiner(config)` first caches what the stages before the refiner make of all scenes, then
runs to the end of its schedule and writes a CSV curve, checkpoints of the averaged weights,
held-out errors beside those of inverse kinematics alone, and a state from which it resumes.
Batches depend on seed, step and rank only.
"""

from __future__ import annotations

import copy
import csv
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Fabric
from rich.progress import Progress
from torch import Tensor, nn

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.engines import choose_backend, load_engine
from mpmesh_core.evaluation.metrics import mpjpe, pa_mpjpe
from mpmesh_core.networks.checkpoint import save_checkpoint
from mpmesh_core.networks.refiner import RefinerConfig, RefinerNetwork
from mpmesh_core.refine import rotations_from_pose6d
from mpmesh_core.training.losses import RefinerLossWeights, refiner_losses
from mpmesh_core.training.refiner_data import RefinerBatch, RefinerCache, cache_scenes
from mpmesh_core.training.scene import ShardFolder
from mpmesh_core.training.skeleton import one_cycle, update_average


@dataclass(frozen=True)
class RefinerTraining:
    """Everything that decides a run."""

    output: str  # folder for caches, curve, checkpoint and state
    skeleton: str  # checkpoint of the skeleton network whose errors are to be learned
    scenes: dict[str, float]  # folder of scene shards -> share of a batch
    validation: tuple[str, ...] = ()  # folders of held-out scene shards
    body: str = "open"
    network: RefinerConfig = field(default_factory=RefinerConfig)
    steps: int = 3000
    minutes: float | None = None  # end the schedule by the clock instead of by steps
    batch: int = 64  # people at least, per device
    rate: float = 5e-4  # highest learning rate; the paper's 5e-5 suits days on a GPU
    weight_decay: float = 0.02
    warmup: float = 0.05  # part of the schedule
    average: float = 0.995  # decay of the averaged weights
    seed: int = 0
    devices: int = 1
    accelerator: str = "cpu"
    precision: str = "32-true"
    threads: int = 2
    save_every: int = 500  # [steps]
    log_every: int = 20  # [steps]
    weights: RefinerLossWeights = field(default_factory=RefinerLossWeights)


class RefinerTrainer:
    """One run: network, optimiser, averaged weights, step count."""

    def __init__(self, config: RefinerTraining) -> None:
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
        self.body = load_body(config.body).to(self.fabric.device)
        self.network = RefinerNetwork(config.network)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.average.to(self.fabric.device)
        optimizer = torch.optim.AdamW(_groups(self.network, config.weight_decay), fused=True)
        self.model, self.optimizer = self.fabric.setup(self.network, optimizer)
        self.step, self.elapsed = 0, 0.0
        self._folder = Path(config.output)
        self._caches = [RefinerCache(cache_folder(config, folder)) for folder in config.scenes]
        self._held_out = {f: RefinerCache(cache_folder(config, f)) for f in config.validation}
        self._shares = np.array(list(config.scenes.values())) / sum(config.scenes.values())
        self._resume()

    def run(self) -> None:
        """Train to the end of the schedule."""
        began, before = time.monotonic(), self.elapsed
        recent: list[dict[str, float]] = []
        with Progress(disable=not self.fabric.is_global_zero) as bar:
            task = bar.add_task("refiner", total=1.0)
            while self.progress() < 1:
                recent.append(self.train_step(self.batch(self.step)))
                self.step += 1
                self.elapsed = before + time.monotonic() - began
                loss = f"refiner step {self.step}, loss {recent[-1]['loss']:.4f}"
                bar.update(task, completed=self.progress(), description=loss)
                if self.step % self.config.log_every == 0:
                    self._log(recent)
                    recent = []
                if self.step % self.config.save_every == 0:
                    self.save()
        self.save()

    def progress(self) -> float:
        """How much of the schedule is done, 0..1; the same on all ranks."""
        if self.config.minutes is None:
            return self.step / self.config.steps
        return self.fabric.broadcast(self.elapsed) / (60 * self.config.minutes)

    def batch(self, step: int) -> RefinerBatch:
        """The batch of one step, from one of the stores."""
        rng = np.random.default_rng((self.config.seed, step, self.fabric.global_rank))
        cache = self._caches[int(rng.choice(len(self._caches), p=self._shares))]
        batch = cache.sample(self.config.batch, self.config.network.max_people, rng)
        return batch.to(self.fabric.device)

    def train_step(self, batch: RefinerBatch) -> dict[str, float]:
        """One step on one batch; returns the loss terms."""
        factor = one_cycle(self.progress(), self.config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate * factor
        self.network.train()
        refined = self.model(*batch.inputs.values())
        terms = refiner_losses(refined, batch.inputs, batch.truth, self.body, self.config.weights)
        loss = torch.stack(list(terms.values())).sum()
        self.fabric.backward(loss)
        norm = self.fabric.clip_gradients(self.model, self.optimizer, max_norm=1.0)
        if torch.isfinite(torch.as_tensor(norm)):
            self.optimizer.step()
        self.optimizer.zero_grad()
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))
        update_average(self.average, self.network, decay)
        terms["loss"] = loss
        return {name: float(value.detach()) for name, value in terms.items()}

    def save(self) -> None:
        """Checkpoint of the averaged weights with its held-out errors, and the state."""
        if self.fabric.is_global_zero:
            self._folder.mkdir(parents=True, exist_ok=True)
            scores = self._validate()
            state: dict[str, Any] = {"step": self.step, "elapsed": self.elapsed}
            state |= {"network": self.network.state_dict(), "average": self.average.state_dict()}
            scratch = self._folder / "state.pt.partial"
            torch.save(state | {"optimizer": self.optimizer.state_dict()}, scratch)
            scratch.replace(self._folder / "state.pt")
            path = checkpoint_path(self.config)
            save_checkpoint(
                path, self.average, self.network.config_dict(), steps=self.step, metrics=scores
            )
        self.fabric.barrier()

    def _validate(self) -> dict[str, dict[str, float]]:
        """Held-out errors of the averaged weights, by folder; one JSON line each."""
        scores = {}
        for folder, cache in self._held_out.items():
            scores[Path(folder).name] = row = evaluate_refiner(self.average, cache, self.body)
            with (self._folder / "validation.jsonl").open("a") as file:
                file.write(json.dumps({"step": self.step, "scenes": folder, **row}) + "\n")
        return scores

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
        row: dict[str, float] = {"step": self.step, "seconds": round(self.elapsed, 1)}
        row |= {name: round(float(np.mean([r[name] for r in recent])), 5) for name in recent[0]}
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / "curve.csv"
        fresh = not path.is_file()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)


@torch.inference_mode()
def evaluate_refiner(
    network: RefinerNetwork, cache: RefinerCache, body: BodyModel, batch: int = 64
) -> dict[str, float]:
    """Errors on people with 3D truth: of IK alone (`ik_...`) and refined (`refined_...`).

    Returns:
        Means of `mpjpe_mm` and `pa_mpjpe_mm` (24 joints), `rotation_deg` (per local joint) and
        `betas`.
    """
    size = network.config.max_people
    device = body.v_template.device
    rows: dict[str, list[Tensor]] = {}
    for people in cache.in_order(batch, size):
        people = people.to(device)
        inputs = people.inputs
        refined = network(*inputs.values())
        known = people.truth.weight_3d > 0
        results = {
            "ik": (inputs["pose6d"], inputs["betas"]),
            "refined": (refined["refined_pose6d"], refined["refined_betas"]),
        }
        for name, (pose6d, betas) in results.items():
            errors = _errors(pose6d, betas, people, body)
            for error, values in errors.items():
                rows.setdefault(f"{name}_{error}", []).append(values.cpu()[known.cpu()])
    return {name: round(float(torch.cat(values).mean()), 3) for name, values in rows.items()}


def _errors(
    pose6d: Tensor, betas: Tensor, people: RefinerBatch, body: BodyModel
) -> dict[str, Tensor]:
    """Errors (M,) of each person."""
    truth = people.truth
    rotations = rotations_from_pose6d(pose6d, truth.rotations)
    posed = body(rotations, betas, torch.zeros_like(betas[:, :3]), vertices=False)
    joints, target = posed.joints.cpu().numpy(), truth.points[:, :24].cpu().numpy()
    chord = (rotations - truth.rotations).flatten(2).norm(dim=-1) / 8**0.5
    return {
        "mpjpe_mm": 1e3 * torch.from_numpy(mpjpe(joints, target)),
        "pa_mpjpe_mm": 1e3 * torch.from_numpy(pa_mpjpe(joints, target)),
        "rotation_deg": torch.rad2deg(2 * torch.asin(chord.clamp(max=1))).mean(-1),
        "betas": (betas - truth.betas).norm(dim=-1),
    }


def cache_folder(config: RefinerTraining, scenes: str) -> Path:
    """Where the cache of a folder of scenes lies."""
    parts = [part for part in Path(scenes).parts[-2:] if part != "/"]
    return Path(config.output) / "cache" / "-".join(parts)


def checkpoint_path(config: RefinerTraining) -> Path:
    """The file that training writes."""
    return Path(config.output) / f"refiner-{config.network.variant}.safetensors"


def make_caches(config: RefinerTraining) -> None:
    """Cache all scenes that have no cache yet."""
    missing = [
        folder
        for folder in (*config.scenes, *config.validation)
        if not (cache_folder(config, folder) / "features.bin").is_file()
    ]
    if not missing:
        return
    backend, device = choose_backend("auto", "auto" if config.accelerator != "cpu" else "cpu")
    skeleton = load_engine("skeleton", Path(config.skeleton), backend, device)
    body = load_body(config.body)
    for folder in missing:
        cache_scenes(cache_folder(config, folder), ShardFolder(folder), skeleton, body, config.seed)


def train_refiner(config: RefinerTraining) -> Path:
    """Cache, train or resume, and return the path of the checkpoint."""
    make_caches(config)
    RefinerTrainer(config).run()
    return checkpoint_path(config)


def _groups(network: nn.Module, decay: float) -> list[dict]:
    """Parameters with and without weight decay: none on norms and biases."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
