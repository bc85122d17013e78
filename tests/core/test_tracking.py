"""tracking: known identities through crossings, occlusion, misses and false positives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from pydantic import ValidationError

from mpmesh_core import kalman
from mpmesh_core.association import assign, box_overlap, moved_boxes
from mpmesh_core.tracking import Tracker, TrackerConfig, TrackerState, step
from mpmesh_core.types import FrameResult, Person

K = np.array([[554.0, 0, 319.5], [0, 554.0, 239.5], [0, 0, 1]])
Path = Callable[[float], np.ndarray]


def person_at(
    position: np.ndarray, rng: np.random.Generator, who: int, depth_noise: float = 0.0
) -> Person:
    """A person as the line would measure one: precise across the ray, not along it."""
    ray = position / np.linalg.norm(position)
    sigma_along, sigma_across = max(depth_noise * position[2], 0.01), 0.01
    noise = sigma_across * rng.standard_normal(3) + sigma_along * rng.standard_normal() * ray
    measured = position + (noise if depth_noise else 0.0)
    covariance = sigma_across**2 * np.eye(3) + sigma_along**2 * np.outer(ray, ray)
    body = np.random.default_rng(who)  # everybody stands; each a little differently
    pose = np.random.default_rng(0).normal(0, 0.25, (24, 3)) + body.normal(0, 0.05, (24, 3))
    joints = measured + pose + 0.04 * rng.standard_normal((24, 3))
    joints[0] = measured
    size = np.array([0.5, 1.75]) * K[0, 0] / position[2]
    centre = position[:2] / position[2] * K[0, 0] + K[:2, 2]
    box = np.concatenate((centre - size / 2, centre + size / 2)) + 2 * rng.standard_normal(4)
    return Person(
        score=0.9,
        bbox=box.astype(np.float32),
        global_orient=np.zeros(3),
        body_pose=np.zeros(69),
        betas=body.normal(0, 0.7, 10) + 0.5 * rng.standard_normal(10),
        transl=measured + np.array([0, 0.2, 0]),
        joints=joints,
        joints_2d=np.tile(centre, (24, 1)),
        joint_confidence=np.ones(24),
        coco_2d=np.tile(centre, (17, 1)),
        h36m=np.tile(measured, (17, 1)),
        position=measured,
        position_covariance=covariance,
    )


def frame_of(people: list[Person], stamp: float, number: int = 0) -> FrameResult:
    return FrameResult(number, stamp, "simulated", 640, 480, K, np.zeros(0), people)


@dataclass
class Scene:
    """Walking people, as a camera with these faults measures them."""

    paths: list[Path]
    stamps: np.ndarray
    depth_noise: float = 0.03
    miss: float = 0.0
    false_positives: float = 0.0
    hidden_share: float = 0.6  # of a box behind a nearer one, from which it is not found
    seed: int = 0

    def frames(self) -> list[tuple[FrameResult, list[int]]]:
        """Frames and, for each of their people, who it really is (-1 for a false positive)."""
        rng = np.random.default_rng(self.seed)
        return [self._frame(i, stamp, rng) for i, stamp in enumerate(self.stamps)]

    def _frame(
        self, number: int, stamp: float, rng: np.random.Generator
    ) -> tuple[FrameResult, list[int]]:
        at = [path(stamp) for path in self.paths]
        order = np.argsort([position[2] for position in at])
        people, truth, nearer = [], [], np.zeros((0, 4))
        for who in order:
            person = person_at(at[who], rng, int(who), self.depth_noise)
            low = np.maximum(nearer[:, :2], person.bbox[:2])
            shared = (np.minimum(nearer[:, 2:], person.bbox[2:]) - low).clip(0).prod(-1)
            hidden = (shared > self.hidden_share * np.prod(person.bbox[2:] - person.bbox[:2])).any()
            nearer = np.vstack((nearer, person.bbox))
            if not hidden and rng.random() >= self.miss:
                people.append(person)
                truth.append(int(who))
        for _ in range(rng.poisson(self.false_positives)):
            place = np.array([rng.uniform(-2, 2), rng.uniform(-1, 1), rng.uniform(2, 8)])
            people.append(person_at(place, rng, 1000 + int(rng.integers(1000)), self.depth_noise))
            truth.append(-1)
        shuffled = rng.permutation(len(people))
        frame = frame_of([people[i] for i in shuffled], float(stamp), number)
        return frame, [truth[i] for i in shuffled]


@dataclass
class Identities:
    """What a tracker made of a scene with known people."""

    sightings: int = 0
    swaps: int = 0  # a person gets a track that was somebody else's
    breaks: int = 0  # a person gets a new track after less than `max_coast_s` out of sight


def follow(scene: Scene, config: TrackerConfig | None = None) -> Identities:
    tracker, found = Tracker(config), Identities()
    track: dict[int, int] = {}
    owner: dict[int, int] = {}
    seen: dict[int, float] = {}
    for frame, truth in scene.frames():
        for who, person in zip(truth, tracker.update(frame).people):
            if who < 0:
                owner.setdefault(person.track_id, who)
                continue
            found.sightings += 1
            if track.setdefault(who, person.track_id) != person.track_id:
                swap = owner.get(person.track_id, who) != who
                found.swaps += swap
                gone = frame.stamp - seen[who]
                found.breaks += not swap and gone <= tracker.config.max_coast_s
            track[who], seen[who] = person.track_id, frame.stamp
            owner.setdefault(person.track_id, who)
    return found


def walk(start: tuple, velocity: tuple) -> Path:
    return lambda t: np.array(start) + t * np.array(velocity)


def crowd(count: int, seed: int = 0) -> list[Path]:
    rng = np.random.default_rng(seed)
    start = rng.uniform((-3, -0.2, 3), (3, 0.2, 12), (count, 3))
    swing = rng.uniform(0.3, 0.8, (count, 2))
    phase, pace = rng.uniform(0, 6.3, (count, 2)), rng.uniform(0.6, 1.4, (count, 2))

    def path(i: int) -> Path:
        def at(t: float) -> np.ndarray:
            x, z = swing[i] * np.sin(phase[i] + pace[i] * t)
            return start[i] + (x, 0, z)

        return at

    return [path(i) for i in range(count)]


CROSSING = [walk((-1.2, 0, 3.0), (1.0, 0, 0)), walk((1.2, 0, 4.0), (-1.0, 0, 0))]
AT_30 = np.arange(90) / 30


class TestIdentities:
    @pytest.mark.parametrize("seed", range(5))
    def test_crossing_people_keep_their_ids(self, seed: int) -> None:
        found = follow(Scene(CROSSING, AT_30, seed=seed))
        assert (found.swaps, found.breaks) == (0, 0) and found.sightings < 180

    @pytest.mark.parametrize("rate", [8, 15, 60])
    def test_crossing_at_other_rates_with_misses(self, rate: int) -> None:
        found = follow(Scene(CROSSING, np.arange(2.4 * rate) / rate, miss=0.1))
        assert (found.swaps, found.breaks) == (0, 0)

    def test_variable_frame_rate(self) -> None:
        stamps = np.cumsum(np.random.default_rng(0).choice([0.02, 0.03, 0.1, 0.25], 60))
        found = follow(Scene(CROSSING, stamps / stamps[-1] * 2.4))
        assert (found.swaps, found.breaks) == (0, 0)

    def test_meeting_and_turning_back(self) -> None:
        """Two people meet, stop side by side and go back: nobody crosses."""
        paths = [
            lambda t: np.array([-0.35 - abs(1.2 - t), 0, 3.5]),
            lambda t: np.array([0.35 + abs(1.2 - t), 0, 3.6]),
        ]
        found = follow(Scene(paths, np.arange(72) / 30))
        assert (found.swaps, found.breaks) == (0, 0)

    def test_hidden_behind_a_pillar(self) -> None:
        """Not seen for 0.7 s of a steady walk."""
        scene = Scene([walk((-1.5, 0, 4.0), (1.2, 0, 0.1))], AT_30)
        tracker, ids, states = Tracker(), set(), set()
        for i, (frame, _) in enumerate(scene.frames()):
            behind = 40 <= i < 61
            result = tracker.update(replace(frame, people=[] if behind else frame.people))
            ids |= {person.track_id for person in result.people}
            states |= {person.state for person in result.people if behind}
        assert ids == {1} and states == {"coasted"}

    @pytest.mark.parametrize("seed", range(3))
    def test_false_positives_and_misses(self, seed: int) -> None:
        scene = Scene(crowd(4, seed), AT_30, miss=0.15, false_positives=0.5, seed=seed)
        found = follow(scene)
        assert found.swaps == 0 and found.breaks <= 2

    @pytest.mark.parametrize("noise", [0.03, 0.08])
    def test_thirty_people(self, noise: float) -> None:
        """30 people 3 to 12 m away, two thirds of the sightings hidden; 10 % misses, 15 Hz."""
        found = follow(Scene(crowd(30), np.arange(120) / 15, depth_noise=noise, miss=0.1))
        assert found.sightings > 1200
        assert found.swaps <= 0.01 * found.sightings
        assert found.breaks <= 0.01 * found.sightings

    def test_depth_jump_keeps_the_id(self) -> None:
        """A depth error that the covariance doesn't admit, in a box that hardly moved."""
        rng = np.random.default_rng(0)
        tracker, ids = Tracker(), set()
        for i in range(20):
            person = person_at(np.array([0.2, 0, 4.0]), rng, 1, 0.02)
            if i == 12:
                person = replace(person, position=person.position * 1.3)
            result = tracker.update(frame_of([person], i / 30))
            ids |= {p.track_id for p in result.people}
        assert ids == {1}
        assert result.people[0].position[2] == pytest.approx(4.0, abs=0.15)


