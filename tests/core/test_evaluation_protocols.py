"""The protocols of 3DPW, MuPoTS-3D and AGORA against plain references and known truths."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import procrustes

from mpmesh_core.datasets.boxes import tight_boxes
from mpmesh_core.errors import ShapeError, UsageError
from mpmesh_core.evaluation.agora import (
    AgoraErrors,
    AgoraFound,
    AgoraTruth,
    agora_errors,
    agora_scores,
    keypoint_iou,
)
from mpmesh_core.evaluation.metrics import DetectionCounts, auc3d, normalised_error, pck3d, pve
from mpmesh_core.evaluation.mupots import (
    MupotsSequence,
    match_mupots,
    mupots_errors,
    mupots_scores,
    rescale_bones,
    sequence_scores,
)
from mpmesh_core.evaluation.threedpw import COMPARED, points_box, threedpw_errors

seeds = st.integers(0, 2**32 - 1)
MILLIMETRE = 1e-3
TIGHT = 1e-6  # millimetres


class TestMetrics:
    def test_pve_forgets_the_place(self) -> None:
        mesh = np.random.default_rng(0).normal(size=(2, 50, 3))
        error = pve(mesh + 5.0, mesh, np.full((2, 3), 5.0), np.zeros((2, 3)))
        assert np.allclose(error, 0)
        assert np.allclose(pve(mesh + [3, 4, 0], mesh, np.zeros((2, 3)), np.zeros((2, 3))), 5)

    @given(seed=seeds)
    @settings(max_examples=30, deadline=None)
    def test_auc_is_the_mean_of_pck(self, seed: int) -> None:
        errors = np.random.default_rng(seed).integers(0, 40, (3, 14)) * 5.0  # on the thresholds
        thresholds = np.arange(0.0, 151.0, 5.0)
        wanted = np.mean([pck3d(errors, t) for t in thresholds], axis=0)
        assert np.allclose(auc3d(errors, thresholds), wanted)
        # Closed form: of 31 thresholds those above the error.
        closed = np.maximum(0, 30 - np.floor(errors / 5)).mean(-1) / 31
        assert np.allclose(auc3d(errors, thresholds), closed)

    def test_numbers_that_are_none_are_never_near(self) -> None:
        assert pck3d(np.array([np.nan, np.inf]), 150.0) == 0

    @given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
    def test_f1_is_the_harmonic_mean(self, correct: int, wrong: int, missed: int) -> None:
        counts = DetectionCounts(correct, wrong, missed)
        both = counts.precision + counts.recall
        wanted = 2 * counts.precision * counts.recall / both if both else 0.0
        assert np.isclose(counts.f1, wanted)

    def test_nothing_found_is_not_perfect(self) -> None:
        assert DetectionCounts(0, 0, 3).f1 == 0
        assert np.isnan(normalised_error(np.nan, 0.0))
        assert normalised_error(50.0, 0.0) == np.inf

    def test_wrong_shapes(self) -> None:
        with pytest.raises(ShapeError, match="truth must have shape"):
            pve(np.zeros((5, 3)), np.zeros((6, 3)), np.zeros(3), np.zeros(3))
        with pytest.raises(ShapeError, match="thresholds"):
            auc3d(np.zeros(3), np.zeros((2, 2)))


class TestThreedpw:
    @given(seed=seeds, people=st.integers(0, 4))
    @settings(max_examples=20, deadline=None)
    def test_agrees_with_a_plain_reference(self, seed: int, people: int) -> None:
        rng = np.random.default_rng(seed)
        regressor = rng.dirichlet(np.ones(40), 17)
        truth = rng.normal(size=(people, 40, 3))
        noise = rng.choice([0.0, 0.05, 1.0])
        found = truth + noise * rng.normal(size=truth.shape) + 3.0
        errors = threedpw_errors(found, truth, regressor)
        for person in range(people):
            sets, pelvises = [], []
            for mesh in (found[person], truth[person]):
                joints = [sum(w * v for w, v in zip(row, mesh)) for row in regressor]
                pelvises.append(joints[0])
                sets.append(np.array([joints[i] - joints[0] for i in COMPARED]))
            distance = [np.linalg.norm(a - b) for a, b in zip(*sets)]
            assert abs(np.mean(distance) - errors.mpjpe[person]) < TIGHT * MILLIMETRE
            vertex = [
                np.linalg.norm((a - pelvises[0]) - (b - pelvises[1]))
                for a, b in zip(found[person], truth[person])
            ]
            assert abs(np.mean(vertex) - errors.pve[person]) < TIGHT * MILLIMETRE
            if noise < 1:  # scipy may reflect what is far off
                a, b, _ = procrustes(sets[1], sets[0])
                size = np.linalg.norm(sets[1] - sets[1].mean(0))
                aligned = size * np.linalg.norm(a - b, axis=-1).mean()
                assert abs(aligned - errors.pa_mpjpe[person]) < TIGHT * MILLIMETRE

    def test_only_one_topology(self) -> None:
        mesh = np.zeros((1, 40, 3))
        with pytest.raises(UsageError, match="40 vertices, the joint regressor is for 41"):
            threedpw_errors(mesh, mesh, np.zeros((17, 41)))

    def test_box_of_the_labelled_points(self) -> None:
        points = np.array([[10.0, 20, 1], [30, 60, 0.2], [900, 900, 0]])
        assert np.allclose(points_box(points), [8, 16, 32, 64])
        assert np.isnan(points_box(points * [1, 1, 0])).all()


BONES = ((16, 15), (2, 16), (1, 2), (17, 2), (3, 2), (4, 3), (5, 4), (6, 2), (7, 6), (8, 7),
         (9, 15), (10, 9), (11, 10), (12, 15), (13, 12), (14, 13))  # fmt: skip


def mupots_reference(true_px, truth, found_px, found, relative):
    """Errors by person, None for a miss; loops over the protocol's text, joints counted from 1."""
    taken, errors = set(), []
    for person in range(len(truth)):
        best, votes = None, 0
        for other in range(len(found)):
            agree = 0
            for joint in range(2, 15):
                u, v = found_px[other][joint - 1]
                x, y = true_px[person][joint - 1]
                agree += abs(u - x) < 40 and abs(v - y) < 40 and (u, v) != (0, 0)
            if other not in taken and agree > votes:
                best, votes = other, agree
        if best is None:
            errors.append(None)
            continue
        taken.add(best)
        gt, p = truth[person], found[best]
        if relative:
            gt, p = gt - gt[14], p - p[14]
        placed = {15: p[14]}
        for joint, parent in BONES:
            bone = p[joint - 1] - p[parent - 1]
            length = np.linalg.norm(gt[joint - 1] - gt[parent - 1])
            placed[joint] = placed[parent] + bone / np.linalg.norm(bone) * length
        errors.append([np.linalg.norm(placed[joint] - gt[joint - 1]) for joint in range(1, 18)])
    return errors


