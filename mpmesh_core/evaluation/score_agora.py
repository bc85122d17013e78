"""evaluation.score_agora: AGORA's records and a method's people into a report.

In   FrameRecords with joints and meshes, what was found in each, which vertices are the body's
Out  ProtocolReport; the mathematics is `agora`'s
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np

from mpmesh_core.checks import check_shapes
from mpmesh_core.datasets.agora import WIDTH
from mpmesh_core.datasets.boxes import tight_boxes
from mpmesh_core.datasets.pictures import PictureReader
from mpmesh_core.datasets.record import FrameRecord
from mpmesh_core.errors import InputError
from mpmesh_core.evaluation.agora import (
    JOINTS,
    PROTOCOL,
    AgoraErrors,
    AgoraFound,
    AgoraScores,
    AgoraTruth,
    agora_errors,
    agora_scores,
)
from mpmesh_core.evaluation.predictions.found import Find, Found
from mpmesh_core.evaluation.protocol import Case, Group, ProtocolReport
from mpmesh_core.joints import SMPL_PARENTS
from mpmesh_core.types import Array

ERRORS = ("MPJPE [mm]", "MVE [mm]")
OCCLUSION_STEP = 10  # [%]
NO_MESH = "MVE and NMVE need SMPL's mesh of everybody: there is none."


def score_agora(
    records: Iterable[FrameRecord], find: Find, body_vertices: Array, method: str
) -> ProtocolReport:
    """Score a method.

    Args:
        records: frames.
        find: what the method found in a frame.
        body_vertices: (B,) indices of the SMPL vertices that count, body_verts_smpl.npy.
        method: its name.

    Raises:
        InputError: no frames, or predictions without joints.
    """
    check_shapes(body_vertices=(body_vertices, ("B",)))
    frames: list[AgoraErrors] = []
    cases: list[Case] = []
    no_mesh = False
    hidden: list[Array] = []
    sequences: dict[str, list[AgoraErrors]] = defaultdict(list)
    for record in records:
        truth = _truth(record, body_vertices)
        people = find(record)
        found = _found(record, people, body_vertices)
        no_mesh |= bool(record.people) and found.vertices is None
        errors = agora_errors(found, truth)
        frames.append(errors)
        sequences[record.sequence].append(errors)
        hidden.append(truth.occlusion)
        cases += _cases(record, errors, found, truth)
    if not frames:
        raise InputError("AGORA: no frames")
    scores, kids = agora_scores(frames), agora_scores(frames, kids=True)
    total = scores.counts.correct + scores.counts.missed
    everybody = {"all": scores}
    if kids.counts.correct + kids.counts.missed:
        everybody["children"] = kids
    return ProtocolReport(
        PROTOCOL,
        data=f"AGORA, {len(frames)} pictures, {total} people",
        method=method,
        figures=_figures(scores),
        groups=[
            Group("All people, and children", {n: _figures(s) for n, s in everybody.items()}),
            Group("Rounded as officially", {n: _published(s) for n, s in everybody.items()}),
            Group("Sequences", {n: _figures(agora_scores(part)) for n, part in sequences.items()}),
            _occlusions(frames, hidden),
        ],
        cases=cases,
        notes=[NO_MESH] if no_mesh else [],
        histogram=ERRORS,
    )


def _published(scores: AgoraScores) -> dict[str, float]:
    units = dict.fromkeys(("MPJPE", "MVE", "NMJE", "NMVE"), " [mm]")
    return {f"{name}{units.get(name, '')}": v for name, v in scores.published().items()}


def _truth(record: FrameRecord, body_vertices: Array) -> AgoraTruth:
    scale, people = WIDTH / record.width, record.people
    vertices = [p.vertices[body_vertices] for p in people if p.vertices is not None]
    if len(vertices) < len(people):
        raise InputError(f"{record.sequence}, {record.picture.path.name}: a person without mesh")
    return AgoraTruth(
        joints_px=scale * _stack([p.points2d["smpl24"][:, :2] for p in people], (JOINTS, 2)),
        boxes=scale * _stack([p.box for p in people], (4,)),
        joints=_stack([p.points3d["smpl24"][:, :3] for p in people], (JOINTS, 3)),
        vertices=_stack(vertices, (len(body_vertices), 3)),
        valid=np.array([p.valid for p in people], bool),
        occlusion=np.array([0.0 if p.occlusion is None else p.occlusion for p in people]),
        kid=np.array([p.kid for p in people], bool),
    )


def _found(record: FrameRecord, found: Found, body_vertices: Array) -> AgoraFound:
    if not found.count:
        shapes = (JOINTS, 2), (4,), (JOINTS, 3), (len(body_vertices), 3)
        return AgoraFound(*(np.zeros((0, *shape)) for shape in shapes))
    vertices = found.vertices
    known = {len(p.vertices) for p in record.people if p.vertices is not None}
    if vertices is not None:  # another topology than the truth's has no vertices to compare
        vertices = vertices[:, body_vertices] if known == {vertices.shape[1]} else None
    points = found.need_points("smpl24")
    boxes = tight_boxes(points) if found.boxes is None else found.boxes
    scale = WIDTH / record.width
    return AgoraFound(
        joints_px=scale * points,
        boxes=scale * boxes,
        joints=found.need_joints("smpl24"),
        vertices=vertices,
    )


def _figures(scores: AgoraScores) -> dict[str, float]:
    return {
        "NMJE [mm]": scores.nmje_mm,
        "NMVE [mm]": scores.nmve_mm,
        "MPJPE [mm]": scores.mpjpe_mm,
        "MVE [mm]": scores.mve_mm,
        "F1": scores.counts.f1,
        "precision": scores.counts.precision,
        "recall": scores.counts.recall,
        "people": scores.counts.correct + scores.counts.missed,
        "false positives": scores.counts.wrong,
    }


def _occlusions(frames: Sequence[AgoraErrors], hidden: Sequence[Array]) -> Group:
    """Errors and recall by how much of a person is hidden."""
    occlusion, valid, chosen, joints, vertices = (
        np.concatenate(parts)
        for parts in (
            hidden,
            [frame.valid for frame in frames],
            [frame.chosen for frame in frames],
            [frame.mpjpe for frame in frames],
            [frame.mve for frame in frames],
        )
    )
    rows = {}
    for low in range(0, 90, OCCLUSION_STEP):
        high = low + OCCLUSION_STEP
        inside = valid & (occlusion > (low or -1)) & (occlusion <= high)
        if inside.any():
            hit = inside & (chosen >= 0)
            rows[f"{low}-{high} %"] = {
                "people": float(inside.sum()),
                "recall": float(hit.sum() / inside.sum()),
                "MPJPE [mm]": 1e3 * float(joints[hit].mean()) if hit.any() else np.nan,
                "MVE [mm]": 1e3 * float(vertices[hit].mean()) if hit.any() else np.nan,
            }
    return Group("Occlusion", rows)


def _cases(
    record: FrameRecord, errors: AgoraErrors, found: AgoraFound, truth: AgoraTruth
) -> list[Case]:
    scale = record.width / WIDTH
    return [
        Case(
            where=f"{record.sequence}/{record.picture.path.stem}",
            errors=dict(zip(ERRORS, (1e3 * errors.mpjpe[person], 1e3 * errors.mve[person]))),
            found_px=scale * found.joints_px[row],
            true_px=scale * truth.joints_px[person],
            parents=SMPL_PARENTS,
            picture=partial(PictureReader().read, record.picture),
        )
        for person, row in enumerate(errors.chosen.tolist())
        if row >= 0
    ]


def _stack(rows: Sequence[Array], shape: tuple[int, ...]) -> Array:
    return np.stack(rows).astype(np.float64) if rows else np.zeros((0, *shape))
