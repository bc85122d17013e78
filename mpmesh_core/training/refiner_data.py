"""refiner_data: what the refiner reads, made once from scenes by the stages before it.

A cache is a folder: `features.bin` (float16, P x C x 8 x 8, mapped) and `labels.npz`, everything
else of P people, those of one picture in a row. The skeleton network runs as in the pipeline, so
that the refiner learns that network's errors; truth is turned into each person's crop camera.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from mpmesh_core.body import BodyModel
from mpmesh_core.camera import Camera
from mpmesh_core.crop import CropCameras, crop_images, look_at
from mpmesh_core.engines import Engine
from mpmesh_core.errors import MissingFileError, refusing
from mpmesh_core.mirror import read_crops
from mpmesh_core.networks.refiner import CAMERA_START
from mpmesh_core.pose import absolute_points, solve_pose
from mpmesh_core.refine import pose6d_from_rotations
from mpmesh_core.second_look import look_again
from mpmesh_core.threads import one_thread
from mpmesh_core.training.losses import RefinerTruth
from mpmesh_core.training.scene import PersonTruth, Scene

Array = np.ndarray
LEAST_VISIBLE = 0.15  # part of a person below which no detector would have found it
BOX_JITTER = 0.06  # of shift and size of a box, as a part of its longer side
_STAGES = ("skeleton", "placed")  # joints before there is a body
TRUTH = ("rotations", "betas", "points", "weight_3d", "pixels", "weight_2d", "coco", "K")


def cache_scenes(
    folder: Path | str, scenes: Iterable[Scene], skeleton: Engine, body: BodyModel, seed: int = 0
) -> int:
    """Run detection-like boxes of all scenes through the stages before the refiner.

    Args:
        folder: made if need be; what it holds is replaced.
        scenes: pictures with their people.
        skeleton: engine of the skeleton network.
        body: the body model of truth and result.
        seed: of the boxes' jitter.

    Returns:
        Number of people stored.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Tensor]] = []
    # as in the pipeline: hundreds of tiny products would each wait for a second thread
    with one_thread(), (folder / "features.bin.partial").open("wb") as file:
        for number, scene in enumerate(track(scenes, f"refiner cache {folder.name}")):
            row = _read_scene(scene, skeleton, body, rng)
            if row is None:
                continue
            features = row.pop("features").half().numpy()
            file.write(features.tobytes())
            rows.append(row | {"picture": torch.full((len(features),), number)})
    if not rows:
        raise MissingFileError(f"no people to cache for {folder}: the scenes hold none")
    labels = {name: torch.cat([row[name] for row in rows]).numpy() for name in rows[0]}
    with (folder / "labels.npz.partial").open("wb") as file:
        np.savez(file, channels=features.shape[1], **labels)  # type: ignore[arg-type]
    os.replace(folder / "labels.npz.partial", folder / "labels.npz")
    os.replace(folder / "features.bin.partial", folder / "features.bin")
    return len(labels["picture"])


@torch.inference_mode()
def _read_scene(
    scene: Scene, skeleton: Engine, body: BodyModel, rng: np.random.Generator
) -> dict[str, Tensor] | None:
    """All arrays of one picture's people, or None where there are none."""
    people = [person for person in scene.people if person.visibility > LEAST_VISIBLE]
    if not people:
        return None
    boxes = np.stack([detected_box(person, scene.camera, rng) for person in people])
    crops = look_at(boxes, scene.camera)

    def pictures(cameras: CropCameras) -> Tensor:
        return crop_images(scene.image, scene.camera, cameras).float()

    first = read_crops(skeleton, pictures(crops))
    crops, found = look_again(skeleton, torch.from_numpy(boxes), crops, first, pictures)
    points = absolute_points(found, crops)
    ik = solve_pose(points, found, body)
    finite = ik.ok & found.features.flatten(1).isfinite().all(1)
    row = {
        "features": found.features,
        "heatmaps": found.heatmaps.half(),
        "pose6d": pose6d_from_rotations(ik.rotations),
        "start_betas": found.betas,
        "skeleton": found.points3d[:, :24],
        "placed": points[:, :24] - points[:, :1],
        "pelvis": (crops.R_crop_cam.mT @ points[:, 0].unsqueeze(-1)).squeeze(-1),
        **crop_truth(people, scene.camera, crops, body),
    }
    return {name: value[finite] for name, value in row.items()} if finite.any() else None


