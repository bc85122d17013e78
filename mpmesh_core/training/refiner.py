"""refiner: trains the refiner on outputs of the skeleton network (eq. 11-15, section 3.3).

`train_refiner(config)` first caches what the stages before the refiner make of all scenes, then
runs as `trainer` says, with discriminators (`adversary`) where their loss has a weight.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.engines import choose_backend, load_engine
from mpmesh_core.errors import MissingFileError, UsageError
from mpmesh_core.evaluation.metrics import mpjpe, pa_mpjpe
from mpmesh_core.networks.refiner import RefinerConfig, RefinerNetwork
from mpmesh_core.refine import rotations_from_pose6d
from mpmesh_core.training.adversary import Adversary, make_adversary
from mpmesh_core.training.losses import RefinerLossWeights, RefinerTruth, refiner_losses
from mpmesh_core.training.refiner_data import RefinerBatch, RefinerCache, cache_scenes, is_cache
from mpmesh_core.training.scene import ShardFolder
from mpmesh_core.training.settings import check_same
from mpmesh_core.training.trainer import Trainer, TrainingRun
from mpmesh_core.weights import weights_path

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RefinerTraining(TrainingRun):
    """Everything that decides a run; `batch` counts people, at least that many."""

    skeleton: str | None = None  # checkpoint whose errors are to be learned; None: the shipped one
    scenes: dict[str, float]  # folder of scene shards, or of a cache of them -> share of a batch
    validation: tuple[str, ...] = ()  # the same of held-out people
    cache: str | None = None  # folder for what is made of the scenes; None: in `output`
    body: str = "open"
    network: RefinerConfig = field(default_factory=RefinerConfig)
    steps: int = 3000
    batch: int = 64
    rate: float = 5e-4  # the paper's 5e-5 suits days on a GPU
    average: float = 0.995
    largest_gradient: float | None = 1.0
    weights: RefinerLossWeights = field(default_factory=RefinerLossWeights)
    real_poses: str | None = None  # data folder with mocap/, for the discriminators
    discriminator_rate: float = 1e-4  # HMR's; the paper tells none


class RefinerTrainer(Trainer[RefinerTraining, RefinerBatch]):
    """One run on cached scenes."""

    opponent: Adversary | None

    def prepare(self) -> None:
        """Body, caches and, where eq. 15 has a weight, discriminators."""
        config = self.config
        self.body = load_body(config.body).to(self.fabric.device)
        self._caches = [RefinerCache(cache_folder(config, folder)) for folder in config.scenes]
        self._held_out = {f: RefinerCache(cache_folder(config, f)) for f in config.validation}
        self._shares = np.array(list(config.scenes.values())) / sum(config.scenes.values())
        self.opponent = make_adversary(
            self.fabric, config.weights, config.real_poses, config.discriminator_rate, self.body
        )

    def start(self) -> RefinerNetwork:
        """A new network, which passes its input through."""
        return RefinerNetwork(self.config.network)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """No weight decay on norms and biases."""
        return refiner_groups(self.network, self.config.rate, self.config.weight_decay)

    def batches(self, first: int) -> Iterator[RefinerBatch]:
        """Groups of people, each batch from one of the caches."""
        return (self.batch(step) for step in count(first))

    def batch(self, step: int) -> RefinerBatch:
        """The batch of one step; each device has its part of one draw."""
        rng = np.random.default_rng((self.config.seed, step))
        cache = self._caches[int(rng.choice(len(self._caches), p=self._shares))]
        part = self.fabric.global_rank, self.fabric.world_size
        batch = cache.sample(self.config.batch, self.config.network.max_people, rng, part)
        return batch.to(self.fabric.device)

    def epoch_steps(self) -> int:
        """By the people of all caches."""
        people = sum(cache.people for cache in self._caches)
        return max(1, round(people / (self.config.batch * self.fabric.world_size)))

    def loss_terms(self, batch: RefinerBatch, progress: float) -> dict[str, Tensor]:
        """See `refiner_losses`."""
        refined = self.model(*batch.inputs.values())
        deceive = None if self.opponent is None else self.opponent.deceive
        return refiner_losses(
            refined, batch.inputs, batch.truth, self.body, self.config.weights, deceive
        )

    def validate(self) -> dict[str, dict[str, float]]:
        """Held-out errors, beside those of inverse kinematics alone."""
        return {
            cache_folder(self.config, folder).name: evaluate_refiner(self.average, cache, self.body)
            for folder, cache in self._held_out.items()
        }

    def checkpoints(self) -> dict[Path, Any]:
        """The file that training writes."""
        return {self.folder / f"refiner-{self.config.network.variant}.safetensors": self.average}


@torch.inference_mode()
def evaluate_refiner(
    network: RefinerNetwork, cache: RefinerCache, body: BodyModel, batch: int = 64
) -> dict[str, float]:
    """Errors on people with 3D truth: of IK alone (`ik_...`) and refined (`refined_...`).

    Returns:
        Means of `mpjpe_mm` and `pa_mpjpe_mm` (24 joints), `rotation_deg` (per local joint) and
        `betas`.
    """
    size, device = network.config.max_people, body.v_template.device
    runs = (people.to(device) for people in cache.in_order(batch, size))
    return mean_errors(
        ((run.inputs, network(*run.inputs.values()), run.truth) for run in runs), body
    )


def mean_errors(
    runs: Iterable[tuple[dict[str, Tensor], dict[str, Tensor], RefinerTruth]], body: BodyModel
) -> dict[str, float]:
    """What `evaluate_refiner` returns, from inputs and outputs of a refiner and their truth."""
    rows: dict[str, list[Tensor]] = {}
    for inputs, refined, truth in runs:
        known = (truth.weight_3d > 0).cpu()
        results = {
            "ik": (inputs["pose6d"], inputs["betas"]),
            "refined": (refined["refined_pose6d"], refined["refined_betas"]),
        }
        for name, (pose6d, betas) in results.items():
            errors = _errors(pose6d, betas, truth, body)
            for error, values in errors.items():
                rows.setdefault(f"{name}_{error}", []).append(values.cpu()[known])
    return {name: round(float(torch.cat(values).mean()), 3) for name, values in rows.items()}


def refiner_groups(network: RefinerNetwork, rate: float, decay: float) -> list[dict[str, Any]]:
    """Groups for the optimiser: weight decay on matrices only."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    return [
        {"params": matrices, "rate": rate, "weight_decay": decay},
        {"params": vectors, "rate": rate, "weight_decay": 0.0},
    ]


