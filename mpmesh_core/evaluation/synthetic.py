"""evaluation.synthetic: people of rendered scenes, all of whom are known.

Protocol. In each scene, people are matched to truths by the Hungarian method on the distance of
their pelvises, up to 1 m. A truth of which at least half can be seen must be found; who is matched
to a lesser one is neither right nor wrong. MPJPE and PVE after moving both pelvises together,
PA-MPJPE after a similarity, over the 24 SMPL joints and all vertices of the body; the position
error is that of the pelvis in the camera frame. Tables by number of people, visibility and overlap
hold the lesser ones too, by what can be seen of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from mpmesh_core.body import BodyModel
from mpmesh_core.drawing import person_vertices
from mpmesh_core.errors import InputError
from mpmesh_core.evaluation.clip import PosedTruth, posed_truths
from mpmesh_core.evaluation.matching import MAX_DISTANCE, match_positions
from mpmesh_core.evaluation.metrics import DetectionCounts, mpjpe, normalised_error, pa_mpjpe, pve
from mpmesh_core.evaluation.protocol import Case, Group, Protocol, ProtocolReport
from mpmesh_core.joints import SMPL_PARENTS
from mpmesh_core.training.scene import Scene, decode_jpeg, encode_jpeg
from mpmesh_core.types import Array, FrameResult, Person

LEAST_VISIBLE = 0.5  # of a person who must be found
POSITION = "position [mm]"
ERRORS = ("MPJPE [mm]", "PA-MPJPE [mm]", "PVE [mm]", POSITION)

PROTOCOL = Protocol(
    name="synthetic scenes",
    joints="24 SMPL joints; PVE on all vertices",
    regressor="the body's own",
    alignment="pelvis; PA-MPJPE: rotation, translation and scale; position: none",
    boxes="the pipeline's own detections",
    gender="none, one body for all",
    matching=f"Hungarian on pelvis distance up to {MAX_DISTANCE:g} m; "
    f"people seen by {LEAST_VISIBLE:.0%} or more must be found",
    source="this project",
)


@dataclass(frozen=True)
class Known:
    """One truth and what became of it."""

    crowd: int  # people in the scene
    visibility: float  # 0..1
    overlap: float  # largest share of the box that another person's covers
    distance: float  # from the camera [m]
    case: Case | None  # None where nobody was matched

    @property
    def counted(self) -> bool:
        """Whether this person must be found."""
        return self.visibility >= LEAST_VISIBLE


def score_synthetic(
    scenes: Iterable[Scene],
    find: Callable[[Scene], FrameResult],
    body: BodyModel,
    data: str,
    method: str,
) -> ProtocolReport:
    """Score the pipeline.

    Args:
        scenes: pictures with known people.
        find: gives the people of a scene.
        body: of truths and predictions, on the CPU.
        data: what the scenes are called in the report.
        method: what the pipeline is called.

    Raises:
        InputError: no scenes.
    """
    known: list[Known] = []
    wrong = count = 0
    for number, scene in enumerate(scenes):
        some, extra = _compare(number, scene, find(scene), body)
        known += some
        wrong += extra
        count += 1
    if not count:
        raise InputError(f"{data} holds no scenes")
    return ProtocolReport(
        PROTOCOL,
        data=f"{data}: {count} scenes, {len(known)} people",
        method=method,
        figures=_figures(known, wrong),
        groups=_groups(known),
        cases=_cases([person for person in known if person.counted]),
        histogram=ERRORS,
    )


def _compare(
    number: int, scene: Scene, result: FrameResult, body: BodyModel
) -> tuple[list[Known], int]:
    """Truths of a scene, and how many of the found people are nobody's."""
    people = result.seen
    truths = posed_truths([scene], body)[0]
    found = np.array([person.joints[0] for person in people]).reshape(-1, 3)
    pairs = match_positions(found, np.array([t.joints[0] for t in truths]).reshape(-1, 3))
    cases = {
        column: _case(number, scene, people[row], truths[column], body) for row, column in pairs
    }
    overlaps = box_overlaps(np.array([person.box for person in scene.people]).reshape(-1, 4))
    known = [
        Known(
            crowd=len(truths),
            visibility=truth.visibility,
            overlap=float(overlap),
            distance=float(np.linalg.norm(truth.joints[0])),
            case=cases.get(column),
        )
        for column, (truth, overlap) in enumerate(zip(truths, overlaps))
    ]
    return known, len(people) - len(pairs)


