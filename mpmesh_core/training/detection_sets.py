"""training.detection_sets: which pictures the detector learns from, and which it is held to.

In   data folder (train2d, scenes, teachers), optional folder of scene shards
Out  DetectionSets: training samples by source, held-out ones, cut-outs

Every photo with COCO keypoints is left out: those are the test. PoseTrack's clips are left out
too: the copies in the data have skeletons painted over the people.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mpmesh_core.errors import InputError
from mpmesh_core.training.detection_data import (
    Cutout,
    DetectionSample,
    background_samples,
    cutouts,
    keypoint_samples,
    labelled_sample,
    load_samples,
    save_samples,
    scene_samples,
    split,
)
from mpmesh_core.training.detection_teachers import load_teachers
from mpmesh_core.training.labels import (
    LabelledImage,
    keypoint_image_names,
    read_coco_subset,
    read_lspet,
    read_pennfudan,
)

SHARES = {  # how often a training picture comes from each source
    "coco128": 0.3,
    "lspet": 0.25,
    "synthetic": 0.2,
    "pennfudan": 0.2,
    "background": 0.05,
}
HELD_OUT_EVERY = 5


@dataclass(frozen=True)
class DetectionSets:
    """Samples for training by source, for validation, and people to paste."""

    training: dict[str, list[DetectionSample]]
    validation: list[DetectionSample]
    cutouts: list[Cutout]

    def draw(self, rng: np.random.Generator) -> DetectionSample:
        """A training sample: first its source, by `SHARES`, then one of its pictures."""
        sources = [source for source in SHARES if self.training.get(source)]
        weights = np.array([SHARES[source] for source in sources])
        source = sources[int(rng.choice(len(sources), p=weights / weights.sum()))]
        samples = self.training[source]
        return samples[int(rng.integers(len(samples)))]

    def with_scenes(self, folder: Path | None, limit: int) -> DetectionSets:
        """Add synthetic scenes; they are not validated on."""
        if folder is None:
            return self
        return replace(
            self, training=self.training | {"synthetic": list(scene_samples(folder, limit))}
        )

    def description(self) -> list[str]:
        """What was trained on, for the checkpoint."""
        return [f"{source}: {len(samples)} pictures" for source, samples in self.training.items()]


def prepare_sets(data: Path, work: Path, lspet_photos: int) -> DetectionSets:
    """Label what has no labels, split, and keep the result in `work/samples.npz`."""
    photos = _photos(data)
    cache = work / "samples.npz"
    samples = load_samples(cache) if cache.is_file() else _label(data, photos, lspet_photos)
    if not cache.is_file():
        save_samples(cache, samples)
    training: dict[str, list[DetectionSample]] = {}
    validation: list[DetectionSample] = []
    for source in dict.fromkeys(sample.source for sample in samples):
        own = [sample for sample in samples if sample.source == source]
        training[source], held_out = split(own, HELD_OUT_EVERY)
        validation += held_out if source in ("coco128", "pennfudan") else held_out[:40]
    seen = {(sample.source, sample.name) for sample in validation}
    kept = [photo for photo in photos if (photo.source, photo.name) not in seen]
    return DetectionSets(training, validation, cutouts(kept))


def _photos(data: Path) -> list[LabelledImage]:
    """Photos with human boxes, without any test photo."""
    test = keypoint_image_names(data / "train2d" / "person_keypoints_derived.json")
    coco = list(read_coco_subset(data / "train2d" / "coco128x2", exclude=test))
    if any(photo.name in test for photo in coco):
        raise InputError("a test photo is among the training photos")
    return coco + list(read_pennfudan(data / "train2d" / "pennfudan"))


def _label(data: Path, photos: list[LabelledImage], lspet_photos: int) -> list[DetectionSample]:
    teachers = load_teachers(data / "teachers")
    samples = [labelled_sample(photo, teachers) for photo in photos]
    if lspet_photos:
        hard = list(read_lspet(data / "train2d" / "lspet", 0, lspet_photos))
        samples += keypoint_samples(hard, teachers)
    return samples + list(background_samples(data / "scenes" / "backgrounds-coco"))
