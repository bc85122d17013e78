"""evaluation.ablation: Table 4 of the paper on data of one's own.

In   a `RefinerTraining`: caches or scenes to train on, held-out ones to measure on, a schedule
Out  AblationReport, and one folder a row and seed; finished ones are not repeated

Every row is the same short training with other values of `RefinerConfig`. Joints and meshes are
measured in crop camera axes with pelvises together. A refined person is measured twice: as the
refiner says (`refiner`), and as the pipeline makes it of that (`pipeline`, see `limbs`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.errors import InputError, UsageError
from mpmesh_core.evaluation.metrics import Floats, mpjpe, pa_mpjpe
from mpmesh_core.limbs import keep_limbs
from mpmesh_core.networks.checkpoint import load_network
from mpmesh_core.networks.refiner import RefinerNetwork
from mpmesh_core.outputs import prepare_folder
from mpmesh_core.refine import rotations_from_pose6d
from mpmesh_core.training.refiner import (
    RefinerTraining,
    cache_folder,
    make_caches,
    skeleton_path,
    train_refiner,
)
from mpmesh_core.training.refiner_data import RefinerBatch, RefinerCache
from mpmesh_core.training.settings import check_same

METRICS = ("mpjpe", "pa_mpjpe", "mve")
BATCH = 64  # people measured at once
# Settings that may change between two calls for the same folder: none decides a result.
_FREE = ("output", "cache", "threads", "workers", "log_every", "save_every", "seed")

Errors = dict[str, Floats]  # "stage/metric" -> (P,) [mm] of each held-out person


@dataclass(frozen=True)
class Row:
    """One row of Table 4."""

    name: str
    title: str  # the paper's words
    paper: tuple[float | None, float | None, float | None]  # METRICS on 3DPW [mm]
    changes: dict[str, Any] = field(default_factory=dict)  # of RefinerConfig


UNREFINED = (
    Row("skeleton", "w/o IK, w/o refiner", (71.8, 42.5, None)),
    Row("placed", "w/o IK, w/o refiner: as placed", (None, None, None)),
    Row("ik", "w/o refiner", (67.3, 39.3, 77.5)),
)
"""Rows without training: the network's joints, those that IK aims at, and the mesh of IK."""
REFINED = (
    Row("position", "w/ positional embedding", (68.3, 39.4, 78.3), {"positional_embedding": True}),
    Row("no_mask", "w/o masking input patch", (67.1, 39.0, 76.6), {"mask_ratio": 0.0}),
    Row("n1", "N = 1", (66.9, 39.4, 77.0), {"max_people": 1}),
    Row("n2", "N = 2", (66.7, 39.3, 76.7), {"max_people": 2}),
    Row("n3", "N = 3 (full)", (66.0, 39.0, 76.3), {"max_people": 3}),
    Row("n4", "N = 4", (66.6, 39.4, 77.2), {"max_people": 4}),
)


@dataclass(frozen=True)
class Ablation:
    """Errors of every row on the same held-out people."""

    unrefined: Errors
    refined: dict[str, list[Errors]]  # row -> one a seed
    pictures: Floats  # (P,) which picture each person is in


def run_ablation(
    config: RefinerTraining,
    seeds: int = 3,
    rows: Sequence[str] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Ablation:
    """Train and measure what is missing.

    Args:
        config: schedule and data of every row; its `network` is changed row by row, its `output`
            is the folder of all.
        seeds: trainings a row, with seeds 0, 1, ...
        rows: names of trained rows, see `REFINED`; None: all.
        say: is told what begins.

    Raises:
        UsageError: an unknown row, no held-out people, or a folder with runs of other settings.
    """
    chosen = _chosen(rows)
    if not config.validation:
        raise UsageError("setting 'validation': name folders of held-out scenes to measure on")
    if seeds < 1:
        raise UsageError(f"--seeds must be 1 or more, got {seeds}")
    config = replace(config, cache=config.cache or str(Path(config.output) / "cache"))
    _same_settings(config)
    make_caches(config)
    made = {str(cache_folder(config, name)): share for name, share in config.scenes.items()}
    body = load_body(config.body)
    held_out = [RefinerCache(cache_folder(config, folder)) for folder in config.validation]
    runs = Path(config.output) / "runs"
    say("without refiner")
    unrefined = _remembered(runs / "unrefined.npz", partial(measure, None, held_out, body))
    refined: dict[str, list[Errors]] = {}
    for seed in range(seeds):  # a table of few seeds is whole before more come
        for row in chosen:
            say(f"{row.title}, seed {seed}")
            folder = runs / row.name / f"seed-{seed}"
            training = replace(
                config,
                output=str(folder),
                seed=seed,
                scenes=made,  # one cache, whatever the seed
                validation=(),
                network=replace(config.network, **row.changes),
            )
            work = partial(_train_and_measure, training, held_out, body)
            errors = _remembered(folder / "errors.npz", work)
            refined.setdefault(row.name, []).append(errors)
    known = measured_pictures(held_out)
    return Ablation(unrefined, refined, known)


def _chosen(rows: Sequence[str] | None) -> list[Row]:
    names = [row.name for row in REFINED]
    for name in rows or ():
        if name not in names:
            raise UsageError(f"row {name!r} is unknown; choose from {', '.join(names)}")
    return [row for row in REFINED if rows is None or row.name in rows]


def _same_settings(config: RefinerTraining) -> None:
    """Write down what decides the results, or compare with what a former call wrote down."""
    path = prepare_folder(config.output) / "settings.json"
    settings = {name: value for name, value in asdict(config).items() if name not in _FREE}
    settings["skeleton"] = sha256(skeleton_path(config).read_bytes()).hexdigest()
    check_same(path, settings, "runs with")


def _remembered(path: Path, work: Callable[[], Errors]) -> Errors:
    """Errors from a file, or worked out and written to it in one step."""
    if not path.is_file():
        errors = work()
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".partial")
        with scratch.open("wb") as file:
            np.savez(file, **errors)  # type: ignore[arg-type]
        scratch.replace(path)
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def _train_and_measure(
    training: RefinerTraining, held_out: Sequence[RefinerCache], body: BodyModel
) -> Errors:
    path = train_refiner(training)
    errors = measure(load_network(path, RefinerNetwork), held_out, body)
    path.with_name("state.pt").unlink(missing_ok=True)  # a finished run is not resumed
    return errors


