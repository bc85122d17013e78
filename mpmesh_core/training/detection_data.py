"""training.detection_data: photos and synthetic scenes as pictures with boxes to be found.

In   label readers, teachers, scene shards
Out  DetectionSample: encoded picture, people, what to ignore; Cutout: people to paste elsewhere

Every source has its own gaps, and a person without a label must not become background:
- Penn-Fudan and the COCO subset have human boxes but leave out small, hidden and crowded people:
  what the teachers find beside the labels is ignored.
- LSP-extended has joints of one person. His box is the teachers' where they agree with the joints,
  else that of the joints, grown by what the agreeing ones need. Others are the teachers' alone.
- Synthetic scenes know everything; people of whom little is visible are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpmesh_core.detect import Detector
from mpmesh_core.evaluation.detection import box_iou
from mpmesh_core.training.detection_teachers import TeacherBoxes, label_image
from mpmesh_core.training.labels import LabelledImage, PersonLabel
from mpmesh_core.training.labels.base import decode_rgb
from mpmesh_core.training.scene import PersonTruth, ShardFolder

Array = np.ndarray

MIN_VISIBLE = 0.2  # share of a person that must be visible to be a label
CUTOUT_HEIGHT = 90  # [px] lower people paste too coarsely


@dataclass(frozen=True)
class DetectionSample:
    """A picture and its people; boxes (n, 4) float32 x1, y1, x2, y2 [px]."""

    name: str
    source: str
    encoded: bytes  # JPEG or PNG file content
    people: Array  # to be found
    ignored: Array  # neither person nor background

    def decode(self) -> Array:
        """The picture (H, W, 3) uint8 RGB."""
        return decode_rgb(self.encoded, f"{self.source}/{self.name}")


@dataclass(frozen=True)
class Cutout:
    """One person out of a photo."""

    image: Array  # (h, w, 3) uint8 RGB
    mask: Array  # (h, w) bool


def labelled_sample(image: LabelledImage, teachers: Sequence[Detector]) -> DetectionSample:
    """A photo with human boxes; what only the teachers see is ignored."""
    people = _stack([person.box for person in image.people if not person.crowd])
    crowds = _stack([person.box for person in image.people if person.crowd])
    seen = label_image(image.decode(), teachers)
    extra = np.concatenate([seen.sure, seen.doubtful])
    if len(people):
        extra = extra[box_iou(extra, people).max(axis=1, initial=0.0) < 0.5]
    return DetectionSample(
        image.name, image.source, image.encoded, people, np.concatenate([crowds, extra])
    )


def keypoint_samples(
    images: Iterable[LabelledImage], teachers: Sequence[Detector]
) -> list[DetectionSample]:
    """Photos with the joints of one person each, the rest by teachers."""
    read = list(images)
    seen = [label_image(image.decode(), teachers) for image in read]
    joints = [_joint_extent(image.people[0]) for image in read]
    margins = _fit_margins(joints, seen)
    return [
        _keypoint_sample(image, _grow(extent, margins, image.width, image.height), found)
        for image, extent, found in zip(read, joints, seen)
    ]


def scene_samples(folder: Path, limit: int | None = None) -> Iterator[DetectionSample]:
    """Synthetic pictures from a folder of shards, the first `limit` of them."""
    shards = ShardFolder(folder)
    for index in range(len(shards) if limit is None else min(limit, len(shards))):
        scene = shards[index]
        if scene.jpeg is None:
            continue
        boxes = [(p, p.visible_box) for p in scene.people if p.visible_box is not None]
        size = (scene.camera.width, scene.camera.height)
        clear = [box for person, box in boxes if _in_view(person, size) >= MIN_VISIBLE]
        hidden = [box for person, box in boxes if _in_view(person, size) < MIN_VISIBLE]
        yield DetectionSample(f"{index}", "synthetic", scene.jpeg, _stack(clear), _stack(hidden))


def background_samples(folder: Path) -> Iterator[DetectionSample]:
    """Photos without people."""
    for path in sorted(folder.rglob("*.jpg")):
        none = np.zeros((0, 4), np.float32)
        yield DetectionSample(path.name, "background", path.read_bytes(), none, none)


def cutouts(images: Iterable[LabelledImage]) -> list[Cutout]:
    """The masked people of photos, those tall enough and not cut off by the picture's border."""
    found = []
    for image in images:
        people = [p for p in image.people if p.mask is not None and _pastes_well(p, image)]
        pixels = image.decode() if people else None
        for person in people:
            if pixels is None or person.mask is None:
                continue
            x1, y1, x2, y2 = np.round(person.box).astype(int)
            window = np.s_[max(y1, 0) : y2 + 1, max(x1, 0) : x2 + 1]
            found.append(Cutout(pixels[window].copy(), person.mask[window].copy()))
    return found