class TestStates:
    def test_life_of_a_track(self) -> None:
        config = TrackerConfig(max_coast_s=0.5, confirm_hits=3)
        tracker, rng = Tracker(config), np.random.default_rng(0)
        seen: list[tuple[str, bool]] = []
        for i in range(16):
            people = [person_at(np.array([0, 0, 4.0]), rng, 1)] if i < 5 else []
            result = tracker.update(frame_of(people, i * 0.1))
            seen += [(person.state, person.velocity is None) for person in result.people]
        expected = [("new", True)] * 2 + [("tracked", False)] * 3
        assert seen == [*expected, *[("coasted", False)] * 5, ("lost", False)]

    def test_unconfirmed_people_are_given_up_early(self) -> None:
        tracker, rng = Tracker(TrackerConfig(max_coast_s=1.0)), np.random.default_rng(0)
        tracker.update(frame_of([person_at(np.array([0, 0, 4.0]), rng, 1)], 0.0))
        states = [tracker.update(frame_of([], 0.1 * i)).people for i in (1, 2, 3, 4)]
        assert [[p.state for p in people] for people in states] == [
            ["coasted"], ["coasted"], ["lost"], [],
        ]  # fmt: skip

    @pytest.mark.parametrize("stamp", [-1.0, 0.5, 30.0, np.nan])
    def test_time_going_back_or_jumping_resets(self, stamp: float) -> None:
        tracker, rng = Tracker(), np.random.default_rng(0)
        person = person_at(np.array([0, 0, 4.0]), rng, 1)
        for i in range(4):
            tracker.update(frame_of([person], 1.0 + 0.1 * i))
        result = tracker.update(frame_of([person], stamp))
        assert [(p.track_id, p.state) for p in result.people] == [(2, "new"), (1, "lost")]

    def test_poses_are_learnt_where_stamps_stand_still(self) -> None:
        tracker, rng = Tracker(), np.random.default_rng(0)
        first = person_at(np.array([0, 0, 4.0]), rng, 1)
        second = replace(first, joints=first.joints + np.arange(24)[:, None] * 0.01)
        for person in (first, *[second] * 60):
            tracker.update(frame_of([person], 0.0))
        expected = second.joints - second.joints[:1]
        np.testing.assert_allclose(tracker.state.tracks.pose[0], expected, atol=0.01)

    def test_same_stamp_twice(self) -> None:
        tracker, rng = Tracker(), np.random.default_rng(0)
        for _ in range(4):
            result = tracker.update(frame_of([person_at(np.array([0, 0, 4.0]), rng, 1)], 0.0))
        assert [p.track_id for p in result.people] == [1]
        assert np.isfinite(result.people[0].velocity).all()

    def test_coasted_person_moves_as_a_whole(self) -> None:
        tracker, rng = Tracker(), np.random.default_rng(0)
        path = walk((-0.5, 0, 4.0), (1.0, 0, 0))
        for i in range(30):
            last = tracker.update(frame_of([person_at(path(i / 30), rng, 1)], i / 30)).people[0]
        coasted = tracker.update(frame_of([], 1.0 + 0.3)).people[0]
        shift = coasted.position - last.position
        assert shift[0] == pytest.approx(1 / 3, abs=0.06)
        for name in ("transl", "joints", "h36m"):
            np.testing.assert_allclose(
                getattr(coasted, name) - getattr(last, name), shift + 0 * getattr(last, name)
            )
        expected = K[0, 0] * shift[0] / 4.0
        assert (coasted.bbox - last.bbox)[0] == pytest.approx(expected, abs=3.0)
        assert (coasted.joints_2d - last.joints_2d)[0, 0] == pytest.approx(expected, abs=3.0)
        grown = np.diag(coasted.position_covariance) > np.diag(last.position_covariance)
        assert grown.all()

    def test_order_and_untrackable_people(self) -> None:
        rng = np.random.default_rng(0)
        people = [person_at(np.array([x, 0, 4.0]), rng, i) for i, x in enumerate((-1, 0, 1))]
        broken = replace(people[1], position=np.full(3, np.nan))
        result = Tracker().update(frame_of([people[0], broken, people[2]], 0.0))
        assert [p.track_id for p in result.people] == [1, -1, 2]
        assert [p.state for p in result.people] == ["new", "untracked", "new"]
        assert [p.transl[0] for p in result.people] == [p.transl[0] for p in people]

    def test_empty_frames(self) -> None:
        tracker = Tracker()
        assert [tracker.update(frame_of([], 0.1 * i)).people for i in range(3)] == [[], [], []]