def detected_box(person: PersonTruth, camera: Camera, rng: np.random.Generator) -> Array:
    """A box as a detector might give it: the person's part of the picture, jittered."""
    low, high = person.box[:2], person.box[2:]
    limit = np.array((camera.width - 1, camera.height - 1), np.float32)
    low, high = np.clip(low, 0, limit - 2), np.clip(high, 2, limit)
    side = float((high - low).max())
    shift, grow = rng.uniform(-BOX_JITTER, BOX_JITTER, (2, 2)) * side
    return np.concatenate((low + shift - grow / 2, high + shift + grow / 2)).astype(np.float32)


def crop_truth(
    people: list[PersonTruth], camera: Camera, crops: CropCameras, body: BodyModel
) -> dict[str, Tensor]:
    """`RefinerTruth` of one picture's people, by field; and `root` (P, 3) [m], their pelvis."""
    rotations = torch.from_numpy(np.stack([p.rotations for p in people])).float()
    betas = torch.from_numpy(np.stack([p.betas for p in people])).float()
    transl = torch.from_numpy(np.stack([p.transl for p in people])).float()
    known = torch.tensor([p.weight_3d for p in people])
    rotations[:, 0] = crops.R_crop_cam @ rotations[:, 0]
    points = body(rotations, betas, torch.zeros_like(transl), vertices=False).points
    pelvis = crops.R_crop_cam @ (transl + body.rest_joints(betas)[:, 0]).unsqueeze(-1)
    points = points - points[:, :1]
    projected = (points + pelvis.mT) @ crops.K.mT
    in_front = (projected[..., 2] > 0.1).all(1)
    return {
        "rotations": rotations,
        "betas": betas,
        "points": points,
        "weight_3d": known,
        "pixels": projected[..., :2] / projected[..., 2:].clamp_min(0.1),
        "weight_2d": known * in_front,
        "coco": _coco(people, camera, crops),
        "K": crops.K,
        "root": pelvis[..., 0],
    }


def _coco(people: list[PersonTruth], camera: Camera, crops: CropCameras) -> Tensor:
    """Labelled COCO keypoints (M, 17, 3) in crop pixels; weight 0 where there are none."""
    rows = [p.keypoints.get("coco17", np.zeros((17, 3))) for p in people]
    labels = torch.from_numpy(np.nan_to_num(np.stack(rows))).float()
    turned = camera.unproject(labels[..., :2]) @ (crops.K @ crops.R_crop_cam).mT
    weight = labels[..., 2] * (turned[..., 2] > 0.1)
    return torch.cat((turned[..., :2] / turned[..., 2:].clamp_min(0.1), weight[..., None]), -1)


def is_cache(folder: Path | str) -> bool:
    """Whether a folder holds what `cache_scenes` writes."""
    return (Path(folder) / "features.bin").is_file()


@dataclass(frozen=True)
class RefinerBatch:
    """M people of several pictures, inputs and truth."""

    inputs: dict[str, Tensor]  # of the refiner, with `context` and `valid`
    truth: RefinerTruth
    joints: dict[str, Tensor]  # (M, 24, 3) [m] pelvis-relative: `skeleton` as the network says,
    # `placed` as inverse kinematics aims at; older caches hold neither

    def to(self, device: torch.device) -> RefinerBatch:
        """The same batch on another device."""
        inputs = {name: value.to(device) for name, value in self.inputs.items()}
        truth = {name: getattr(self.truth, name).to(device) for name in TRUTH}
        joints = {name: value.to(device) for name, value in self.joints.items()}
        return RefinerBatch(inputs, RefinerTruth(**truth), joints)


