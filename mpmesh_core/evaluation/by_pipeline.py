"""evaluation.by_pipeline: the pipeline as a method to be scored, picture by picture.

With true boxes the detector is replaced by the labels, as protocols on given boxes ask for, and
everybody found knows whose box was theirs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mpmesh_core.body import BodyModel
from mpmesh_core.camera import Camera
from mpmesh_core.datasets.pictures import PictureReader
from mpmesh_core.datasets.record import FrameRecord, PersonRecord
from mpmesh_core.evaluation.predictions.found import NOBODY, Found, found_people
from mpmesh_core.pipeline import Pipeline
from mpmesh_core.types import Array, Detections


class GivenBoxes:
    """A detector that finds what it was told."""

    def __init__(self) -> None:
        self.boxes = np.zeros((0, 4), np.float32)

    def detect(self, image: Array) -> Detections:
        """The boxes that were set, each of score 1."""
        return Detections(self.boxes, np.ones(len(self.boxes), np.float32))


class PipelinePeople:
    """What the pipeline finds in the picture of a record.

    Args:
        pipeline: without tracking.
        true_box: gives a person's box (4,) [px]; the detector's own boxes where not given.
        meshes: whether vertices are needed.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        true_box: Callable[[PersonRecord], Array] | None = None,
        meshes: bool = True,
    ) -> None:
        self._pipeline, self._true_box = pipeline, true_box
        self._body: BodyModel | None = pipeline.body if meshes else None
        self._given, self._pictures = GivenBoxes(), PictureReader()
        if true_box is not None:
            pipeline.detector = self._given

    def __call__(self, record: FrameRecord) -> Found:
        """The people of a picture."""
        camera = record.camera or Camera.from_fov(record.width, record.height)
        identity: list[int] = []
        if self._true_box is not None:
            boxes = {
                i: self._true_box(person) for i, person in enumerate(record.people) if person.valid
            }
            known = {i: box for i, box in boxes.items() if np.isfinite(box).all()}
            if not known:
                return NOBODY
            self._given.boxes = np.stack(list(known.values())).astype(np.float32)
            identity = [_identity(record.people[i], i) for i in known]
        image = self._pictures.of(record)
        people = self._pipeline(image, camera, source=str(record.picture.path)).people
        if self._true_box is None:
            return found_people(people, camera, self._body)
        nearest = [
            int(np.abs(self._given.boxes - person.bbox).sum(1).argmin()) for person in people
        ]
        return found_people(people, camera, self._body, [identity[i] for i in nearest])


def _identity(person: PersonRecord, place: int) -> int:
    return place if person.identity is None else person.identity