class TestFilter:
    def test_velocity_and_position_of_a_walk(self) -> None:
        path = walk((-1.5, 0, 4.0), (1.0, 0, 0.5))
        errors, raw = [], []
        for seed in range(10):
            tracker = Tracker()
            for frame, _ in Scene([path], AT_30, seed=seed).frames():
                person = tracker.update(frame).people[0]
                if frame.stamp > 1.0:
                    errors.append(np.append(person.position - path(frame.stamp), person.velocity))
                    raw.append(frame.people[0].position - path(frame.stamp))
        errors_array, raw_array = np.array(errors), np.array(raw)
        velocity_error = errors_array[:, 3:] - (1.0, 0, 0.5)
        assert np.abs(velocity_error.mean(0)).max() < 0.1
        assert np.sqrt((velocity_error[:, [0, 2]] ** 2).mean(0)).max() < 0.45
        filtered = np.sqrt((errors_array[:, 2] ** 2).mean())
        assert filtered < 0.6 * np.sqrt((raw_array[:, 2] ** 2).mean())

    def test_covariance_claims_what_it_should(self) -> None:
        """Motion and noise drawn from the filter's own model: 68 % inside the 1-sigma volume."""
        rng = np.random.default_rng(0)
        R = np.tile(np.diag([0.02, 0.02, 0.2]) ** 2, (500, 1, 1))
        truth = np.concatenate((rng.normal(0, 2, (500, 3)), rng.normal(0, 1, (500, 3))), -1)
        chol = np.linalg.cholesky(R)
        mean, covariance = kalman.initiate(
            truth[:, :3] + (chol @ rng.normal(size=(500, 3, 1)))[..., 0], R, 1.0
        )
        for _ in range(20):
            nothing = np.zeros((1, 6, 6))
            Q = kalman.predict(np.zeros((1, 6)), nothing, 0.1, 2.0)[1][0]
            truth, _ = kalman.predict(truth, np.zeros((500, 6, 6)), 0.1, 2.0)
            truth = truth + rng.normal(size=(500, 6)) @ np.linalg.cholesky(Q).T
            mean, covariance = kalman.predict(mean, covariance, 0.1, 2.0)
            z = truth[:, :3] + (chol @ rng.normal(size=(500, 3, 1)))[..., 0]
            mean, covariance = kalman.update(mean, covariance, z, R)
        error = mean - truth
        squared = (error * np.linalg.solve(covariance, error[..., None])[..., 0]).sum(-1)
        assert (squared < 7.038).mean() == pytest.approx(0.6827, abs=0.06)  # chi-square, 6 dof

    def test_an_error_that_stays_is_claimed_but_is_no_noise(self) -> None:
        """Somebody stands still and is measured beside the truth, always by as much."""
        rng = np.random.default_rng(0)
        tracker, lasting = Tracker(TrackerConfig(lasting_sigma=0.06)), 0.06**2 * np.eye(3)
        where = np.array([0.3, 0.2, 4.0])
        for number in range(60):
            person = person_at(where, rng, 0)
            claimed = person.position_covariance + lasting
            person = replace(person, position_covariance=claimed)
            result = tracker.update(frame_of([person], number / 30, number))
        found = result.people[0]
        assert np.linalg.eigvalsh(found.position_covariance - 0.9 * lasting)[0] > 0
        assert np.linalg.norm(found.velocity) < 0.15
        sharp = Tracker(TrackerConfig(lasting_sigma=0.0))
        rng = np.random.default_rng(0)
        for number in range(60):
            precise = sharp.update(frame_of([person_at(where, rng, 0)], number / 30, number))
        np.testing.assert_allclose(found.position, precise.people[0].position, atol=2e-3)

    def test_one_track_never_depends_on_the_others(self) -> None:
        """A far away second person changes nothing about the first."""
        paths = [walk((-1.0, 0, 3.0), (0.5, 0, 0)), walk((2.0, 0, 9.0), (0, 0, 0.1))]
        both, alone = Tracker(), Tracker()
        for frame, truth in Scene(paths, AT_30[:20]).frames():
            first = frame.people[truth.index(0)]
            mine = both.update(frame).people[truth.index(0)]
            other = alone.update(replace(frame, people=[first])).people[0]
            np.testing.assert_allclose(mine.position, other.position, atol=1e-9)

    def test_deterministic_and_pure(self) -> None:
        frames = [frame for frame, _ in Scene(crowd(5), AT_30[:30], miss=0.1).frames()]
        runs = []
        for _ in range(2):
            state, config, positions = TrackerState(), TrackerConfig(), []
            for frame in frames:
                again = step(state, frame, config)[1]
                state, result = step(state, frame, config)
                positions.append([p.position.tobytes() for p in result.people])
                assert positions[-1] == [p.position.tobytes() for p in again.people]
            runs.append(positions)
        assert runs[0] == runs[1]


