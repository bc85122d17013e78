"""teaching: what several teachers agree on becomes a label.

In   `LabelledImage`s with boxes only, or without people
Out  the same photos with keypoints `coco17` and `mediapipe33` (weight = visibility times agreement)
     and teacher 3D for the people on whom the teachers agree; the others are left out
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mpmesh_core.training.labels import LabelledImage, PersonLabel
from mpmesh_core.training.teachers import HeatmapTeacher, LandmarkTeacher, PersonFinder, Reading

Array = np.ndarray

COCO_IN_MEDIAPIPE = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
"""The MediaPipe landmark nearest in meaning to each COCO keypoint."""

FOLLOWS = {17: 9, 19: 9, 21: 9, 18: 10, 20: 10, 22: 10, 29: 15, 31: 15, 30: 16, 32: 16}
"""Landmarks without a COCO twin, and whose trust they share: fingers the wrist, feet the ankle."""

_LEAST_SEEN = 6  # keypoints that the heatmap teacher must see to be believed alone
_GOOD = 0.75  # score that ends the search for how a person lies in the picture


@dataclass(frozen=True)
class TeacherPose:
    """What the teachers say about one person."""

    mediapipe33: Array  # (33, 3) px, weight 0..1
    coco17: Array  # (17, 3) px, weight 0..1
    world: Array  # (33, 3) [m], hip-centred, camera axes
    presence: float  # the landmark network's belief that a person is there, 0..1
    disagreement: float  # median distance of the limb joints [torso lengths], inf if none is seen
    score: float  # presence times mean weight of the limbs, 0..1


class Teachers:
    """All teachers together, from a folder with their files.

    Args:
        folder: holds rtmdet-nano/end2end.onnx, mediapipe-pose/pose_landmark_lite.tflite and
            ultralight-simplepose/model/deploy.onnx.
        most_disagreement: people on whom the two pose teachers differ more are left out
            [torso lengths].
        least_presence: people whom the landmark network believes in less are left out.
    """

    def __init__(
        self, folder: str | Path, most_disagreement: float = 0.15, least_presence: float = 0.8
    ) -> None:
        root = Path(folder)
        self._find = PersonFinder(root / "rtmdet-nano" / "end2end.onnx")
        self._landmarks = LandmarkTeacher(root / "mediapipe-pose" / "pose_landmark_lite.tflite")
        self._heatmaps = HeatmapTeacher(root / "ultralight-simplepose" / "model" / "deploy.onnx")
        self._limits = most_disagreement, least_presence

    def label(self, image: LabelledImage, least_height: float) -> LabelledImage:
        """Return the photo with those of its people whom the teachers agree on.

        Args:
            image: with boxes, or without people: then they are looked for.
            least_height: of a box [px].
        """
        picture = image.decode()
        people = image.people or [PersonLabel(row[:4]) for row in self._find(picture)]
        tall = [p for p in people if p.box[3] - p.box[1] >= least_height and not p.crowd]
        taught = [(person, self._read(picture, person.box)) for person in tall]
        most, least = self._limits
        kept = tuple(
            replace(
                person,
                keypoints={**person.keypoints, "coco17": t.coco17, "mediapipe33": t.mediapipe33},
                teacher3d=t.world,
            )
            for person, t in taught
            if t.disagreement <= most and t.presence >= least
        )
        complete = image.complete and len(kept) == len(image.people)
        return replace(image, people=kept, complete=complete)

    def label_2d(self, image: LabelledImage, least_height: float) -> LabelledImage:
        """Return the photo with its people's COCO keypoints from the heatmap teacher alone.

        For people half hidden or cut off, on whom the landmark network fails.

        Args:
            image: with boxes.
            least_height: of a box [px].
        """
        picture = image.decode()
        kept = []
        for person in image.people:
            if person.crowd or person.box[3] - person.box[1] < least_height:
                continue
            keypoints = _seen(self._heatmaps(picture, person.box))
            if (keypoints[:, 2] > 0).sum() >= _LEAST_SEEN:
                kept.append(replace(person, keypoints={"coco17": keypoints.astype(np.float32)}))
        return replace(image, people=tuple(kept))

    def _read(self, picture: Array, box: Array) -> TeacherPose:
        """The best of the readings; the first good one ends the search."""
        coco = self._heatmaps(picture, box)
        poses = []
        for reading in self._landmarks.readings(picture, box):
            poses.append(agree(reading, coco))
            if poses[-1].score > _GOOD:
                break
        return max(poses, key=lambda pose: pose.score)


def agree(reading: Reading, coco: Array, reach: float = 0.2) -> TeacherPose:
    """Weigh two teachers by how well they agree.

    Args:
        reading: of the landmark network.
        coco: (17, 3) px and heatmap peak.
        reach: distance at which the weight has dropped to 0.37 [torso lengths].
    """
    twins, landmarks = list(COCO_IN_MEDIAPIPE), reading.landmarks
    torso = landmarks[[11, 12], :2].mean(0) - landmarks[[23, 24], :2].mean(0)
    shoulders = landmarks[11, :2] - landmarks[12, :2]
    size = max(float(np.linalg.norm(torso)), 1.2 * float(np.linalg.norm(shoulders)), 1.0)
    apart = np.linalg.norm(landmarks[twins, :2] - coco[:, :2], axis=1) / size
    trust = np.exp(-((apart / reach) ** 2))
    both = landmarks.copy()
    both[twins, 2] *= trust
    for extra, owner in FOLLOWS.items():
        both[extra, 2] *= trust[owner]
    keypoints = _seen(coco).astype(np.float32)
    keypoints[:, 2] *= trust
    limbs = np.arange(17) >= 5
    judged = limbs & (landmarks[twins, 2] > 0.5) & (coco[:, 2] > 0.2)
    disagreement = float(np.median(apart[judged])) if judged.sum() >= 4 else float("inf")
    score = reading.presence * float(landmarks[11:29, 2].mean() + both[11:29, 2].mean()) / 2
    return TeacherPose(both, keypoints, reading.world, reading.presence, disagreement, score)


def _seen(coco: Array) -> Array:
    """Keypoints (17, 3) with a weight instead of the heatmap's peak."""
    weight = np.minimum(1, coco[:, 2] / 0.5) * (coco[:, 2] > 0.2)
    return np.column_stack([coco[:, :2], weight])
