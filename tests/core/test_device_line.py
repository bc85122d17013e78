"""The line on a device: empty places change nobody, more people than places are all found, nothing
waits for the device or is copied to it between the picture and the people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode

from mpmesh_core import constants, foreshorten, kinematic_tree, swing_twist
from mpmesh_core.camera import Camera
from mpmesh_core.clock import StageClock
from mpmesh_core.deadline import Plan
from mpmesh_core.device_line import MOST_SIZES, DeviceLine, camera_key, padded
from mpmesh_core.engines.torch import TorchEngine
from mpmesh_core.errors import ShapeError
from mpmesh_core.networks import heatmaps
from mpmesh_core.pipeline import Pipeline, PipelineConfig
from mpmesh_core.tensor_detector import Found, TensorDetector
from mpmesh_core.training.synthetic.demo_clip import demo_clip
from mpmesh_core.transfer import pack
from mpmesh_core.types import Array, Detections

SIZE = WIDTH, HEIGHT = 640, 480
CAMERAS = {
    "none": Camera.from_fov(*SIZE),
    "plumb_bob": Camera(
        np.array([[550.0, 0, 320], [0, 550, 240], [0, 0, 1]]),
        np.array([0.1, -0.2, 0.001, 0.002, 0.05]),
        "plumb_bob",
        *SIZE,
    ),
    "equidistant": Camera(
        np.array([[350.0, 0, 320], [0, 350, 240], [0, 0, 1]]),
        np.array([0.1, -0.02, 0.001, 0.002]),
        "equidistant",
        *SIZE,
    ),
}
SCENE = next(iter(demo_clip(frames=1, size=SIZE)))
NEAR = {"body_pose": 1e-2, "vertices": 1e-3, "joints_2d": 1e-2, "coco_2d": 1e-2}
"""Where 2e-4 is too near for somebody hardly seen: hands turn about short bones [rad], pixels."""
ALL = Plan(people=99, refine=True, mesh=True)
BOXES = np.stack([p.visible_box for p in SCENE.people if p.visible_box is not None])


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(PipelineConfig(device="cpu", backend="torch", track=False))


def with_empty(boxes: Array, places: int) -> Tensor:
    """Boxes in the first of so many places."""
    table = torch.full((places, 4), torch.nan)
    table[: len(boxes)] = torch.from_numpy(boxes)
    return table


class TestPlaces:
    @pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)
    @torch.inference_mode()
    def test_empty_places_change_nobody(self, pipeline: Pipeline, camera: Camera) -> None:
        picture = torch.from_numpy(SCENE.image)
        count = len(BOXES)
        plain = pipeline._people(picture, with_empty(BOXES, count), camera, ALL)
        more = pipeline._people(picture, with_empty(BOXES, 8), camera, ALL)
        assert plain["usable"].all()
        clear = plain["joint_confidence"].mean(1) > 0.5
        assert clear.sum() >= 2  # somebody else is cut off at the picture's edge
        for name, value in plain.items():
            for who, near in ((clear, 5e-5), (~clear, NEAR.get(name, 2e-4))):
                torch.testing.assert_close(
                    more[name][:count][who], value[who], atol=near, rtol=1e-4, msg=name
                )

    @torch.inference_mode()
    def test_same_people_from_a_tensor_as_from_an_array(self) -> None:
        # Looks add up: what is sampled a little differently is read once.
        config = PipelineConfig(device="cpu", backend="torch", track=False, second_look="off")
        pipeline = Pipeline(config)
        boxes = torch.from_numpy(BOXES)
        host = pipeline._people(SCENE.image, boxes, CAMERAS["none"], ALL)
        device = pipeline._people(torch.from_numpy(SCENE.image), boxes, CAMERAS["none"], ALL)
        shapes = [fields["joints"] - fields["position"][:, None] for fields in (host, device)]
        apart = (shapes[0] - shapes[1]).norm(dim=-1)  # [m]
        assert apart.mean() < 5e-4
        assert apart.max() < 5e-3
        moved = (host["position"] - device["position"]).norm(dim=-1)
        assert (moved < 1e-3 * host["position"].norm(dim=-1)).all()

    def test_padded(self) -> None:
        people = 0, 1, 2, 3, 5, 8, 9, 12, 13, 17, 25, 32
        assert [padded(n, 32) for n in people] == [1, 1, 2, 4, 8, 8, 12, 12, 16, 24, 32, 32]
        assert padded(20, 20) == 20

    def test_cameras_that_see_the_same_have_one_key(self) -> None:
        again = Camera.from_fov(*SIZE)
        assert camera_key(again) == camera_key(CAMERAS["none"]) != camera_key(CAMERAS["plumb_bob"])


class Crowd:
    """A line whose people are numbered, as many as the picture's first byte says."""

    def __init__(self, most: int = 8) -> None:
        self.places: list[int] = []
        cpu = torch.device("cpu")
        self.line = DeviceLine(self._find, self._describe, pack, cpu, most, StageClock(cpu))
        self.most = most

    def _find(self, picture: Tensor) -> Found:
        people = picture[0, 0, 0].float()
        rows = torch.arange(self.most).float()
        boxes = torch.stack((rows, 0 * rows, rows, 10 + rows), 1)  # the later, the taller
        boxes = torch.where((rows < people)[:, None], boxes, torch.nan)
        return Found(boxes, torch.ones(self.most), people, torch.zeros(()))

    def _describe(
        self, picture: Tensor, boxes: Tensor, camera: Camera, plan: Plan
    ) -> dict[str, Tensor]:
        self.places.append(len(boxes))
        return {"number": boxes[:, 0], "matrix": boxes[:, :1, None].expand(-1, 2, 2)}

    def __call__(self, people: int, plan: Plan | None = None) -> dict[str, Array]:
        image = np.full((2, 2, 3), people, np.uint8)
        return self.line(image, CAMERAS["none"], plan or ALL)