class TestAssociation:
    def test_assign_prefers_the_sum_and_leaves_dear_pairs_alone(self) -> None:
        cost = np.array([[0.1, 0.2], [0.2, 9.0], [np.inf, np.inf]])
        assert assign(cost, 1.0).tolist() == [1, 0]
        assert assign(np.array([[2.5]]), 1.0).tolist() == [-1]
        assert assign(np.zeros((0, 3)), 1.0).tolist() == [-1, -1, -1]
        assert assign(np.zeros((3, 0)), 1.0).tolist() == []

    def test_box_overlap(self) -> None:
        boxes = np.array([[0.0, 0, 10, 10], [5, 5, 5, 5]])
        overlap = box_overlap(boxes, np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]]))
        np.testing.assert_allclose(overlap[0], [1, 1 / 3, 0])
        np.testing.assert_allclose(overlap[1], 0)

    def test_moved_boxes_follow_the_projection(self) -> None:
        size = np.array([0.25, 0.9])
        before, after = np.array([[-0.5, 0.1, 3.0]]), np.array([[0.4, 0.0, 4.0]])

        def box(at: np.ndarray) -> np.ndarray:
            corners = np.concatenate((at[:, :2] - size, at[:, :2] + size), -1).reshape(-1, 2, 2)
            return (corners / at[:, None, 2:] * K[0, 0] + K[:2, 2]).reshape(-1, 4)

        np.testing.assert_allclose(moved_boxes(box(before), before, after, K), box(after))


def test_config_is_checked() -> None:
    with pytest.raises(ValidationError):
        TrackerConfig(max_coast_s=-1.0)
    with pytest.raises(ValidationError):
        TrackerConfig(maximal_coast=1.0)
