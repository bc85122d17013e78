"""joint_data: scenes as joint training reads them: crops, groups, and the truth of every stage.

A batch is a flat dict of tensors. Its first M rows are people of scenes, who are placed, posed and
refined, each with the others of its picture's group: `context` and `valid` (M, N), `truth_...` as
`RefinerTruth`. All rows, also S people of stores for the skeleton network alone, have `image`
(M + S, 3, size, size) and labels as `PeopleStore.crop` describes them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.crop import crop_images, look_at
from mpmesh_core.ik import twist_from_rotations
from mpmesh_core.training.augment import NO_AUGMENT, AugmentConfig, degrade, draw_degrading
from mpmesh_core.training.refiner_data import (
    LEAST_VISIBLE,
    TRUTH,
    crop_truth,
    detected_box,
    group,
)
from mpmesh_core.training.scene import PersonTruth, Scene, ShardFolder
from mpmesh_core.training.skeleton_data import FLIPS, OUTSIDE_PX, PeopleStore

Random = np.random.Generator


class SceneBatches(Dataset[dict[str, Tensor]]):
    """Batches by step number: groups of at most N people, of which each device has its part."""

    def __init__(
        self,
        scenes: dict[str, float],
        groups: int,
        size: int,
        augment: AugmentConfig,
        body: str,
        stores: dict[str, float],
        store_people: int,
        seed: int,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        """Open the folders.

        Args:
            scenes: folder of scene shards -> share of the groups.
            groups: in a batch, on all devices together.
            size: most people of a group, N.
            augment: what happens to crops; only what happens to colours for scenes.
            body: name of the body model.
            stores: folder of people -> share of the further people.
            store_people: their number in a batch, on all devices together.
            seed: of everything drawn.
            part: rank and number of devices.
        """
        self._arguments = (
            scenes, groups, size, augment, body, stores, store_people, seed, part,
        )  # fmt: skip
        self.groups, self._size, self._augment = groups, size, augment
        self._scenes = [ShardFolder(folder) for folder in scenes]
        self._stores = [PeopleStore(folder) for folder in stores]
        self._shares = [_normalised(shares) for shares in (scenes, stores)]
        self._store_people, self._seed, self._part = store_people, seed, part
        self._body = load_body(body)

    def __reduce__(self) -> tuple[type[SceneBatches], tuple]:
        """Workers open the folders anew."""
        return SceneBatches, self._arguments

    @property
    def scenes(self) -> int:
        """How many there are in all folders."""
        return sum(map(len, self._scenes))

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """The batch of one step."""
        rank, devices = self._part
        rngs = [
            np.random.default_rng((self._seed, step, place))
            for place in range(rank, self.groups, devices)
        ]
        parts = [self._group(rng) for rng in rngs]
        people = _joined(parts, self._size, rngs)
        extra = [
            self._store_person(np.random.default_rng((self._seed, step, self.groups + place)))
            for place in range(rank, self._store_people, devices)
        ]
        for name in extra[0] if extra else ():
            further = torch.stack([sample[name] for sample in extra])
            people[name] = torch.cat((people[name], further))
        return people

    def _group(self, rng: Random) -> dict[str, Tensor]:
        """At most N people of a random scene that has any."""
        while True:
            folder = self._scenes[rng.choice(len(self._scenes), p=self._shares[0])]
            scene = folder[int(rng.integers(len(folder)))]
            people = _visible(scene)
            if people:
                chosen = rng.permutation(len(people))[: self._size]
                people = [people[index] for index in chosen]
                return _read(scene, people, rng, self._augment, self._body)

    def _store_person(self, rng: Random) -> dict[str, Tensor]:
        store = self._stores[rng.choice(len(self._stores), p=self._shares[1])]
        sample = store.crop(int(rng.integers(len(store))), rng, self._augment, 256)
        labels = (*_label_names(), "image", "K")
        return {name: torch.from_numpy(sample[name]) for name in labels}


def in_order(
    folder: str, size: int, body: BodyModel, pictures: int = 16
) -> Iterator[dict[str, Tensor]]:
    """Batches with all people of all scenes once, each with its nearest, not augmented."""
    parts: list[dict[str, Tensor]] = []
    for number, scene in enumerate(ShardFolder(folder)):
        people, rng = _visible(scene), np.random.default_rng(number)
        if people:
            parts.append(_read(scene, people, rng, NO_AUGMENT, body))
        if len(parts) == pictures:
            yield _joined(parts, size, None)
            parts = []
    if parts:
        yield _joined(parts, size, None)


def _visible(scene: Scene) -> list[PersonTruth]:
    return [person for person in scene.people if person.visibility > LEAST_VISIBLE]


@torch.inference_mode()
def _read(
    scene: Scene,
    people: list[PersonTruth],
    rng: Random,
    augment: AugmentConfig,
    body: BodyModel,
) -> dict[str, Tensor]:
    """Crops, labels and truth of a picture's people; and `pelvis` (P, 3) in the camera frame."""
    boxes = np.stack([detected_box(person, scene.camera, rng) for person in people])
    crops = look_at(boxes, scene.camera)
    pictures = crop_images(scene.image, scene.camera, crops).permute(0, 2, 3, 1).numpy()
    drawn = [draw_degrading(crops.size, rng, augment) for _ in pictures]
    image = np.stack([degrade(*pair) for pair in zip(pictures, drawn)])
    truth = crop_truth(people, scene.camera, crops, body)
    return {
        "image": torch.from_numpy(image).permute(0, 3, 1, 2),
        "pelvis": (crops.R_crop_cam.mT @ truth["root"][..., None])[..., 0],
        **_labels(truth, body, crops.size),
        **{f"truth_{name}": truth[name] for name in TRUTH},
    }