class TestDeviceLine:
    def test_more_people_than_places_are_all_found(self) -> None:
        crowd = Crowd()
        numbers = crowd(5)
        assert numbers["number"].tolist() == [0, 1, 2, 3, 4]
        assert numbers["matrix"].shape == (5, 2, 2)
        assert (crowd.places, crowd.line.reruns) == ([1, 8], 1)
        crowd(3)
        crowd(6)
        assert (crowd.places, crowd.line.reruns) == ([1, 8, 8, 8], 1)

    def test_places_go_when_nobody_needed_them_for_a_while(self) -> None:
        crowd = Crowd()
        crowd(5)
        for _ in range(31):
            crowd(2)
        assert crowd.places[-1] == 2

    def test_prepared_for_every_number_of_places(self) -> None:
        crowd = Crowd(most=6)
        crowd.line.prepare(CAMERAS["none"], ALL)
        assert crowd.places == [1, 2, 4, 6] * 2
        assert crowd(3)["number"].tolist() == [0, 1, 2]

    def test_pictures_of_ever_new_sizes_do_not_pile_up(self) -> None:
        crowd = Crowd()
        for size in range(2, 30):
            image = np.full((size, size, 3), 2, np.uint8)
            assert crowd.line(image, CAMERAS["none"], ALL)["number"].tolist() == [0, 1]
            assert len(crowd.line._upload) <= MOST_SIZES

    def test_nobody(self) -> None:
        numbers = Crowd()(0)
        assert numbers["number"].shape == (0,)
        assert numbers["boxes"].shape == (0, 4)

    def test_a_plan_for_fewer_takes_the_tallest(self) -> None:
        crowd = Crowd()
        crowd(7)
        numbers = crowd(7, Plan(people=3, refine=False, mesh=False))
        assert crowd.places[-1] == 2
        assert numbers["number"].tolist() == [5, 6]
        assert (numbers["found"], crowd.line.reruns) == (7, 1)

    def test_no_picture(self) -> None:
        with pytest.raises(ShapeError, match="image must be uint8 RGB"):
            Crowd().line(np.zeros((4, 4, 3)), CAMERAS["none"], ALL)

    def test_people_found_elsewhere(self) -> None:
        crowd = Crowd()
        given = Detections(np.full((3, 4), 7, np.float32), np.array([0.9, 0.8, 0.7], np.float32))
        numbers = crowd.line(np.zeros((2, 2, 3), np.uint8), CAMERAS["none"], ALL, given)
        assert numbers["number"].tolist() == [7, 7, 7]
        assert np.allclose(numbers["scores"], [0.9, 0.8, 0.7])
        assert not numbers["broken"]

    def test_fewer_found_elsewhere_than_in_the_last_frame(self) -> None:
        crowd = Crowd()
        crowd(7)
        given = Detections(np.full((5, 4), 7, np.float32), np.ones(5, np.float32))
        plan = Plan(people=5, refine=True, mesh=True)
        numbers = crowd.line(np.zeros((2, 2, 3), np.uint8), CAMERAS["none"], plan, given)
        assert len(numbers["number"]) == 5


