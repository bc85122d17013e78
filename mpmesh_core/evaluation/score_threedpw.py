"""evaluation.score_threedpw: 3DPW's records and a method's people into a report.

In   FrameRecords with SMPL labels, what was found in each, meshes of the labels, a regressor
Out  ProtocolReport; the mathematics is `threedpw`'s

People are compared by identity where the predictions say whom they mean; else a frame's people are
assigned by the mean 2D distance of the 24 SMPL joints, up to half of the truth's size. The protocol
knows no misses: people without prediction are counted, and left out of the means. A body of another
topology than SMPL's is compared by its own Human3.6M joints, which the report says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import numpy as np
from scipy.optimize import linear_sum_assignment

from mpmesh_core.datasets.pictures import PictureReader
from mpmesh_core.datasets.record import FrameRecord, PersonRecord, SmplLabel
from mpmesh_core.errors import InputError
from mpmesh_core.evaluation.metrics import mpjpe, pa_mpjpe
from mpmesh_core.evaluation.predictions.found import Find, Found
from mpmesh_core.evaluation.protocol import Case, Group, ProtocolReport
from mpmesh_core.evaluation.threedpw import (
    PROTOCOL,
    beside,
    compared_joints,
    regress_joints,
    threedpw_errors,
)
from mpmesh_core.types import Array

FIGURES = ("MPJPE [mm]", "PA-MPJPE [mm]", "PVE [mm]")
ASSIGNED = "assigned in the picture, by the mean 2D distance of 24 joints"
NEAR = 1.0  # [m] from the truth's centre; a mesh further off holds a translation
# The 14 joints as a tree, LSP's order.
BONES = (1, 2, 12, 12, 3, 4, 7, 8, 12, 12, 9, 10, -1, 12)

Mesh = Callable[[SmplLabel], Array]


def score_threedpw(
    records: Iterable[FrameRecord],
    find: Find,
    mesh: Mesh,
    regressor: Array,
    method: str,
    boxes: str = PROTOCOL.boxes,
) -> ProtocolReport:
    """Score a method.

    Args:
        records: frames; people that aren't valid don't count.
        find: what the method found in a frame.
        mesh: vertices (6890, 3) [m] of a label without translation, by the gender's SMPL model.
        regressor: (17, 6890), J_regressor_h36m.
        method: its name.
        boxes: which boxes it was given, for the report.

    Raises:
        InputError: nobody to compare, or predictions without meshes and joints.
    """
    cases: list[Case] = []
    frames = people = 0
    own_joints = assigned = False
    for record in records:
        valid = [person for person in record.people if person.valid and person.smpl is not None]
        frames += 1
        people += len(valid)
        found = find(record) if valid else Found(0)
        assigned |= bool(found.count) and found.identity is None
        for person, row in _pairs(record, valid, found):
            assert person.smpl is not None
            own_joints |= not _same_topology(found, regressor)
            truth = mesh(person.smpl)
            cases.append(_case(record, person.smpl, truth, found, row, regressor))
    if not cases:
        raise InputError(f"none of the {people} valid people in {frames} frames has a prediction")
    protocol = replace(PROTOCOL, boxes=boxes)
    if assigned:
        protocol = replace(protocol, matching=f"{ASSIGNED}; people of frames with campose_valid")
    if own_joints:
        own = "J_regressor_h36m for the truth, the predicted body's own Human3.6M joints for it"
        protocol = replace(protocol, regressor=own)
    return ProtocolReport(
        protocol,
        data=f"3DPW, {frames} frames, {people} valid people",
        method=method,
        figures={**_means(cases), "people": people, "without prediction": people - len(cases)},
        groups=[_sequences(cases)],
        cases=cases,
        notes=["PVE needs SMPL's topology: there is none."] if own_joints else [],
        histogram=FIGURES,
    )


def _same_topology(found: Found, regressor: Array) -> bool:
    return found.vertices is not None and found.vertices.shape[1] == regressor.shape[1]


def _pairs(
    record: FrameRecord, people: list[PersonRecord], found: Found
) -> list[tuple[PersonRecord, int]]:
    if not found.count or not people:
        return []
    usable = _finite(found)
    if found.identity is not None:
        pairs = []
        for person in people:
            rows = np.flatnonzero(usable & (found.identity == person.identity)).tolist()
            if len(rows) > 1:
                where = f"{record.sequence}/{record.number}"
                raise InputError(f"{found.source}: person {person.identity} is twice in {where}")
            pairs += [(person, row) for row in rows]
        return pairs
    if record.camera is None:
        raise InputError(f"{record.sequence}: no camera, so nobody can be assigned in the picture")
    camera = record.camera
    truth = np.stack([camera.project(person.points3d["smpl24"][:, :3]) for person in people])
    points = found.need_points("smpl24")
    distance = np.linalg.norm(truth[:, None] - points[None], axis=-1).mean(-1)
    limit = np.ptp(truth, axis=1).max(-1)[:, None] / 2
    cost = np.where(usable & np.isfinite(distance) & (distance < limit), distance, 1e9)
    chosen = zip(*linear_sum_assignment(cost))
    return [(people[t], int(f)) for t, f in chosen if cost[t, f] < 1e9]


def _finite(found: Found) -> Array:
    """(P,) bool, whose numbers can be compared."""
    parts = [part for part in (found.vertices, found.joints.get("h36m_rows")) if part is not None]
    finite = [np.isfinite(part).all((1, 2)) for part in parts]
    return np.all(finite, axis=0) if finite else np.ones(found.count, bool)


def _case(
    record: FrameRecord, label: SmplLabel, truth: Array, found: Found, row: int, regressor: Array
) -> Case:
    known = regress_joints(truth, regressor)
    true_joints = compared_joints(known)
    if _same_topology(found, regressor):
        vertices = _untranslated(found, row, truth, regressor)
        errors = threedpw_errors(vertices, truth, regressor)
        joints = compared_joints(regress_joints(vertices, regressor))
        values = [float(errors.mpjpe), float(errors.pa_mpjpe), float(errors.pve)]
    else:
        joints = compared_joints(_own_joints(found, regressor)[row])
        values = [float(mpjpe(joints, true_joints, None)), float(pa_mpjpe(joints, true_joints))]
        values.append(np.nan)
    pixels = [np.full((14, 2), np.nan)] * 2
    if record.camera is not None:  # the prediction is drawn where the truth stands
        stand = known[:1] + label.transl
        pixels = [record.camera.project(points + stand) for points in (joints, true_joints)]
    return Case(
        where=f"{record.sequence}/{record.number}",
        errors=dict(zip(FIGURES, (1e3 * value for value in values))),
        found_px=pixels[0],
        true_px=pixels[1],
        parents=BONES,
        picture=partial(PictureReader().read, record.picture),
    )


def _own_joints(found: Found, regressor: Array) -> Array:
    if "h36m_rows" not in found.joints:
        vertices = None if found.vertices is None else found.vertices.shape[1]
        held = "no meshes" if vertices is None else f"meshes of {vertices} vertices"
        raise InputError(
            f"{found.source} gives {held}: SMPL's {regressor.shape[1]} vertices are compared, or "
            "Human3.6M's joints, which a results.jsonl has"
        )
    return found.joints["h36m_rows"]


def _untranslated(found: Found, row: int, truth: Array, regressor: Array) -> Array:
    """A mesh as the protocol wants it; one of unknown translation stands where the truth does."""
    vertices = found.need_vertices()[row].astype(np.float64)
    if found.transl is not None:
        return vertices - found.transl[row]
    if np.linalg.norm(vertices.mean(0) - truth.mean(0)) < NEAR:
        return vertices  # it has none
    return beside(vertices, truth, regressor)


def _means(cases: list[Case]) -> dict[str, float]:
    return {name: float(np.mean([case.errors[name] for case in cases])) for name in FIGURES}


def _sequences(cases: list[Case]) -> Group:
    parts = defaultdict(list)
    for case in cases:
        parts[case.where.rpartition("/")[0]].append(case)
    rows = {name: {"people": len(part), **_means(part)} for name, part in parts.items()}
    return Group("Sequences", rows)
