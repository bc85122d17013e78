"""real: photos with 2D labels and teacher 3D become scenes with fitted bodies.

In   the data folder (LSP-extended, Penn-Fudan, COCO subset, teacher networks)
Out  shards of `Scene`s: `train` and `val` (the last LSP-extended photos), each person with the
     keypoints of its labels and a body whose `weight_3d` says how far to trust it

Photos of the COCO keypoint file are test photos and stay out. So do the PoseTrack clips: their
frames have skeletons, boxes and masks drawn into the picture. The photos' cameras are unknown, so
a field of view is assumed for each source; the bodies' distance is only as good as that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.training.fit import FitConfig, fit_many
from mpmesh_core.training.fit_labels import fit_input, scenes
from mpmesh_core.training.labels import (
    LabelledImage,
    keypoint_image_names,
    read_coco_subset,
    read_lspet,
    read_pennfudan,
)
from mpmesh_core.training.scene import write_shard
from mpmesh_core.training.teaching import Teachers

Progress = Callable[[str], None]


class RealConfig(BaseModel):
    """What to prepare and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path = Field(description="data folder with train2d/ and teachers/")
    output: Path = Field(description="folder that gets train/ and val/ with shards")
    body: str = Field("open", description="body model to fit: open, smpl or a file")
    val: int = Field(200, ge=1, description="LSP-extended photos held out, from the end")
    limit: int | None = Field(None, ge=1, description="photos per source, None for all")
    steps: int = Field(150, ge=1, description="steps of the fit")
    shard: int = Field(500, ge=1, description="photos in a shard")
    least_height: float = Field(64.0, ge=0, description="lower boxes are left out [px]")


def prepare_real(config: RealConfig, progress: Progress = print) -> dict[str, int]:
    """Read, label, fit and write everything.

    Args:
        config: where from, where to.
        progress: gets a line now and then.

    Returns:
        Counts: `train`, `val` photos, `..._people`, and `..._3d` people with a trusted body.
    """
    body = load_body(config.body)
    folder = config.data / "train2d" / "lspet"
    train = list(islice(read_lspet(folder, 0, -config.val), config.limit))
    train += teach(config, progress)
    counts = write_fits(config, body, "train", train, progress)
    val = list(islice(read_lspet(folder, -config.val), config.limit))
    return {**counts, **write_fits(config, body, "val", val, progress)}


def teach(config: RealConfig, progress: Progress = print) -> list[LabelledImage]:
    """Label the people of the photos that have boxes only, or nothing."""
    teachers = Teachers(config.data / "teachers")
    root = config.data / "train2d"
    tests = keypoint_image_names(root / "person_keypoints_derived.json")
    sources: dict[str, Iterator[LabelledImage]] = {
        "Penn-Fudan": read_pennfudan(root / "pennfudan"),
        "COCO subset": read_coco_subset(root / "coco128x2", exclude=tests),
    }
    taught: list[LabelledImage] = []
    for name, source in sources.items():
        images = [
            teachers.label(image, config.least_height) for image in islice(source, config.limit)
        ]
        kept = [image for image in images if image.people]
        people = sum(len(image.people) for image in kept)
        progress(f"{name}: {len(kept)} of {len(images)} photos, {people} people labelled")
        taught += kept
    return taught


def write_fits(
    config: RealConfig,
    body: BodyModel,
    split: str,
    images: Sequence[LabelledImage],
    progress: Progress,
) -> dict[str, int]:
    """Fit the people of all photos together and write the shards of one split."""
    data = fit_input(images)
    total = len(data.size)
    settings = FitConfig(steps=config.steps)
    result = fit_many(
        body, data, settings, progress=lambda done: progress(f"fit {split}: {done} of {total}")
    )
    folder = config.output / split
    folder.mkdir(parents=True, exist_ok=True)
    made = scenes(images, body, data, result)
    trusted = number = 0
    while chunk := list(islice(made, config.shard)):
        write_shard(folder / f"shard-{number:05d}.npz", chunk)
        number += 1
        trusted += sum(person.weight_3d > 0 for scene in chunk for person in scene.people)
    progress(f"{split}: {len(images)} photos, {total} people, {trusted} with 3D")
    return {split: len(images), f"{split}_people": total, f"{split}_3d": trusted}