def _errors(
    pose6d: Tensor, betas: Tensor, truth: RefinerTruth, body: BodyModel
) -> dict[str, Tensor]:
    """Errors (M,) of each person."""
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


def skeleton_path(config: RefinerTraining) -> Path:
    """The checkpoint of the skeleton network whose errors are to be learned."""
    return Path(config.skeleton) if config.skeleton else weights_path("skeleton")


def cache_folder(config: RefinerTraining, scenes: str) -> Path:
    """Where the cache of a folder of scenes lies; a folder that is a cache is its own."""
    if is_cache(scenes):
        return Path(scenes)
    parts = [part for part in Path(scenes).parts if part != "/"]
    return Path(config.cache or Path(config.output) / "cache") / "-".join(parts)


def make_caches(config: RefinerTraining) -> None:
    """Cache all scenes that have no cache yet; of torchrun's processes the first does, others wait.

    Raises:
        UsageError: a cache was made of other scenes, or with another skeleton, body or seed.
    """
    chosen = dict.fromkeys((*config.scenes, *config.validation))
    own = {folder: cache_folder(config, folder) for folder in chosen if not is_cache(folder)}
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0":
        logger.info("waiting for the first process to write %s", ", ".join(map(str, own.values())))
        while not all(map(is_cache, own.values())):
            time.sleep(0.5)  # torchrun ends this process where the first fails
        return
    _check_origins(config, own)
    missing = [folder for folder, cache in own.items() if not is_cache(cache)]
    if not missing:
        return
    backend, device = choose_backend("auto", "auto" if config.accelerator != "cpu" else "cpu")
    skeleton = load_engine("skeleton", skeleton_path(config), backend, device)
    body = load_body(config.body)
    for folder in missing:
        cache_scenes(cache_folder(config, folder), ShardFolder(folder), skeleton, body, config.seed)


def _check_origins(config: RefinerTraining, caches: dict[str, Path]) -> None:
    """Compare what each cache was made of, in a file beside it, with what it should be made of."""
    if not caches:
        return
    skeleton = skeleton_path(config)
    if not skeleton.is_file():
        raise MissingFileError(f"skeleton {skeleton} does not exist: give skeleton=FILE")
    digest = hashlib.sha256(skeleton.read_bytes()).hexdigest()
    notes = {folder: cache.with_name(f"{cache.name}.json") for folder, cache in caches.items()}
    for folder, cache in caches.items():
        if not is_cache(cache):
            notes[folder].unlink(missing_ok=True)
    for folder, cache in caches.items():
        scenes = str(Path(folder).resolve())
        made_from = {"scenes": scenes, "skeleton": digest, "body": config.body, "seed": config.seed}
        cache.parent.mkdir(parents=True, exist_ok=True)
        try:
            check_same(notes[folder], made_from, "caches with")
        except UsageError:
            raise UsageError(
                f"refiner cache {cache} was not made of {folder} with this skeleton, body and "
                "seed: remove that folder or give another cache=FOLDER"
            ) from None


def train_refiner(config: RefinerTraining) -> Path:
    """Cache, train or resume, and return the path of the checkpoint."""
    make_caches(config)
    trainer = RefinerTrainer(config)
    trainer.run()
    return next(iter(trainer.checkpoints()))