@st.composite
def mupots_frames(draw: st.DrawFn):
    """Frames with misses, duplicates, nobody, ties of pixels at exactly 40, unpredicted joints."""
    rng = np.random.default_rng(draw(seeds))
    people, others = draw(st.integers(0, 3)), draw(st.integers(0, 4))
    truth = rng.normal(0, 300, (people, 17, 3)) + [0, 0, 4000]
    true_px = rng.uniform(0, 2000, (people, 1, 2)) + rng.normal(0, 80, (people, 17, 2)).round()
    if people > 1 and draw(st.booleans()):
        true_px[1] = true_px[0]
    found = rng.normal(0, 300, (others, 17, 3)) + [0, 0, 4000]
    found_px = rng.uniform(0, 2000, (others, 17, 2))
    kind = draw(st.sampled_from(["random", "near", "tie", "duplicate", "zero"]))
    if people and others and kind != "random":
        source = rng.integers(0, people, others)
        found_px = true_px[source] + {"near": 15, "tie": 40, "duplicate": 0, "zero": 5}[
            kind
        ] * rng.integers(-1, 2, found_px.shape)
        found = truth[source] + rng.normal(0, 60, found.shape)
        if kind == "duplicate":
            found_px[:], found[:] = found_px[0], found[0]
        if kind == "zero":
            found_px[rng.random(found_px.shape[:2]) < 0.5] = 0
    return true_px, truth, found_px, found