def split(
    samples: Sequence[DetectionSample], every: int
) -> tuple[list[DetectionSample], list[DetectionSample]]:
    """Training and validation samples: each `every`-th picture in the given order is held out."""
    held_out = [sample for index, sample in enumerate(samples) if index % every == every - 1]
    kept = [sample for index, sample in enumerate(samples) if index % every != every - 1]
    return kept, held_out


def load_samples(path: Path) -> list[DetectionSample]:
    """Read what `save_samples` wrote."""
    with np.load(path) as stored:
        data = {name: stored[name] for name in stored.files}
    files, people, ignored = (
        np.split(data[key], data[f"{key}_end"][:-1]) for key in ("encoded", "people", "ignored")
    )
    return [
        DetectionSample(str(name), str(source), file.tobytes(), found, unsure)
        for name, source, file, found, unsure in zip(
            data["name"], data["source"], files, people, ignored
        )
    ]


def save_samples(path: Path, samples: Sequence[DetectionSample]) -> None:
    """Keep prepared samples (teachers are slow) in one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(
        partial,
        name=np.array([s.name for s in samples]),
        source=np.array([s.source for s in samples]),
        encoded=np.frombuffer(b"".join(s.encoded for s in samples), np.uint8),
        encoded_end=np.cumsum([len(s.encoded) for s in samples], dtype=np.int64),
        people=np.concatenate([s.people for s in samples]),
        people_end=np.cumsum([len(s.people) for s in samples], dtype=np.int64),
        ignored=np.concatenate([s.ignored for s in samples]),
        ignored_end=np.cumsum([len(s.ignored) for s in samples], dtype=np.int64),
    )
    partial.replace(path)


def _stack(boxes: Sequence[Array]) -> Array:
    return np.array(boxes, np.float32).reshape(-1, 4)


def _in_view(person: PersonTruth, size: tuple[int, int]) -> float:
    """Visible share of the part of a person that the picture could show."""
    inside = np.clip(person.box, 0, [size[0], size[1]] * 2)
    whole = float(np.prod(person.box[2:] - person.box[:2]))
    shown = float(np.prod(inside[2:] - inside[:2])) / max(whole, 1e-6)
    return person.visibility / max(shown, 1e-6)


def _pastes_well(person: PersonLabel, image: LabelledImage) -> bool:
    x1, y1, x2, y2 = person.box
    inside = x1 > 1 and y1 > 1 and x2 < image.width - 2 and y2 < image.height - 2
    return bool(inside and y2 - y1 >= CUTOUT_HEIGHT and y2 - y1 > x2 - x1)


def _joint_extent(person: PersonLabel) -> Array:
    """(4,) box of the labelled joints and the teacher's body landmarks, without margin."""
    human, teacher = person.keypoints["lsp14"], person.keypoints["mediapipe33"]
    points = np.concatenate([human[human[:, 2] > 0, :2], teacher[teacher[:, 2] > 0.5, :2]])
    return np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32)


def _fit_margins(extents: Sequence[Array], seen: Sequence[TeacherBoxes]) -> Array:
    """Median margin of the teachers' boxes around the joints, in box diagonals, per side (4,)."""
    margins = []
    for extent, found in zip(extents, seen):
        overlap = box_iou(extent[None], found.sure)[0]
        if len(overlap) and overlap.max() >= 0.7:
            box = found.sure[overlap.argmax()]
            margins.append((box - extent) / max(np.hypot(*(extent[2:] - extent[:2])), 1.0))
    if not margins:
        return np.array([-0.03, -0.03, 0.03, 0.03], np.float32)
    return np.median(margins, axis=0).astype(np.float32)


def _grow(extent: Array, margins: Array, width: int, height: int) -> Array:
    diagonal = np.hypot(*(extent[2:] - extent[:2]))
    limit = np.array([width - 1, height - 1] * 2, np.float32)
    return np.clip(extent + margins * diagonal, 0, limit).astype(np.float32)


def _keypoint_sample(image: LabelledImage, box: Array, found: TeacherBoxes) -> DetectionSample:
    overlap = box_iou(box[None], found.sure)[0]
    person = found.sure[overlap.argmax()] if len(overlap) and overlap.max() >= 0.7 else box
    elsewhere = overlap < 0.3
    others = found.sure[elsewhere]
    doubtful = np.concatenate([found.doubtful, found.sure[~elsewhere]])
    doubtful = doubtful[box_iou(doubtful, person[None])[:, 0] < 0.7]
    return DetectionSample(
        image.name,
        image.source,
        image.encoded,
        np.concatenate([person[None], others]).astype(np.float32),
        doubtful.astype(np.float32),
    )