class RefinerCache:
    """Batches of whole pictures from a folder that `cache_scenes` wrote."""

    def __init__(self, folder: Path | str) -> None:
        folder = Path(folder)
        if not is_cache(folder):
            raise MissingFileError(f"no refiner cache in {folder}: make it with `cache_scenes`")
        advice = ": remove the folder, so that it is made anew"
        with (
            refusing(f"{folder / 'labels.npz'} holds no labels of a refiner cache", advice),
            np.load(folder / "labels.npz") as file,
        ):
            self._labels = {name: file[name] for name in file.files}
            channels, people = int(self._labels.pop("channels")), len(self._labels["picture"])
        with refusing(f"{folder / 'features.bin'} does not fit labels.npz", advice):
            mapped = np.memmap(folder / "features.bin", np.float16, "r")
            self._features: Array = mapped.reshape(people, channels, 8, 8)
        starts = np.flatnonzero(np.diff(self._labels["picture"], prepend=-1))
        self.pictures = np.split(np.arange(len(self._features)), starts[1:])

    @property
    def numbers(self) -> Array:
        """(P,) which picture each person is in, in the order of `in_order`."""
        return self._labels["picture"]

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.pictures)

    @property
    def people(self) -> int:
        """Number of people."""
        return len(self._features)

    def sample(
        self,
        people: int,
        size: int,
        rng: np.random.Generator,
        part: tuple[int, int] = (0, 1),
    ) -> RefinerBatch:
        """Random pictures with at least so many people; context is drawn from each picture.

        Args:
            people: number of people at least, times the devices.
            size: people in one run, the target included (N of the paper).
            rng: draws pictures and contexts.
            part: rank and number of devices; each takes every so many of the drawn pictures.
        """
        rank, devices = part
        chosen: list[Array] = []
        while sum(map(len, chosen)) < people * devices or len(chosen) < devices:
            chosen.append(self.pictures[int(rng.integers(len(self)))])
        rngs = rng.spawn(len(chosen))
        return self._batch(chosen[rank::devices], size, rngs[rank::devices])

    def in_order(self, people: int, size: int) -> Iterable[RefinerBatch]:
        """All pictures once, each person with its nearest."""
        chosen: list[Array] = []
        for picture in self.pictures:
            chosen.append(picture)
            if sum(map(len, chosen)) >= people:
                yield self._batch(chosen, size, None)
                chosen = []
        if chosen:
            yield self._batch(chosen, size, None)

    def _batch(
        self, pictures: list[Array], size: int, rngs: list[np.random.Generator] | None
    ) -> RefinerBatch:
        pelvis = [self._labels["pelvis"][picture] for picture in pictures]
        context, valid = group(pelvis, size, rngs)
        rows = np.concatenate(pictures)
        labels = {name: torch.from_numpy(values[rows]) for name, values in self._labels.items()}
        inputs = {
            "features": torch.from_numpy(self._features[rows]).float(),
            "heatmaps": labels["heatmaps"].float(),
            "pose6d": labels["pose6d"],
            "betas": labels["start_betas"],
            "camera": torch.tensor(CAMERA_START).repeat(len(rows), 1),
            "context": torch.from_numpy(context),
            "valid": torch.from_numpy(valid),
        }
        truth = RefinerTruth(**{name: labels[name] for name in TRUTH})
        joints = {name: labels[name] for name in _STAGES if name in labels}
        return RefinerBatch(inputs, truth, joints)


def group(
    pictures: list[Array], size: int, rngs: list[np.random.Generator] | None
) -> tuple[Array, Array]:
    """Whom each person of several pictures is refined with (section 3.3).

    Args:
        pictures: pelvis positions (P, 3) [m] of each picture's people.
        size: people in one run, the target included (N of the paper).
        rngs: one a picture, to draw the others at random as in training; None: the nearest.

    Returns:
        context (M, size) int64, rows of all people, the person itself first; valid (M, size) bool.
    """
    count = sum(map(len, pictures))
    context, valid = np.zeros((count, size), np.int64), np.zeros((count, size), bool)
    first = 0
    for picture, pelvis in enumerate(pictures):
        for target in range(len(pelvis)):
            distance = np.linalg.norm(pelvis - pelvis[target], axis=1)
            order = np.argsort(distance, kind="stable")
            others = order[order != target]
            if rngs is not None:
                others = rngs[picture].permutation(others)
            read = np.concatenate(([target], others))[:size]
            row = first + target
            context[row, : len(read)], valid[row, : len(read)] = first + read, True
        first += len(pelvis)
    return context, valid
