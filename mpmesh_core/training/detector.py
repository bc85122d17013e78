"""training.detector: train the person detector, from public weights or from a checkpoint.

In   DetectorTraining (configuration)
Out  OUTPUT/detector-light.safetensors, OUTPUT/curve.csv, OUTPUT/last.pt to resume from

Prepared samples are kept in OUTPUT/samples.npz. The shipped checkpoint holds the moving average of
the weights; `keep` moves them part of the way back to the start, which keeps what a small training
set cannot teach (Wortsman et al. 2022). The score threshold is read off held-out pictures.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mpmesh_core.detect import EngineDetector, load_detector
from mpmesh_core.engines.torch import TorchEngine
from mpmesh_core.errors import NumericalError, UsageError, WeightsError
from mpmesh_core.evaluation.detection import DetectionScores, LabelledImage, score_detections
from mpmesh_core.networks.checkpoint import load_network, save_checkpoint
from mpmesh_core.networks.detector import DetectorNetwork
from mpmesh_core.stopping import StopRequest
from mpmesh_core.training.curve import Curve
from mpmesh_core.training.detection_augment import AugmentedImage, augment
from mpmesh_core.training.detection_data import Cutout, DetectionSample
from mpmesh_core.training.detection_loss import DetectionLoss, detection_loss
from mpmesh_core.training.detection_sets import DetectionSets, prepare_sets
from mpmesh_core.training.detector_init import detector_from_onnx

Array = np.ndarray
Report = Callable[[str], None]

REPORT_EVERY = 10  # steps

MIN_HEIGHT = 32.0  # [px] of the people that validation counts, at the pictures' own size
TARGET_PRECISION = 0.85


class DetectorTraining(BaseModel):
    """Everything that can be chosen about a training run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path = Field(description="folder with train2d, scenes and teachers")
    output: Path = Field(description="folder for checkpoint, curve and resume file")
    init_onnx: Path | None = Field(
        None, description="RTMDet-nano person ONNX file to start from, absolute or within `data`"
    )
    init: Path | None = Field(None, description="checkpoint to start from")
    scenes: Path | None = Field(None, description="folder of synthetic scene shards")
    scene_limit: Annotated[int, Field(ge=0)] = 3000
    lspet_photos: Annotated[int, Field(ge=0)] = 900
    steps: Annotated[int, Field(ge=1)] = 1000
    batch: Annotated[int, Field(ge=1)] = 8
    lr: Annotated[float, Field(gt=0)] = 2e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    warmup: Annotated[int, Field(ge=0)] = 50
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.995
    canvases: tuple[tuple[int, int], ...] = Field(
        ((320, 416), (416, 320), (320, 320), (256, 416), (384, 512)),
        min_length=1,
        description="(height, width) [px] of training pictures, multiples of 32",
    )
    keep: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="share of the starting weights in the result"
    )
    validate_every: Annotated[int, Field(ge=1)] = 200
    seed: int = 0
    threads: Annotated[int, Field(ge=0)] = Field(0, description="torch threads, 0 for all")


class TrainingState:
    """What a run needs to go on: network, its average, optimiser, step."""

    def __init__(self, network: DetectorNetwork, config: DetectorTraining) -> None:
        self.network = network.train()
        self.average = copy.deepcopy(network).eval()
        self.start = copy.deepcopy(network).eval()
        decayed = [p for p in network.parameters() if p.ndim > 1]
        others = [p for p in network.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": config.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=config.lr,
        )
        self.step = 0

    def save(self, path: Path) -> None:
        """Write everything, in one step."""
        partial = path.with_suffix(".partial")
        parts = ("network", "average", "start", "optimizer")
        torch.save({p: getattr(self, p).state_dict() for p in parts} | {"step": self.step}, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Go on where `save` was called."""
        try:
            stored = torch.load(path, weights_only=True)
            for part in ("network", "average", "start", "optimizer"):
                getattr(self, part).load_state_dict(stored[part])
            self.step = int(stored["step"])
        except Exception as error:  # a damaged file makes the unpickler raise any kind
            raise WeightsError(
                f"{path} is not a resume file of this configuration ({error}): remove it to start "
                "anew"
            ) from None


def train_detector(config: DetectorTraining, report: Report | None = None) -> Path:
    """Train, or go on with the run in `config.output`.

    Args:
        config: the run.
        report: told the step and the latest figures, every few steps.

    Returns:
        The checkpoint's path.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    sets = prepare_sets(config.data, config.output, config.lspet_photos)
    sets = sets.with_scenes(config.scenes, config.scene_limit)
    state = TrainingState(_start(config), config)
    resume = config.output / "last.pt"
    if resume.is_file():
        state.load(resume)
    curve = Curve(config.output, state.step)
    tell = report or (lambda line: None)
    with StopRequest(tell) as stop:
        while state.step < config.steps and not stop.asked:
            losses = train_step(state, config, sets)
            figures = {name: float(value) for name, value in losses._asdict().items()}
            if state.step % config.validate_every == 0 or state.step == config.steps:
                figures |= _held_out(state.average, sets)
                row = {name: float(f"{value:.5g}") for name, value in figures.items()}
                curve.add({"step": state.step} | row)
                state.save(resume)
            if state.step % REPORT_EVERY == 0 or "ap" in figures:
                told = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
                tell(f"step {state.step}/{config.steps}: {told}")
    if stop.asked:
        state.save(resume)
        stop.obey()
    return _finish(state, config, sets)


def _held_out(network: DetectorNetwork, sets: DetectionSets) -> dict[str, float]:
    scores = evaluate_network(network, sets.validation)
    recall, threshold = scores.recall_at_precision(TARGET_PRECISION)
    return {"ap": scores.average_precision, "recall": recall, "threshold": threshold}


def train_step(
    state: TrainingState, config: DetectorTraining, sets: DetectionSets
) -> DetectionLoss:
    """One batch, chosen by seed and step alone, so that a resumed run sees what it would have."""
    rng = np.random.default_rng([config.seed, state.step])
    canvas = config.canvases[int(rng.integers(len(config.canvases)))]
    views = [draw_view(sets.draw(rng), canvas, sets.cutouts, rng) for _ in range(config.batch)]
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(config, state.step)
    losses = detection_loss(state.network.raw(_images(views)), *pad_boxes(views))
    if not torch.isfinite(losses.total):
        raise NumericalError(f"detector loss is {losses.total} at step {state.step}: lower lr=")
    state.optimizer.zero_grad(set_to_none=True)
    losses.total.backward()
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), 5.0)
    state.optimizer.step()
    state.step += 1
    blend_weights(state.average, state.network, min(config.ema, 1 - 1 / (state.step + 1)))
    return DetectionLoss(*(value.detach() for value in losses))


