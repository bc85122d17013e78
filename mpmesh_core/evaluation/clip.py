"""evaluation.clip: accuracy over a video whose people are known, such as the demo clip.

Protocol. In each frame people are matched to truths by the Hungarian method on the distance of
their pelvises, up to 1 m. MPJPE and PVE after moving both pelvises together, PA-MPJPE after a
similarity, over the 24 SMPL joints; the position error is that of the pelvis in the camera frame.
A truth counts as missed when at least half of it is visible and nobody is matched to it; an ID
switch is a truth whose track changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from mpmesh_core.body import BodyModel
from mpmesh_core.drawing import person_vertices
from mpmesh_core.evaluation.matching import match_positions
from mpmesh_core.evaluation.metrics import mpjpe, pa_mpjpe
from mpmesh_core.pipeline import Pipeline
from mpmesh_core.training.scene import PersonTruth, Scene
from mpmesh_core.training.synthetic.demo_clip import FPS
from mpmesh_core.types import Array, FrameResult, Person


@dataclass(frozen=True)
class ClipReport:
    """Means over all matched people of all frames."""

    frames: int
    truths: int  # people at least half visible
    matched: int
    false_positives: int
    mpjpe_mm: float
    pa_mpjpe_mm: float
    pve_mm: float
    position_mm: float
    position_relative: float  # of the distance from the camera
    id_switches: int


@dataclass(frozen=True)
class PosedTruth:
    """One person as they truly stood."""

    visibility: float  # 0..1
    joints: Array  # (24, 3) [m]
    vertices: Array  # (V, 3) [m]


def evaluate_clip(pipeline: Pipeline, scenes: Iterable[Scene], fps: float = FPS) -> ClipReport:
    """Run the pipeline over the scenes as frames of one video; see the module's protocol."""
    kept = list(scenes)
    results = [
        pipeline(scene.image, scene.camera, stamp=index / fps, frame=index)
        for index, scene in enumerate(kept)
    ]
    return compare_clip(results, posed_truths(kept, pipeline.body), pipeline.body)


def posed_truths(scenes: Iterable[Scene], body: BodyModel) -> list[list[PosedTruth]]:
    """Joints and vertices of every person of every scene."""
    return [[_pose(body, person) for person in scene.people] for scene in scenes]


def compare_clip(
    results: list[FrameResult], truths: list[list[PosedTruth]], body: BodyModel
) -> ClipReport:
    """Compare results with the truths of the same frames."""
    errors: list[tuple[float, ...]] = []
    tracks: dict[int, int] = {}
    visible = wrong = switches = 0
    for result, frame in zip(results, truths):
        measured = result.seen
        pairs = _match(measured, frame)
        visible += sum(truth.visibility >= 0.5 for truth in frame)
        wrong += len(measured) - len(pairs)
        for found, index in pairs:
            errors.append(_errors(found, frame[index], body))
            switches += tracks.get(index, found.track_id) != found.track_id
            tracks[index] = found.track_id
    rows = np.array(errors).reshape(-1, 5)
    mean = rows.mean(0) if len(rows) else np.full(5, np.nan)
    return ClipReport(
        frames=len(results),
        truths=visible,
        matched=len(rows),
        false_positives=wrong,
        mpjpe_mm=float(mean[0]),
        pa_mpjpe_mm=float(mean[1]),
        pve_mm=float(mean[2]),
        position_mm=float(mean[3]),
        position_relative=float(mean[4]),
        id_switches=int(switches),
    )


def _pose(body: BodyModel, person: PersonTruth) -> PosedTruth:
    device = body.v_template.device
    pose = (person.rotations, person.betas, person.transl)
    posed = body(*(torch.from_numpy(values).to(device) for values in pose))
    joints, vertices = posed.joints.cpu().numpy(), posed.vertices.cpu().numpy()
    return PosedTruth(person.visibility, joints, vertices)


def _match(people: list[Person], truths: list[PosedTruth]) -> list[tuple[Person, int]]:
    found = np.array([person.joints[0] for person in people]).reshape(-1, 3)
    known = np.array([truth.joints[0] for truth in truths]).reshape(-1, 3)
    return [(people[row], column) for row, column in match_positions(found, known)]


def _errors(found: Person, truth: PosedTruth, body: BodyModel) -> tuple[float, ...]:
    """MPJPE, PA-MPJPE, PVE, position error [mm] and relative position error."""
    joints = found.joints.astype(np.float64)
    vertices = person_vertices(body, [found])[0] - joints[0]
    position = float(np.linalg.norm(joints[0] - truth.joints[0]))
    return (
        1e3 * float(mpjpe(joints, truth.joints)),
        1e3 * float(pa_mpjpe(joints, truth.joints)),
        1e3 * float(mpjpe(vertices, truth.vertices - truth.joints[0], root=None)),
        1e3 * position,
        position / float(np.linalg.norm(truth.joints[0])),
    )