def _case(number: int, scene: Scene, found: Person, truth: PosedTruth, body: BodyModel) -> Case:
    vertices = person_vertices(body, [found])[0].astype(np.float64)
    joints = found.joints.astype(np.float64)
    values = (
        mpjpe(joints, truth.joints),
        pa_mpjpe(joints, truth.joints),
        pve(vertices, truth.vertices, joints[0], truth.joints[0]),
        np.linalg.norm(joints[0] - truth.joints[0]),
    )
    jpeg = scene.jpeg or encode_jpeg(scene.image)  # smaller to keep than the picture
    return Case(
        where=f"scene {number}, {truth.visibility:.0%} visible",
        errors={name: 1e3 * float(value) for name, value in zip(ERRORS, values)},
        found_px=scene.camera.project(joints),
        true_px=scene.camera.project(truth.joints.astype(np.float64)),
        parents=SMPL_PARENTS,
        picture=partial(decode_jpeg, jpeg),
    )


def box_overlaps(boxes: Array) -> Array:
    """Largest share of each box (N, 4) that one other box covers: (N,)."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(-1)
    np.fill_diagonal(shared, 0.0)
    area = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(-1), 1e-9)
    return shared.max(1, initial=0.0) / area


def _figures(known: Sequence[Known], wrong: int) -> dict[str, float]:
    counted = [person for person in known if person.counted]
    matched = _cases(counted)
    counts = DetectionCounts(len(matched), wrong, len(counted) - len(matched))
    errors = _means(matched)
    shares = [
        person.case.errors[POSITION] / max(10 * person.distance, 1e-6)
        for person in counted
        if person.case is not None
    ]
    return {
        **errors,
        "position [%]": float(np.mean(shares)) if shares else np.nan,
        "F1": counts.f1,
        "precision": counts.precision,
        "recall": counts.recall,
        "NMJE [mm]": normalised_error(errors["MPJPE [mm]"], counts.f1),
        "people": len(counted),
        "false positives": wrong,
    }


def _groups(known: Sequence[Known]) -> list[Group]:
    crowds = sorted({person.crowd for person in known})
    by_crowd = {f"{n}": [p for p in known if p.crowd == n and p.counted] for n in crowds}
    return [
        Group("People in the scene", {n: _part(p) for n, p in by_crowd.items()}),
        Group("Visibility", _bins(known, "visibility", (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0))),
        Group("Overlap with another person", _bins(known, "overlap", (0.0, 0.1, 0.3, 0.6, 1.0))),
    ]


def _bins(known: Sequence[Known], name: str, edges: Sequence[float]) -> dict[str, dict[str, float]]:
    rows = {}
    for low, high in pairwise(edges):
        last = high == edges[-1]
        inside = [
            person
            for person in known
            if low <= getattr(person, name) and (last or getattr(person, name) < high)
        ]
        if inside:
            rows[f"{low:.0%} - {high:.0%}"] = _part(inside)
    return rows


def _part(known: Sequence[Known]) -> dict[str, float]:
    matched = _cases(known)
    recall = len(matched) / len(known) if known else np.nan
    return {"people": len(known), "recall": recall, **_means(matched)}


def _cases(known: Sequence[Known]) -> list[Case]:
    return [person.case for person in known if person.case is not None]


def _means(matched: Sequence[Case]) -> dict[str, float]:
    return {
        name: float(np.mean([case.errors[name] for case in matched])) if matched else np.nan
        for name in ERRORS
    }
