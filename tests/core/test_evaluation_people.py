"""evaluation.people and its report: known errors come out, identities are TrackEval's, the page."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from people_samples import random_person, random_result

from mpmesh_core.errors import InputError
from mpmesh_core.evaluation.identities import identity_report
from mpmesh_core.evaluation.matching import match_positions
from mpmesh_core.evaluation.observed import ObservedFrame, observed_in_results
from mpmesh_core.evaluation.people import compare_people, pair_frames
from mpmesh_core.evaluation.report_page import Evaluation, report_figures, report_page
from mpmesh_core.outputs import ResultsWriter

STEP = 33_333_333  # [ns] between frames


def walk(frames=20, people=3, seed=0):
    """People who walk side by side, 2 m apart, 5 m away."""
    rng = np.random.default_rng(seed)
    shape = rng.normal(0, 0.3, (people, 24, 3))
    shape -= shape[:, :1]
    start = np.stack([2.0 * np.arange(people), np.zeros(people), np.full(people, 5.0)], axis=-1)
    return [
        ObservedFrame(
            10**18 + i * STEP,
            np.arange(1, people + 1),
            start + 0.03 * i,
            start[:, None] + 0.03 * i + shape,
        )
        for i in range(frames)
    ]


def moved(frames, shift):
    return [
        replace(
            f, positions=f.positions + shift, joints=None if f.joints is None else f.joints + shift
        )
        for f in frames
    ]


class TestKnownErrors:
    def test_the_truth_itself_is_perfect(self):
        pytest.importorskip("trackeval", reason="the optional package trackeval isn't installed")
        report, _ = compare_people(walk(), walk())
        assert (report.f1, report.precision, report.recall, report.missing_frames) == (1, 1, 1, 0)
        assert report.mpjpe_mm == report.position_mm == 0
        assert report.pa_mpjpe_mm == pytest.approx(0, abs=1e-6)
        identities = report.identities
        assert identities.mota == identities.idf1 == identities.id_switches + 1 == 1
        assert identities.hota == pytest.approx(1)

    @settings(max_examples=20, deadline=None)
    @given(st.tuples(*3 * [st.floats(-0.5, 0.5)]))
    def test_a_shift_is_a_position_error_and_no_joint_error(self, shift):
        report, frames = compare_people(unknown(moved(walk(4), np.array(shift))), walk(4))
        assert report.position_mm == pytest.approx(1e3 * np.linalg.norm(shift), abs=1e-6)
        assert report.mpjpe_mm == pytest.approx(0, abs=1e-6)
        assert sum(len(frame.position) for frame in frames) == report.matched == 12

    def test_turned_people_have_no_error_after_alignment(self):
        truth = walk(2)
        turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
        joints = [f.joints[:, :1] + (f.joints - f.joints[:, :1]) @ turn for f in truth]
        found = [replace(f, joints=j) for f, j in zip(truth, joints)]
        report, _ = compare_people(unknown(found), truth)
        assert report.pa_mpjpe_mm == pytest.approx(0, abs=1e-6) and report.mpjpe_mm > 100

    def test_frames_without_result_are_misses(self):
        truth = walk(10)
        report, _ = compare_people(unknown(truth[:5]), truth)
        assert (report.missing_frames, report.recall, report.precision) == (5, 0.5, 1.0)
        assert report.f1 == pytest.approx(2 / 3)

    def test_a_truth_faster_than_the_camera_is_told(self, listen):
        said = listen("mpmesh_core.evaluation.people")
        truth = walk(9)
        compare_people(unknown(truth[::2]), truth)
        assert not said
        compare_people(unknown(truth[::3]), truth)
        (line,) = said
        assert line.startswith("6 of 9 frames of the truth have no result")

    def test_positions_alone(self):
        truth = [replace(frame, joints=None) for frame in walk(3)]
        report, _ = compare_people(unknown(walk(3)), truth)
        assert report.mpjpe_mm is report.pa_mpjpe_mm is None and report.position_mm == 0

    def test_another_recording_is_an_error(self):
        later = [replace(frame, stamp_ns=frame.stamp_ns + 10**10) for frame in walk(3)]
        for found in (later, []):
            with pytest.raises(InputError, match="none of the 3 frames"):
                compare_people(found, walk(3))


def unknown(frames):
    """The same people without identities, which need no trackeval."""
    return [replace(frame, ids=np.full(len(frame.ids), -1)) for frame in frames]


class TestPairs:
    @settings(deadline=None)
    @given(
        st.lists(st.integers(0, 10**9), min_size=1, max_size=30, unique=True).map(sorted),
        st.lists(st.integers(0, 10**9), max_size=30, unique=True).map(sorted),
    )
    def test_each_truth_has_its_nearest_frame_or_none(self, known, stamps):
        nobody = walk(1, 0)[0]
        found = [replace(nobody, stamp_ns=stamp) for stamp in stamps]
        truth = [replace(nobody, stamp_ns=stamp) for stamp in known]
        paired = pair_frames(found, truth)
        given = {f.stamp_ns: abs(f.stamp_ns - s) for f, s in zip(paired, known) if f is not None}
        assert len(given) == sum(frame is not None for frame in paired)  # none of them twice
        for frame, stamp in zip(paired, known, strict=True):
            nearest = min((abs(s - stamp) for s in stamps), default=10**18)
            if frame is not None:
                assert abs(frame.stamp_ns - stamp) == nearest <= 5_000_000
            elif nearest <= 5_000_000:  # a nearer truth has it
                ties = [s for s in stamps if abs(s - stamp) == nearest]
                assert any(given.get(s, 10**18) <= nearest for s in ties)

    @settings(deadline=None)
    @given(st.lists(st.integers(0, 5), min_size=1, max_size=30).map(sorted))
    def test_repeated_stamps_are_paired_in_order(self, steps):
        """A bag that was played in a loop."""
        frames = [replace(walk(1, 0)[0], stamp_ns=STEP * step) for step in steps]
        assert all(a is b for a, b in zip(pair_frames(frames, frames), frames, strict=True))

    def test_a_frame_is_found_once(self):
        twice = [walk(2)[0], moved(walk(1), np.array([9.0, 0, 0]))[0]]
        report, _ = compare_people(unknown(twice), twice)
        assert (report.f1, report.missing_frames) == (1, 0)
        report, _ = compare_people(unknown(twice[:1]), twice)
        assert (report.recall, report.missing_frames) == (0.5, 1)

    def test_matches_are_one_to_one_and_near(self):
        rng = np.random.default_rng(1)
        found, known = rng.uniform(0, 4, (20, 3)), rng.uniform(0, 4, (15, 3))
        pairs = match_positions(found, known)
        rows, columns = zip(*pairs)
        assert len(set(rows)) == len(rows) and len(set(columns)) == len(columns)
        assert all(np.linalg.norm(found[r] - known[c]) <= 1 for r, c in pairs)
        assert match_positions(found[:0], known) == match_positions(found, known[:0]) == []


class TestIdentities:
    @pytest.fixture(autouse=True)
    def _trackeval(self):
        pytest.importorskip("trackeval", reason="the optional package trackeval isn't installed")

    def test_swapped_halfway(self):
        truth = walk(20, 2)
        found = [replace(f, ids=f.ids if i < 10 else f.ids[::-1]) for i, f in enumerate(truth)]
        report, _ = compare_people(found, truth)
        identities = report.identities
        assert identities.id_switches == 2
        assert identities.mota == pytest.approx(1 - 2 / 40)
        assert identities.idf1 == pytest.approx(0.5)
        assert identities.detection_accuracy == pytest.approx(1)
        assert identities.hota == pytest.approx(np.sqrt(identities.association_accuracy))

    def test_nobody_anywhere(self):
        none = [np.zeros(0, np.int64)] * 3
        report = identity_report(none, [np.zeros((0, 3))] * 3, none, [np.zeros((0, 3))] * 3)
        assert report.id_switches == 0


class TestResultsFile:
    def test_seen_people_only(self, tmp_path):
        rng = np.random.default_rng(0)
        states = ("tracked", "coasted", "new", "lost")
        people = [replace(random_person(rng, i), state=s) for i, s in enumerate(states)]
        result = replace(random_result(rng, frame=4), people=people)
        with ResultsWriter(tmp_path) as writer:
            writer.write(result)
        (frame,) = observed_in_results(tmp_path / "results.jsonl")
        assert frame.ids.tolist() == [0, 2]
        np.testing.assert_allclose(frame.joints[1], people[2].joints, rtol=1e-5)
        assert frame.stamp_ns == round(4 / 30 * 1e6) * 1000


class TestPage:
    @pytest.fixture
    def evaluation(self):
        pytest.importorskip("matplotlib", reason="the optional package matplotlib isn't installed")
        found, truth = unknown(moved(walk(), np.array([0.1, 0, 0.2]))), walk()
        report, frames = compare_people(found, truth)
        latency = list(np.linspace(20, 60, len(truth)))
        return Evaluation("People in <drive>", "truth", report, frames, found, truth, latency)

    def test_needs_nothing_else_and_is_the_same_again(self, evaluation):
        page = report_page(evaluation)
        assert page == report_page(evaluation)
        assert "People in &lt;drive&gt;" in page and "223.6 mm" in page
        assert page.count("<svg") == 5
        for svg in page.split("<figure>")[1:]:
            element = ElementTree.fromstring(svg.split("<figcaption")[0])
            for part in element.iter():
                for name, value in part.attrib.items():
                    assert not (name.endswith(("href", "src")) and "//" in value)

    def test_figures_of_an_empty_comparison(self, evaluation):
        nobody = walk(3, 0)
        report, frames = compare_people(nobody, nobody)
        empty = Evaluation("nobody", "truth", report, frames, nobody, nobody)
        figures = dict(report_figures(empty))
        assert figures["MPJPE"] == "–" and "latency p50 / p95" not in figures
        assert "<svg" in report_page(empty)
        json.dumps(figures)
