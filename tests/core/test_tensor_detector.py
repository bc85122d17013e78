"""The detector on tensors gives what the one on arrays gives, in a fixed number of places."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mpmesh_core.detect import DEFAULT_THRESHOLD, EngineDetector, letterbox, load_detector, suppress
from mpmesh_core.engines import load_engine
from mpmesh_core.engines.torch import TorchEngine
from mpmesh_core.errors import NumericalError, ShapeError
from mpmesh_core.networks.detector import DetectorNetwork
from mpmesh_core.tensor_detector import TensorDetector, letterboxed, suppressed
from mpmesh_core.training.synthetic.demo_clip import demo_clip
from mpmesh_core.weights import weights_path

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def on_arrays() -> EngineDetector:
    return load_detector(load_engine("detector", weights_path("detector"), "torch", CPU))


@pytest.fixture(scope="module")
def on_tensors(on_arrays: EngineDetector) -> TensorDetector:
    return TensorDetector(on_arrays.engine, DEFAULT_THRESHOLD)


@pytest.mark.parametrize("size", [(1080, 1920), (480, 640), (720, 405), (200, 100), (417, 416)])
def test_letterbox_as_opencv_makes_it(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (size[0] // 20, size[1] // 20, 3)).astype(np.uint8)
    image = np.kron(coarse, np.ones((20, 20, 1), np.uint8))
    image = np.pad(image, [(0, size[0] % 20), (0, size[1] % 20), (0, 0)], mode="edge")
    expected = letterbox(image, 416)
    canvas, scale = letterboxed(torch.from_numpy(image))
    assert scale.tolist() == pytest.approx([expected.scale_x, expected.scale_y] * 2)
    difference = canvas[0].permute(1, 2, 0).numpy() - expected.canvas
    assert np.abs(difference).max() <= 1
    assert np.abs(difference).mean() < 0.02


def crowd(count: int, seed: int) -> Tensor:
    """Boxes of people who hide one another, some of them found several times."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0, 400, (count // 4 + 1, 2))[rng.integers(count // 4 + 1, size=count)]
    centre = centre + rng.normal(0, 6, (count, 2))
    half = np.array([25, 60]) * rng.uniform(0.8, 1.2, (count, 2))
    return torch.from_numpy(np.concatenate((centre - half, centre + half), 1)).float()


class TestSuppressed:
    @pytest.mark.parametrize("seed", range(20))
    def test_as_one_after_the_other(self, seed: int) -> None:
        boxes = crowd(300, seed)
        stays = suppressed(boxes, torch.ones(300, dtype=torch.bool), 0.6)
        one_by_one = suppress(boxes.numpy(), np.linspace(1, 0.1, 300), 0.6)
        assert stays.nonzero()[:, 0].tolist() == one_by_one.tolist()

    def test_who_is_dropped_drops_nobody(self) -> None:
        boxes = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [4, 0, 14, 10]])
        assert suppressed(boxes, torch.ones(3, dtype=torch.bool), 0.6).tolist() == [
            True,
            False,
            True,
        ]
        first_gone = torch.tensor([False, True, True])
        assert suppressed(boxes, first_gone, 0.6).tolist() == [False, True, False]


class TestFind:
    def test_as_on_arrays(self, on_arrays: EngineDetector, on_tensors: TensorDetector) -> None:
        for scene in demo_clip(frames=2, size=(640, 480)):
            expected, found = on_arrays.detect(scene.image), on_tensors.detect(scene.image)
            assert len(expected.scores) == len(found.scores) > 0
            np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.2)
            np.testing.assert_allclose(found.scores, expected.scores, atol=0.01)

    def test_nobody_in_grey(self, on_tensors: TensorDetector) -> None:
        found = on_tensors.find(torch.full((96, 64, 3), 114, dtype=torch.uint8))
        assert found.boxes.shape == (32, 4)
        assert found.people == 0
        assert found.boxes.isnan().all()
        assert not found.scores.any()

    def test_best_first_and_no_more_than_places(self, on_arrays: EngineDetector) -> None:
        few = TensorDetector(on_arrays.engine, 0.01, max_people=2)
        found = few.find(torch.from_numpy(next(iter(demo_clip(frames=1))).image))
        assert found.people == 2
        assert found.scores[0] >= found.scores[1] > 0
        assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()

    def test_broken_network(self) -> None:
        network = DetectorNetwork()
        torch.nn.init.constant_(network.heads[0].score.weight, torch.nan)
        detector = TensorDetector(TorchEngine("detector", network, CPU), 0.4)
        with pytest.raises(NumericalError, match="detector network"):
            detector.detect(np.zeros((64, 64, 3), np.uint8))

    def test_no_picture(self, on_tensors: TensorDetector) -> None:
        with pytest.raises(ShapeError, match="image must be uint8 RGB"):
            on_tensors.detect(np.zeros((64, 64), np.uint8))