class NoHostData(TorchDispatchMode):
    """Fails where numbers are made from Python's or NumPy's: on a GPU they would be copied."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func is torch.ops.aten.lift_fresh.default:
            assert args[0].dim() == 0, f"made on the host: {args[0]}"
        return func(*args, **(kwargs or {}))


def pretend(mode: FakeTensorMode, module: nn.Module) -> None:
    """Replace a module's tensors by ones without numbers."""
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, value in tensors.items():
                if value is not None:
                    tensors[name] = mode.from_tensor(value.detach())  # type: ignore[assignment]


CACHES = (
    constants.constant,
    foreshorten._tables,
    kinematic_tree.tree_tables,
    swing_twist._constants,
    heatmaps._axis,
    heatmaps._fold,
)


@pytest.fixture
def mode() -> Iterator[FakeTensorMode]:
    """Tensors without numbers; what is kept of them is forgotten afterwards."""
    for cache in CACHES:
        cache.cache_clear()
    yield FakeTensorMode(allow_non_fake_inputs=True)
    for cache in CACHES:
        cache.cache_clear()


@pytest.mark.parametrize(
    ("looks", "lens"),
    [("thorough", "none"), ("on", "none"), ("on", "plumb_bob"), ("on", "equidistant")],
)
@torch.inference_mode()
def test_nothing_waits_between_picture_and_people(
    mode: FakeTensorMode, looks: Literal["on", "thorough"], lens: str
) -> None:
    """Tensors without numbers: a step that needs one on the host raises."""
    config = PipelineConfig(
        device="cpu", backend="torch", track=False, mesh=True, mirror=True, second_look=looks
    )
    pipeline = Pipeline(config, keep_stages=True)
    detector = TensorDetector(pipeline.detector.engine, 0.4, 8)
    pretend(mode, pipeline.body)
    assert pipeline._keeper is not None and pipeline._keeper._refiner is not None
    pretend(mode, pipeline._keeper._refiner)
    for engine in (pipeline.skeleton, pipeline.refiner, detector.engine):
        assert isinstance(engine, TorchEngine)
        pretend(mode, engine._network)
    with mode:
        picture = torch.empty(HEIGHT, WIDTH, 3, dtype=torch.uint8)

        def frame() -> dict[str, Tensor]:
            found = detector.find(picture)
            return pipeline._people(picture, found.boxes, CAMERAS[lens], ALL)

        frame()  # makes the constants
        with NoHostData():
            fields = frame()
    assert fields["vertices"].shape[0] == 8
    assert fields["stages/attention"].shape == (8, 24, 3, 24)


@pytest.mark.parametrize(
    "bad", [lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: x.new_tensor([1, 2])]
)
def test_what_waits_is_noticed(mode: FakeTensorMode, bad: Callable[[Tensor], object]) -> None:
    with (
        mode,
        NoHostData(),
        pytest.raises((DataDependentOutputException, DynamicOutputShapeException, AssertionError)),
    ):
        bad(torch.empty(3))
