"""The whole line with the shipped weights: independence of people, empty frames, NaN, options."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from optional_backends import OPENVINO
from pydantic import ValidationError
from torch import Tensor

from mpmesh_core import pose
from mpmesh_core.camera import Camera
from mpmesh_core.engines import Engine
from mpmesh_core.errors import DeviceError, NumericalError
from mpmesh_core.pipeline import Pipeline, PipelineConfig
from mpmesh_core.training.synthetic.demo_clip import demo_clip
from mpmesh_core.types import Array, Detections

WIDTH, HEIGHT = 640, 480
CAMERA = Camera.from_fov(WIDTH, HEIGHT)


class GivenBoxes:
    """A detector that finds what it was told."""

    def __init__(self, boxes: Array) -> None:
        self.boxes = np.asarray(boxes, np.float32).reshape(-1, 4)

    def detect(self, image: Array) -> Detections:
        scores = np.linspace(0.9, 0.5, len(self.boxes), dtype=np.float32)
        return Detections(self.boxes, scores)


class Spoiled:
    """An engine whose outputs are NaN for some people."""

    def __init__(self, engine: Engine, people: list[int]) -> None:
        self.engine, self.people = engine, people

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs = self.engine.run(inputs)
        for value in outputs.values():
            value[self.people] = torch.nan
        return outputs


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(PipelineConfig(device="cpu", backend="onnxruntime", track=False))


@pytest.fixture(scope="module", params=["onnxruntime", OPENVINO])
def unrefined(request: pytest.FixtureRequest) -> Pipeline:
    config = PipelineConfig(device="cpu", backend=request.param, track=False, refine=False)
    return Pipeline(config)


SCENE = next(iter(demo_clip(frames=1, size=(WIDTH, HEIGHT))))


@pytest.fixture
def picture() -> Array:
    return SCENE.image


def boxes(count: int) -> Array:
    """Boxes of the people in the picture, best seen first; then shifted ones of the same people."""
    seen = sorted(
        (person for person in SCENE.people if person.visible_box is not None),
        key=lambda person: -person.visibility,
    )
    known = np.stack([person.visible_box for person in seen])
    rng = np.random.default_rng(1)
    more = known[rng.integers(len(known), size=count)] + rng.uniform(-20, 20, (count, 1))
    return np.concatenate([known, more])[:count]


class TestOnePersonAlone:
    @pytest.mark.parametrize("company", [1, 31])
    def test_same_with_others_in_the_batch(
        self, unrefined: Pipeline, picture: Array, company: int
    ) -> None:
        everybody = boxes(company + 1)
        unrefined.detector = GivenBoxes(everybody[:1])
        alone = unrefined(picture, CAMERA).people[0]
        unrefined.detector = GivenBoxes(everybody)
        together = unrefined(picture, CAMERA).people[0]
        assert np.abs(alone.joints - together.joints).max() < 1e-4
        assert np.abs(alone.transl - together.transl).max() < 1e-4


class TestFrames:
    def test_nobody_gives_an_empty_frame(self, pipeline: Pipeline, picture: Array) -> None:
        pipeline.detector = GivenBoxes(np.zeros((0, 4)))
        result = pipeline(picture, CAMERA, stamp=1.5, frame=7, source="a.jpg")
        assert result.people == []
        assert (result.stamp, result.frame, result.source) == (1.5, 7, "a.jpg")

    def test_fields_agree_with_each_other(self, pipeline: Pipeline, picture: Array) -> None:
        pipeline.detector = GivenBoxes(boxes(3))
        for person in pipeline(picture, CAMERA).people:
            rest = pipeline.body.rest_joints(torch.from_numpy(person.betas))[0].numpy()
            assert np.allclose(person.position, person.transl + rest, atol=1e-4)
            assert np.allclose(person.joints[0], person.position, atol=1e-4)
            assert np.allclose(CAMERA.project(person.joints), person.joints_2d, atol=1e-2)
            assert np.linalg.eigvalsh(person.position_covariance.astype(float)).min() > 0
            assert (person.joint_confidence >= 0).all()
            assert (person.joint_confidence <= 1).all()

    def test_same_input_same_numbers(self, pipeline: Pipeline, picture: Array) -> None:
        pipeline.detector = GivenBoxes(boxes(4))
        first, second = (pipeline(picture, CAMERA).people for _ in range(2))
        for a, b in zip(first, second):
            assert np.array_equal(a.joints, b.joints)

    def test_mesh_only_on_demand(self, pipeline: Pipeline, picture: Array) -> None:
        pipeline.detector = GivenBoxes(boxes(1))
        assert pipeline(picture, CAMERA).people[0].vertices is None


class TestNaN:
    def test_one_bad_person_is_left_out(self, picture: Array) -> None:
        config = PipelineConfig(
            device="cpu", backend="onnxruntime", track=False, refine=False, second_look="off"
        )
        pipeline = Pipeline(config)
        pipeline.detector = GivenBoxes(boxes(3))
        good = pipeline(picture, CAMERA).people
        pipeline.skeleton = Spoiled(pipeline.skeleton, [1])
        rest = pipeline(picture, CAMERA).people
        assert len(rest) == 2
        for before, after in zip([good[0], good[2]], rest):
            assert np.allclose(before.joints, after.joints, atol=1e-5)

    def test_nobody_finite_is_an_error(self, picture: Array) -> None:
        pipeline = Pipeline(PipelineConfig(device="cpu", backend="onnxruntime", track=False))
        pipeline.detector = GivenBoxes(boxes(2))
        pipeline.skeleton = Spoiled(pipeline.skeleton, [0, 1])
        with pytest.raises(NumericalError, match="skeleton network"):
            pipeline(picture, CAMERA)

    def test_a_refiner_that_fails_for_everybody_is_an_error(
        self, pipeline: Pipeline, picture: Array, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pipeline, "detector", GivenBoxes(boxes(2)))
        monkeypatch.setattr(pipeline, "refiner", Spoiled(pipeline.refiner, [0, 1]))
        with pytest.raises(NumericalError, match=r"refiner network .* --no-refine"):
            pipeline(picture, CAMERA)

    @pytest.mark.parametrize(
        "network, output", [("skeleton", "points2d"), ("refiner", "refined_pose6d")]
    )
    def test_every_output_counts(
        self,
        pipeline: Pipeline,
        picture: Array,
        monkeypatch: pytest.MonkeyPatch,
        network: str,
        output: str,
    ) -> None:
        engine = getattr(pipeline, network)
        read = engine.run
        monkeypatch.setattr(pipeline, "detector", GivenBoxes(boxes(2)))
        monkeypatch.setattr(
            engine, "run", lambda inputs: (found := read(inputs)) | {output: found[output] * np.nan}
        )
        with pytest.raises(NumericalError, match=f"{network} network"):
            pipeline(picture, CAMERA)


class TestOutOfMemory:
    def test_also_while_loading(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object, **__: object) -> None:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr("mpmesh_core.parts.load_engine", full)
        with pytest.raises(DeviceError, match="out of memory in loading"):
            Pipeline(PipelineConfig(device="cpu", backend="onnxruntime"))

    @pytest.mark.parametrize("stage", ["detect", "skeleton"])
    def test_the_stage_is_named(
        self, pipeline: Pipeline, picture: Array, monkeypatch: pytest.MonkeyPatch, stage: str
    ) -> None:
        def full(*_: object) -> None:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(pipeline, "detector", GivenBoxes(boxes(1)))
        target = pipeline.detector if stage == "detect" else pipeline.skeleton
        monkeypatch.setattr(target, "detect" if stage == "detect" else "run", full)
        with pytest.raises(DeviceError, match=f"out of memory in {stage}"):
            pipeline(picture, CAMERA)


class TestNobodyThere:
    def test_a_box_that_nobody_can_be_placed_in_is_an_empty_frame(
        self, pipeline: Pipeline, picture: Array, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A false detection is no fault of the network's numbers."""
        monkeypatch.setattr(pipeline, "detector", GivenBoxes([[200, 100, 300, 300]]))
        read = pipeline.skeleton.run

        def unseen(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
            found = read(inputs)
            return found | {"points2d": found["points2d"] * 0 - 400.0}

        monkeypatch.setattr(pipeline.skeleton, "run", unseen)
        assert pipeline(picture, CAMERA).people == []

    def test_identities_go_on_from_source_to_source(self) -> None:
        pipeline = Pipeline(PipelineConfig(device="cpu", backend="onnxruntime", refine=False))
        tracker = pipeline.tracker
        assert tracker is not None
        tracker.state = replace(tracker.state, next_id=7)
        pipeline.start(sequence=False)
        assert pipeline.tracker is None
        pipeline.start()
        assert pipeline.tracker is not None
        assert pipeline.tracker.state.next_id == 7


class TestSmoothing:
    def test_a_still_picture_stays_and_a_new_sequence_begins_anew(self, picture: Array) -> None:
        pipeline = Pipeline(PipelineConfig(device="cpu", backend="onnxruntime", smooth=True))
        pipeline.detector = GivenBoxes(boxes(1))
        frames = [pipeline(picture, CAMERA, stamp=0.1 * n).people[0] for n in range(3)]
        assert "smooth" in pipeline(picture, CAMERA, stamp=0.3).timings
        for person in frames[1:]:
            assert np.allclose(person.joints, frames[0].joints, atol=1e-3)
        shaken = np.roll(picture, 12, 1)
        smoothed = pipeline(shaken, CAMERA, stamp=0.4).people[0]
        pipeline.start()
        fresh = pipeline(shaken, CAMERA, stamp=0.5).people[0]
        moved = np.linalg.norm(smoothed.joints - frames[0].joints, axis=1).mean()
        assert moved < np.linalg.norm(fresh.joints - frames[0].joints, axis=1).mean()


class TestThreads:
    def test_torch_has_one_beside_other_backends_and_all_of_them_afterwards(
        self, unrefined: Pipeline, picture: Array, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = []
        solve = pose.solve_pose
        monkeypatch.setattr(unrefined, "detector", GivenBoxes(boxes(1)))
        monkeypatch.setattr(
            pose,
            "solve_pose",
            lambda *args: (seen.append(torch.get_num_threads()), solve(*args))[1],
        )
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        unrefined(picture, CAMERA)
        assert (seen, torch.get_num_threads()) == ([1], 2)
        torch.set_num_threads(before)


class TestConfig:
    def test_unknown_keys_are_refused(self) -> None:
        with pytest.raises(ValidationError, match="max_peple"):
            PipelineConfig(max_peple=3)  # type: ignore[call-arg]

    @pytest.mark.parametrize("bad", [{"max_people": 0}, {"context": 5}, {"variant": "huge"}])
    def test_ranges(self, bad: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            PipelineConfig(**bad)