def _labels(truth: dict[str, Tensor], body: BodyModel, size: int) -> dict[str, Tensor]:
    """Labels for the skeleton network from the refiner's truth."""
    known = truth["weight_3d"]
    labels = _unlabelled(len(known)) | {"K": truth["K"]}
    inside = (truth["pixels"] > -OUTSIDE_PX) & (truth["pixels"] < size - 1 + OUTSIDE_PX)
    seen = truth["weight_2d"][:, None] * inside.all(-1)
    twist = twist_from_rotations(truth["rotations"], body.rest_points(truth["betas"]))
    labels["points3d"] = _weighted(truth["points"], known[:, None])
    labels["points2d"] = torch.cat((truth["pixels"], seen[..., None]), -1)
    labels["coco2d"] = truth["coco"]
    labels["twist"] = _weighted(twist, known[:, None])
    labels["betas"] = _weighted(truth["betas"], known)
    labels["root"] = _weighted(truth["root"], known)
    return labels


def _weighted(values: Tensor, weight: Tensor) -> Tensor:
    """Values (..., D) and their weight, (..., D + 1)."""
    return torch.cat((values, weight.expand(values.shape[:-1])[..., None]), -1)


def _label_names() -> tuple[str, ...]:
    return tuple(_unlabelled(1))


def _unlabelled(people: int) -> dict[str, Tensor]:
    """All labels of the skeleton network, with weight 0."""
    shapes = {"twist": (23, 3), "betas": (11,), "root": (4,)}
    for name, flip in FLIPS.items():
        shapes |= {f"{name}3d": (len(flip), 4), f"{name}2d": (len(flip), 3)}
    return {name: torch.zeros(people, *shape) for name, shape in shapes.items()}


def _joined(
    parts: list[dict[str, Tensor]], size: int, rngs: list[Random] | None
) -> dict[str, Tensor]:
    """One batch of several pictures' people."""
    pelvis = [part.pop("pelvis").numpy() for part in parts]
    context, valid = group(pelvis, size, rngs)
    batch = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return batch | {"context": torch.from_numpy(context), "valid": torch.from_numpy(valid)}


def _normalised(shares: dict[str, float]) -> np.ndarray:
    return np.array(list(shares.values())) / max(sum(shares.values()), 1e-9)