def draw_view(
    sample: DetectionSample,
    canvas: tuple[int, int],
    cutouts: list[Cutout],
    rng: np.random.Generator,
) -> AugmentedImage:
    """A random view; people are not pasted into synthetic scenes, which overlap already."""
    return augment(sample, canvas, [] if sample.source == "synthetic" else cutouts, rng)


def learning_rate(config: DetectorTraining, step: int) -> float:
    """Linear warm-up, then a half cosine down to a twentieth."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return float(config.lr * (0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * min(done, 1.0)))))


def pad_boxes(views: list[AugmentedImage]) -> tuple[Tensor, Tensor, Tensor]:
    """People (N, G, 4) and their mask (N, G), ignored (N, I, 4); at least one place each."""
    people = [torch.from_numpy(view.people) for view in views]
    ignored = [torch.from_numpy(view.ignored) for view in views]
    pad = torch.nn.utils.rnn.pad_sequence
    room = torch.zeros(1, 4)
    padded = pad([torch.cat([boxes, room]) for boxes in people], batch_first=True)
    counts = torch.tensor([len(boxes) for boxes in people])
    mask = torch.arange(padded.shape[1])[None] < counts[:, None]
    return padded, mask, pad([torch.cat([boxes, room]) for boxes in ignored], batch_first=True)


@torch.no_grad()
def blend_weights(target: DetectorNetwork, source: DetectorNetwork, keep: float) -> None:
    """Move every weight of `target` towards `source`, keeping the share `keep` of its own."""
    for own, new in zip(target.parameters(), source.parameters()):
        own.lerp_(new, 1 - keep)


def evaluate_network(
    network: DetectorNetwork, samples: list[DetectionSample], size: int = 416
) -> DetectionScores:
    """Precision and recall on whole pictures, through the same line as at run time."""
    engine = TorchEngine("detector", copy.deepcopy(network), torch.device("cpu"))
    loaded = load_detector(engine, max_people=100, score_threshold=0.02)
    detector = EngineDetector(
        engine, loaded.decoder, size=size, score_threshold=0.02, max_people=100
    )
    found = [(detector.detect(sample.decode()), sample) for sample in samples]
    return score_detections(
        [(d.boxes, d.scores, LabelledImage(people=s.people, ignored=s.ignored)) for d, s in found],
        min_height=MIN_HEIGHT,
    )


def _start(config: DetectorTraining) -> DetectorNetwork:
    if config.init is not None and config.init_onnx is not None:
        raise UsageError("give either an ONNX file or a checkpoint to start from, not both")
    if config.init_onnx is not None:
        return detector_from_onnx(config.data / config.init_onnx)
    if config.init is not None:
        return load_network(config.init, DetectorNetwork)
    return DetectorNetwork()


def _images(views: list[AugmentedImage]) -> Tensor:
    stacked = torch.from_numpy(np.stack([view.image for view in views]))
    return stacked.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)


def _finish(state: TrainingState, config: DetectorTraining, sets: DetectionSets) -> Path:
    network = copy.deepcopy(state.average)
    blend_weights(network, state.start, 1 - config.keep)
    scores = _held_out(network, sets)
    metrics: dict[str, Any] = {
        "validation_ap": round(scores["ap"], 4),
        "validation_recall_at_precision_0.85": round(scores["recall"], 4),
        "validation_threshold": round(scores["threshold"], 4),
    }
    path = config.output / "detector-light.safetensors"
    save_checkpoint(
        path,
        network,
        network.config.model_dump(),
        half=True,
        training_data=sets.description(),
        start=str((config.init_onnx or config.init or Path("random")).name),
        steps=state.step,
        metrics=metrics,
        licence="Apache-2.0",
    )
    return path