class TestMupots:
    @given(frames=st.lists(mupots_frames(), min_size=1, max_size=4), relative=st.booleans())
    @settings(max_examples=60, deadline=None)
    def test_agrees_with_a_plain_reference(self, frames, relative: bool) -> None:
        wanted, errors, matched = [], [], []
        for true_px, truth, found_px, found in frames:
            wanted += mupots_reference(true_px, truth, found_px, found, relative)
            chosen = match_mupots(true_px, found_px)
            errors.append(mupots_errors(found, truth, chosen, relative))
            matched.append(chosen >= 0)
        ours = MupotsSequence("TS1", np.concatenate(errors), np.concatenate(matched))
        assert [e is not None for e in wanted] == ours.matched.tolist()
        for mine, other in zip(ours.errors, wanted):
            if other is not None:
                assert np.abs(mine - other).max() < TIGHT
        scores = sequence_scores(ours)
        all_errors = [e if e is not None else [np.inf] * 17 for e in wanted]
        for name, people in (("all", all_errors), ("matched", [e for e in wanted if e])):
            pck, auc = getattr(scores, f"pck_{name}"), getattr(scores, f"auc_{name}")
            if not people:
                assert np.isnan(pck) and np.isnan(auc)
                continue
            joints = [error for person in people for error in person[:14]]
            rights = [sum(e < t for e in joints) / len(joints) for t in range(0, 151, 5)]
            assert abs(pck - 100 * rights[-1]) < 1e-9
            assert abs(auc - 100 * sum(rights) / 31) < 1e-9

    def test_perfect(self) -> None:
        rng = np.random.default_rng(0)
        truth = rng.normal(0, 300, (2, 17, 3))
        px = rng.uniform(100, 900, (2, 17, 2))
        errors = mupots_errors(truth[::-1] + 700, truth, match_mupots(px, px[::-1]))
        scores = sequence_scores(MupotsSequence("TS1", errors, np.ones(2, bool)))
        assert scores.pck_all == scores.pck_matched == 100
        assert np.isclose(scores.auc_all, 100 * 30 / 31)  # nothing is nearer than 0 mm

    @given(seed=seeds)
    @settings(max_examples=20, deadline=None)
    def test_rescaled_bones_have_the_truths_lengths(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        found, truth = rng.normal(size=(2, 5, 17, 3))
        scaled = rescale_bones(found, truth)
        for joint, parent in BONES:
            bones = [p[:, joint - 1] - p[:, parent - 1] for p in (scaled, truth, found)]
            lengths = [np.linalg.norm(bone, axis=-1) for bone in bones]
            assert np.allclose(lengths[0], lengths[1])
            assert np.allclose(bones[0] * lengths[2][:, None], bones[2] * lengths[0][:, None])

    def test_a_bone_without_length_is_wrong_and_harms_nobody(self) -> None:
        truth = np.random.default_rng(0).normal(0, 300, (2, 17, 3))
        found = truth.copy()
        found[0, 4] = found[0, 3]
        errors = mupots_errors(found, truth, np.arange(2))
        assert np.isnan(errors[0, 4]) and np.isfinite(errors[0, :4]).all()
        assert sequence_scores(MupotsSequence("", errors, np.ones(2, bool))).pck_all < 100
        assert np.abs(errors[1]).max() < 1e-9

    def test_means_are_over_sequences(self) -> None:
        good = MupotsSequence("TS1", np.zeros((1, 17)), np.ones(1, bool))
        bad = MupotsSequence("TS2", np.full((9, 17), 1e5), np.zeros(9, bool))
        scores = mupots_scores([good, bad])
        assert scores.pck_all == 50 and scores.pck_matched == 100
        assert scores.annotated == 10 and scores.matched == 1


def agora_reference(found: AgoraFound, truth: AgoraTruth):
    """Prediction of each truth or None, and the number of false positives; loops."""
    pairs = []
    for p, predicted in enumerate(found.joints_px):
        for g, known in enumerate(truth.joints_px):
            d = predicted - known
            # Largest singular value of the 24 x 2 difference, by the 2 x 2 eigenproblem.
            a, b, c = (d[:, 0] ** 2).sum(), (d[:, 0] * d[:, 1]).sum(), (d[:, 1] ** 2).sum()
            error = np.sqrt((a + c) / 2 + np.sqrt(((a - c) / 2) ** 2 + b**2))
            x1, y1, x2, y2 = found.boxes[p]
            u1, v1, u2, v2 = truth.boxes[g]
            width, height = min(x2, u2) - max(x1, u1) + 1, min(y2, v2) - max(y1, v1) + 1
            both = max(width, 0) * max(height, 0)
            areas = (x2 - x1 + 1) * (y2 - y1 + 1) + (u2 - u1 + 1) * (v2 - v1 + 1)
            pairs.append((round(error, 6), p, g, both / (areas - both)))
    pairs.sort(key=lambda pair: pair[:3])
    match: dict[int, int] = {}
    gone: set[int] = set()
    far = 0
    for _, p, g, iou in pairs:
        if len(gone) == len(truth.joints) or len(match) + far >= len(found.joints):
            break
        counts = truth.valid[g] and 0 <= truth.occlusion[g] <= 90
        if iou < 0.1:
            far += 1
            if not counts:
                gone.add(g)
        elif g not in gone and p not in match.values():
            gone.add(g)
            if counts:
                match[g] = p
    return [match.get(g) for g in range(len(truth.joints))], len(found.joints) - len(match)


@st.composite
def agora_frames(draw: st.DrawFn):
    """Frames with misses, duplicates, nobody, people on one another, ties, occluded people."""
    rng = np.random.default_rng(draw(seeds))
    people, others = draw(st.integers(0, 4)), draw(st.integers(0, 5))
    kind = draw(st.sampled_from(["near", "random", "duplicate", "stacked", "far too"]))
    centre = rng.uniform(0, 3000, (people, 1, 2)) * (kind != "stacked")
    true_px = centre + rng.normal(0, 100, (people, 24, 2))
    if people > 1 and kind == "stacked":
        true_px[1] = true_px[0]
    found_px = rng.uniform(0, 3000, (others, 1, 2)) + rng.normal(0, 100, (others, 24, 2))
    if people and others and kind != "random":
        source = rng.integers(0, people, others)
        near = true_px[source] + rng.choice([0, 30, 150]) * rng.normal(size=found_px.shape)
        keep = rng.random(others) < (0.5 if kind == "far too" else 1)
        found_px = np.where(keep[:, None, None], near, found_px)
        if kind == "duplicate":
            found_px[:] = found_px[0]
    occlusion = rng.choice([5.0, 50.0, 90.0, 90.1, -1.0], people)
    found = AgoraFound(
        found_px,
        tight_boxes(found_px),
        rng.normal(size=(others, 24, 3)),
        rng.normal(size=(others, 30, 3)),
    )
    truth = AgoraTruth(
        true_px,
        tight_boxes(true_px),
        rng.normal(size=(people, 24, 3)),
        rng.normal(size=(people, 30, 3)),
        (occlusion >= 0) & (occlusion <= 90) & (rng.random(people) < 0.9),
        occlusion,
        rng.random(people) < 0.3,
    )
    return found, truth


def agora_people(count: int, seed: int = 0, apart: float = 600.0) -> tuple[AgoraFound, AgoraTruth]:
    """People far from one another, all found exactly."""
    rng = np.random.default_rng(seed)
    px = apart * np.arange(count)[:, None, None] + rng.normal(0, 60, (count, 24, 2))
    joints, mesh = rng.normal(size=(count, 24, 3)), rng.normal(size=(count, 30, 3))
    everybody = px, tight_boxes(px), joints, mesh
    marks = np.ones(count, bool), np.zeros(count), np.zeros(count, bool)
    return AgoraFound(*everybody), AgoraTruth(*everybody, *marks)


def without_numbers(found: AgoraFound) -> AgoraFound:
    """The same with a NaN in the first person's mesh."""
    mesh = found.vertices.copy()
    mesh[0, 3, 1] = np.nan
    return AgoraFound(found.joints_px, found.boxes, found.joints, mesh)


class TestAgora:
    @given(frames=st.lists(agora_frames(), min_size=1, max_size=4))
    @settings(max_examples=80, deadline=None)
    def test_agrees_with_a_plain_reference(self, frames) -> None:
        errors: list[AgoraErrors] = []
        joint, vertex, counts, wrong = [], [], 0, 0
        for found, truth in frames:
            mine = agora_errors(found, truth)
            match, extra = agora_reference(found, truth)
            assert [None if c < 0 else c for c in mine.chosen.tolist()] == match
            assert mine.wrong == extra
            errors.append(mine)
            counts += int(truth.valid.sum())
            wrong += extra
            for g, p in enumerate(match):
                if p is None:
                    continue
                hips = [(x[1] + x[2]) / 2 for x in (found.joints[p], truth.joints[g])]
                for total, name in ((joint, "joints"), (vertex, "vertices")):
                    a, b = getattr(found, name)[p], getattr(truth, name)[g]
                    both = zip(a - hips[0], b - hips[1])
                    total.append(np.mean([np.linalg.norm(x - y) for x, y in both]))
        scores = agora_scores(errors)
        assert scores.counts.correct == len(joint)
        assert scores.counts.missed == counts - len(joint)
        if joint:
            assert abs(scores.mpjpe_mm - 1e3 * np.mean(joint)) < TIGHT
            assert abs(scores.mve_mm - 1e3 * np.mean(vertex)) < TIGHT
            f1 = round(2 * len(joint) / (2 * len(joint) + wrong + counts - len(joint)), 2)
            assert np.isclose(scores.nmje_mm, 1e3 * np.mean(joint) / f1)
        else:
            assert np.isnan(scores.mpjpe_mm) and np.isnan(scores.nmje_mm)

    def test_perfect(self) -> None:
        scores = agora_scores([agora_errors(*agora_people(3))])
        assert scores.counts == DetectionCounts(3, 0, 0)
        assert scores.mpjpe_mm == scores.nmve_mm == 0

    def test_a_prediction_on_somebody_too_occluded_is_wrong(self) -> None:
        found, truth = agora_people(2)
        hidden = AgoraTruth(
            truth.joints_px, truth.boxes, truth.joints, truth.vertices,
            np.array([True, False]), np.array([0.0, 95.0]), truth.kid,
        )  # fmt: skip
        assert agora_scores([agora_errors(found, hidden)]).counts == DetectionCounts(1, 1, 0)

    def test_numbers_that_are_none_are_a_miss_and_a_false_positive(self) -> None:
        found, truth = agora_people(2)
        scores = agora_scores([agora_errors(without_numbers(found), truth)])
        assert scores.counts == DetectionCounts(1, 1, 1)
        assert scores.mpjpe_mm == 0

    def test_errors_are_rounded_before_and_after_f1(self) -> None:
        found, truth = agora_people(3)
        moved = found.joints + np.arange(24)[:, None] * 0.0123
        few = AgoraFound(found.joints_px[:2], found.boxes[:2], moved[:2], found.vertices[:2])
        scores = agora_scores([agora_errors(few, truth)])
        published = scores.published()
        assert published["F1"] == 0.8 and published["recall"] == 0.67
        assert published["MPJPE"] == round(scores.mpjpe_mm, 1)
        assert published["NMJE"] == round(published["MPJPE"] / 0.8, 1)

    def test_children_alone(self) -> None:
        found, truth = agora_people(3)
        kids = AgoraTruth(
            truth.joints_px, truth.boxes, truth.joints, truth.vertices, truth.valid,
            truth.occlusion, np.array([True, False, False]),
        )  # fmt: skip
        scores = agora_scores([agora_errors(found, kids)], kids=True)
        assert scores.counts == DetectionCounts(1, 0, 0)

    def test_iou_counts_pixels(self) -> None:
        box = np.array([[0.0, 0.0, 9.0, 9.0]])
        beside = box + [10, 0, 10, 0]
        assert keypoint_iou(box, box) == 1
        assert keypoint_iou(box, beside) == 0
        assert np.isclose(keypoint_iou(box, box + [9, 0, 9, 0]), 10 / 190)

    def test_bodies_without_a_mesh(self) -> None:
        found, truth = agora_people(2)
        scores = agora_scores([agora_errors(dataclasses.replace(found, vertices=None), truth)])
        assert scores.mpjpe_mm == 0 and np.isnan(scores.mve_mm) and np.isnan(scores.nmve_mm)

    def test_wrong_shapes(self) -> None:
        found, truth = agora_people(2)
        other = AgoraFound(found.joints_px, found.boxes, found.joints, found.vertices[:, :7])
        with pytest.raises(ShapeError, match="must have shape"):
            agora_errors(other, truth)
