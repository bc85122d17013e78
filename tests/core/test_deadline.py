"""Deadlines: what is given up and in which order, and what a whole frame says about it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpmesh_core.camera import Camera
from mpmesh_core.deadline import Deadline, Plan, nearest
from mpmesh_core.outputs import ResultsWriter, read_results
from mpmesh_core.pipeline import Pipeline, PipelineConfig
from mpmesh_core.training.synthetic.demo_clip import demo_clip
from mpmesh_core.types import Array, Detections

ALL = Plan(people=10, refine=True, mesh=True)
COSTS = {"detect": 5.0, "skeleton": 20.0, "body": 10.0, "refine": 10.0, "mesh": 10.0, "track": 1.0}


def deadline(milliseconds: float) -> Deadline:
    """One that has seen ten people cost `COSTS`: 3 ms each, 1 refined, 1 with vertices."""
    made = Deadline(milliseconds)
    made.learn(COSTS, people=10)
    return made


class TestPlan:
    @pytest.mark.parametrize(
        ("milliseconds", "left_out"),
        [
            (57, ()),
            (55, ("vertices",)),
            (45, ("vertices", "refiner")),
            (32, ("vertices", "refiner", "2 people")),
            (20, ("vertices", "refiner", "6 people")),
            (1, ("vertices", "refiner", "9 people")),
        ],
    )
    def test_order_of_giving_up(self, milliseconds: float, left_out: tuple[str, ...]) -> None:
        plan = deadline(milliseconds).plan(5.0, ALL)
        assert plan.left_out(ALL) == left_out

    def test_a_detector_still_to_come_counts(self) -> None:
        assert deadline(56.5).plan(5.0, ALL) == ALL
        assert not deadline(56.5).plan(5.0, ALL, detected=False).mesh

    def test_what_nobody_wants_is_not_left_out(self) -> None:
        wanted = Plan(people=2, refine=False, mesh=False)
        assert deadline(1).plan(0.0, wanted).left_out(wanted) == ("1 person",)

    def test_nothing_known_gives_up_nothing(self) -> None:
        assert Deadline(1e-3).plan(0.0, ALL) == ALL

    def test_nobody(self) -> None:
        nobody = replace(ALL, people=0)
        assert deadline(1).plan(50.0, nobody).people == 0

    def test_a_slow_frame_is_forgotten(self) -> None:
        slowed = deadline(60)
        slowed.learn({name: 100 * cost for name, cost in COSTS.items()}, 10)
        assert slowed.plan(5.0, ALL) != ALL
        for _ in range(100):
            slowed.learn(COSTS, 10)
        assert slowed.plan(5.0, ALL) == ALL

    def test_what_was_left_out_is_tried_again(self) -> None:
        tried = deadline(50)
        cheap = {name: 0.8 * cost for name, cost in COSTS.items() if name not in ("refine", "mesh")}
        assert not tried.plan(5.0, ALL).mesh
        for _ in range(100):
            tried.learn(cheap, 10)
        assert tried.plan(5.0, ALL) == ALL


class TestCosts:
    """Stages that take `fixed` and `each` a person [ms], whatever these are."""

    @given(each=st.floats(0.1, 20), worth=st.floats(0, 20), fits=st.integers(1, 9))
    def test_as_many_as_there_is_time_for(self, each: float, worth: float, fits: int) -> None:
        fixed = worth * each  # of so many people
        limited = Deadline(fixed + each * (fits + 0.5))
        planned = []
        for _ in range(150):
            plan = limited.plan(0.0, replace(ALL, refine=False, mesh=False))
            limited.learn({"skeleton": fixed + each * plan.people}, plan.people)
            planned.append(plan.people)
        later = np.array(planned[-100:])
        assert abs(later.mean() - fits) < 0.5
        assert (later > fits).mean() < 0.3  # tries one more now and then

    def test_a_crowd_after_somebody_alone(self) -> None:
        """Where most of the time is the same for all, as on a GPU."""
        limited = Deadline(15.0)
        for people in (1,) * 30 + (10,):
            wanted = replace(ALL, people=people, mesh=False)
            assert limited.plan(0.0, wanted) == wanted
            limited.learn({"skeleton": 5 + 0.15 * people, "refine": 1 + 0.05 * people}, people)


def test_nearest_are_the_tallest_in_their_order() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 5], [0, 0, 1, 9], [0, 5, 9, 6], [0, 0, 2, 7]])
    boxes = torch.cat((boxes, torch.full((2, 4), torch.nan)))
    assert nearest(boxes, 2).tolist() == [1, 3]
    assert nearest(boxes, 5).tolist()[:4] == [0, 1, 2, 3]
    assert nearest(boxes[:0], 3).tolist() == []


SCENE = next(iter(demo_clip(frames=1, size=(320, 240))))


class AlwaysTwo:
    """A detector that finds a near person and a far one."""

    def detect(self, image: Array) -> Detections:
        boxes = np.array([[10, 10, 60, 100], [100, 10, 200, 220]], np.float32)
        return Detections(boxes, np.array([0.9, 0.8], np.float32))


def test_a_frame_says_what_it_left_out(tmp_path) -> None:
    config = PipelineConfig(device="cpu", backend="onnxruntime", mesh=True, deadline_ms=1e-3)
    pipeline = Pipeline(config)
    pipeline.detector = AlwaysTwo()
    camera = Camera.from_fov(320, 240)
    first, second = (pipeline(SCENE.image, camera, stamp=0.1 * n, frame=n) for n in range(2))
    assert first.left_out == ()
    assert second.left_out == ("vertices", "refiner", "1 person")
    assert {"refine", "mesh"} <= set(first.timings)
    assert not {"refine", "mesh"} & set(second.timings)
    with ResultsWriter(tmp_path) as writer:
        writer.write(first)
        writer.write(second)
    assert [result.left_out for result in read_results(tmp_path)] == [
        first.left_out,
        second.left_out,
    ]
