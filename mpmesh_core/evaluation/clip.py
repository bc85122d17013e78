"""evaluation.clip: accuracy over a video whose people are known, such as the demo clip.

Protocol. People and truths are matched one to one while their pelvises are at most 1 m apart. As in
CLEAR MOT (Bernardin and Stiefelhagen 2008) a pair of the frame before stays one; the others are
matched by the Hungarian method on that distance, first with truths at least half visible, so that
nobody is taken for somebody hidden close by. MPJPE and PVE after moving both pelvises together, PA-
MPJPE after a similarity, over the 24 SMPL joints; the position error is that of the pelvis in the
camera frame. The velocity error is that of people whose velocity is known, against the way the true
pelvis makes from 0.2 s before to 0.2 s after the frame. A truth counts as missed when at least half
of it is visible and nobody is matched to it; an ID switch is a truth whose track changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from mpmesh_core.body import BodyModel
from mpmesh_core.drawing import person_vertices
from mpmesh_core.evaluation.matching import MAX_DISTANCE, match_positions
from mpmesh_core.evaluation.metrics import mpjpe, pa_mpjpe
from mpmesh_core.pipeline import Pipeline
from mpmesh_core.training.scene import PersonTruth, Scene
from mpmesh_core.training.synthetic.demo_clip import FPS
from mpmesh_core.types import Array, FrameResult, Person

AROUND_S = 0.2  # before and after a frame, in which velocities are true
VISIBLE = 0.5  # part of a truth from which it is missed where nobody is found


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
    velocity_error: float  # [m/s]


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
    """Compare results with the truths of the same frames, in which people keep their order."""
    errors: list[tuple[float, ...]] = []
    velocity: list[float] = []
    stamps = np.array([result.stamp for result in results])
    tracks: dict[int, int] = {}
    before: dict[int, int] = {}  # truth -> track of the frame before
    visible = wrong = switches = 0
    for number, (result, frame) in enumerate(zip(results, truths)):
        measured = result.seen
        pairs = match_frame(measured, frame, before)
        visible += sum(truth.visibility >= VISIBLE for truth in frame)
        wrong += len(measured) - len(pairs)
        for found, index in pairs:
            errors.append(_errors(found, frame[index], body))
            if found.velocity is not None:
                true = _velocity(stamps, truths, number, index)
                velocity.append(float(np.linalg.norm(found.velocity - true)))
            switches += tracks.get(index, found.track_id) != found.track_id
        before = {index: found.track_id for found, index in pairs}
        tracks |= before
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
        velocity_error=float(np.nanmean(velocity)) if np.isfinite(velocity).any() else np.nan,
    )


def _velocity(stamps: Array, truths: list[list[PosedTruth]], number: int, index: int) -> Array:
    """(3,) [m/s] of one truth around one frame; NaN where no other frame is near."""
    near = np.flatnonzero(np.abs(stamps - stamps[number]) <= AROUND_S + 1e-6)
    first, last = (truths[k][index].joints[0] for k in (near[0], near[-1]))
    passed = stamps[near[-1]] - stamps[near[0]]
    return (last - first) / passed if passed > 0 else np.full(3, np.nan)


def _pose(body: BodyModel, person: PersonTruth) -> PosedTruth:
    device = body.v_template.device
    pose = (person.rotations, person.betas, person.transl)
    posed = body(*(torch.from_numpy(values).to(device) for values in pose))
    joints, vertices = posed.joints.cpu().numpy(), posed.vertices.cpu().numpy()
    return PosedTruth(person.visibility, joints, vertices)


def match_frame(
    people: list[Person], truths: list[PosedTruth], before: Mapping[int, int]
) -> list[tuple[Person, int]]:
    """People and the truths (their indices) that they are compared with; see the protocol.

    Args:
        people: seen in this frame.
        truths: of this frame.
        before: truth -> track id of the pairs of the frame before.
    """
    found = np.array([person.joints[0] for person in people]).reshape(-1, 3)
    known = np.array([truth.joints[0] for truth in truths]).reshape(-1, 3)
    apart = np.linalg.norm(found[:, None] - known[None], axis=-1)
    row_of = {person.track_id: row for row, person in enumerate(people) if person.track_id >= 0}
    pairs = {
        row_of[track]: index
        for index, track in before.items()
        if track in row_of and apart[row_of[track], index] <= MAX_DISTANCE
    }
    visible = np.array([truth.visibility >= VISIBLE for truth in truths], bool)
    for group in (visible, ~visible):
        rows = np.array([row for row in range(len(people)) if row not in pairs], int)
        indices = np.array([i for i in np.flatnonzero(group) if i not in pairs.values()], int)
        matched = match_positions(found[rows], known[indices])
        pairs |= {int(rows[row]): int(indices[column]) for row, column in matched}
    return [(people[row], index) for row, index in sorted(pairs.items())]


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
