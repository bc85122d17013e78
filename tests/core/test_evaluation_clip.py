"""The clip protocol: who is compared with whom, what counts as missed, wrong and switched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from people_samples import standing_person

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.camera import Camera
from mpmesh_core.drawing import person_vertices
from mpmesh_core.evaluation.clip import ClipReport, PosedTruth, compare_clip
from mpmesh_core.types import FrameResult, Person

CAMERA = Camera.from_fov(640, 480)
Spot = tuple[float, float]  # x, z [m]


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("open")


def compared(
    body: BodyModel, frames: list[tuple[dict[int, Spot], list[tuple[Spot, float]]]]
) -> ClipReport:
    """Frames, each of people by track and of truths by place and visibility."""
    results, truths = [], []
    for number, (people, known) in enumerate(frames):
        found = [standing_person(body, CAMERA, *spot, track) for track, spot in people.items()]
        results.append(FrameResult(number, number / 15, "", 640, 480, CAMERA.K, CAMERA.D, found))
        truths.append([truth(body, standing_person(body, CAMERA, *s), v) for s, v in known])
    return compare_clip(results, truths, body)


def truth(body: BodyModel, person: Person, visibility: float) -> PosedTruth:
    return PosedTruth(visibility, person.joints, person_vertices(body, [person])[0])


def test_the_truth_has_no_errors(body: BodyModel) -> None:
    both = {1: (-1.0, 4.0), 2: (1.0, 5.0)}
    report = compared(body, [(both, [(spot, 1.0) for spot in both.values()])] * 3)
    assert (report.frames, report.truths, report.matched) == (3, 6, 6)
    assert report.false_positives == report.id_switches == 0
    figures = (report.mpjpe_mm, report.pa_mpjpe_mm, report.pve_mm, report.position_mm)
    np.testing.assert_allclose(figures, 0, atol=1e-2)


def test_a_step_aside_is_an_error_of_position_alone(body: BodyModel) -> None:
    report = compared(body, [({1: (0.3, 4.0)}, [((0.0, 4.0), 1.0)])])
    assert report.position_mm == pytest.approx(300, abs=0.1)
    assert report.position_relative == pytest.approx(300 / 4000, rel=1e-4)
    assert report.mpjpe_mm == pytest.approx(0, abs=1e-2)


def test_too_far_is_missed_and_wrong(body: BodyModel) -> None:
    report = compared(body, [({1: (0.0, 5.5)}, [((0.0, 4.0), 1.0), ((2.0, 4.0), 0.4)])])
    assert (report.truths, report.matched, report.false_positives) == (1, 0, 1)
    assert np.isnan(report.mpjpe_mm)


def test_nobody_is_taken_for_somebody_hidden_close_by(body: BodyModel) -> None:
    """Even where the hidden one is nearer to where the visible one was found."""
    seen, hidden = (0.0, 4.0), (0.0, 4.5)
    for visibility, off in ((0.1, 400), (0.9, 100)):
        report = compared(body, [({1: (0.0, 4.4)}, [(seen, 1.0), (hidden, visibility)])])
        assert report.position_mm == pytest.approx(off, abs=0.1)


def test_pairs_stay_while_people_pass(body: BodyModel) -> None:
    """Distances off by a stride are no switch; tracks that change are, once."""
    truths = [((-0.2, 4.0), 1.0), ((0.2, 4.3), 1.0)]
    right = {1: (-0.2, 4.0), 2: (0.2, 4.3)}
    off = {1: (0.1, 4.3), 2: (-0.1, 4.0)}
    assert compared(body, [(right, truths), (off, truths), (right, truths)]).id_switches == 0
    swapped = {2: right[1], 1: right[2]}
    apart = [((-2.0, 4.0), 1.0), ((2.0, 4.3), 1.0)]
    far = {2: (-2.0, 4.0), 1: (2.0, 4.3)}
    assert compared(body, [(right, truths), (swapped, truths), (far, apart)]).id_switches == 2


def test_velocities_are_compared_with_the_way_made(body: BodyModel) -> None:
    results, truths = [], []
    for number in range(12):
        person = standing_person(body, CAMERA, -0.5 + number / 10, 4.0)
        known = None if number < 3 else np.array([1.0, 0.3, 0.0])
        people = [replace(person, velocity=known)]
        results.append(FrameResult(number, number / 10, "", 640, 480, CAMERA.K, CAMERA.D, people))
        truths.append([truth(body, person, 1.0)])
    report = compare_clip(results, truths, body)
    assert report.velocity_error == pytest.approx(0.3, abs=1e-4)
    assert np.isnan(compare_clip(results[:3], truths[:3], body).velocity_error)


def test_without_tracks_nothing_switches(body: BodyModel) -> None:
    person = replace(standing_person(body, CAMERA, 0.0, 4.0), track_id=-1)
    result = FrameResult(0, 0.0, "", 640, 480, CAMERA.K, CAMERA.D, [person])
    known = [truth(body, person, 1.0)]
    assert compare_clip([result] * 2, [known] * 2, body).id_switches == 0