@torch.inference_mode()
def measure(
    network: RefinerNetwork | None, held_out: Sequence[RefinerCache], body: BodyModel
) -> Errors:
    """Errors [mm] of each person with 3D truth.

    Args:
        network: the refiner; None measures the stages before it.
        held_out: caches; all of their pictures are read, each person with its nearest.
        body: of truth and result.

    Returns:
        `refiner/...` and `pipeline/...`; without network `skeleton/...`, `placed/...`, `ik/...`;
        of each METRICS, of bodies only `mve`.
    """
    size = 1 if network is None else network.config.max_people
    parts: list[Errors] = []
    for cache in held_out:
        for people in cache.in_order(BATCH, size):
            found = _unrefined(people, body) if network is None else _refined(network, people, body)
            known = people.truth.weight_3d.numpy() > 0
            parts.append({name: values[known] for name, values in found.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def measured_pictures(held_out: Sequence[RefinerCache]) -> Floats:
    """(P,) a number for the picture of each person that `measure` measures."""
    pictures, first = [], 0
    for cache in held_out:
        known = np.concatenate([b.truth.weight_3d.numpy() for b in cache.in_order(BATCH, 1)]) > 0
        pictures.append(cache.numbers[known] + first)
        first += int(cache.numbers.max()) + 1
    return np.concatenate(pictures)


def _unrefined(people: RefinerBatch, body: BodyModel) -> Errors:
    if not people.joints:
        raise InputError("the cache of held-out people holds no skeletons: make it anew")
    truth = people.truth.points[:, :24].numpy()
    errors: Errors = {}
    for stage, joints in people.joints.items():
        errors |= _joint_errors(stage, joints.numpy(), truth)
    ik = rotations_from_pose6d(people.inputs["pose6d"], people.truth.rotations)
    return errors | _body_errors("ik", ik, people.inputs["betas"], people, body)


def _refined(network: RefinerNetwork, people: RefinerBatch, body: BodyModel) -> Errors:
    seen_betas = people.inputs["betas"]
    seen = rotations_from_pose6d(people.inputs["pose6d"], people.truth.rotations)
    refined = network(*people.inputs.values())
    rotations = rotations_from_pose6d(refined["refined_pose6d"], seen)
    kept = keep_limbs(rotations, seen, seen_betas, body)
    says = _body_errors("refiner", rotations, refined["refined_betas"], people, body)
    return says | _body_errors("pipeline", kept, seen_betas, people, body)


def _body_errors(
    stage: str, rotations: Tensor, betas: Tensor, people: RefinerBatch, body: BodyModel
) -> Errors:
    truth = people.truth
    origin = torch.zeros_like(betas[:, :3])
    found, wanted = body(rotations, betas, origin), body(truth.rotations, truth.betas, origin)
    found_mesh, mesh = ((posed.vertices - posed.joints[:, :1]).numpy() for posed in (found, wanted))
    errors = _joint_errors(stage, found.joints.numpy(), wanted.joints.numpy())
    return errors | {f"{stage}/mve": 1e3 * mpjpe(found_mesh, mesh, root=None)}


def _joint_errors(stage: str, joints: Floats, truth: Floats) -> Errors:
    return {
        f"{stage}/mpjpe": 1e3 * mpjpe(joints, truth),
        f"{stage}/pa_mpjpe": 1e3 * pa_mpjpe(joints, truth),
    }
