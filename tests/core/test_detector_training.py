"""Detector network and its training: shapes, assignment, augmentation, a run that learns."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpmesh_core.errors import MissingFileError, WeightsError
from mpmesh_core.networks.checkpoint import load_checkpoint, save_checkpoint
from mpmesh_core.networks.detector import DetectorConfig, DetectorNetwork, RawDetections
from mpmesh_core.training import detector
from mpmesh_core.training.detection_augment import AugmentedImage, augment, paste
from mpmesh_core.training.detection_data import (
    Cutout,
    DetectionSample,
    load_samples,
    save_samples,
    split,
)
from mpmesh_core.training.detection_loss import (
    DetectionLoss,
    assign,
    detection_loss,
    generalised_iou,
    pairwise_iou,
)
from mpmesh_core.training.detection_sets import DetectionSets
from mpmesh_core.training.detection_teachers import fuse
from mpmesh_core.training.detector import (
    DetectorTraining,
    TrainingState,
    blend_weights,
    evaluate_network,
    learning_rate,
    pad_boxes,
    train_detector,
    train_step,
)
from mpmesh_core.training.detector_init import detector_from_onnx

TINY = DetectorConfig(
    channels=(8, 8, 16, 16, 32), blocks=(1, 1, 1, 1), head_channels=16, head_convs=1
)
NOBODY = np.zeros((0, 4), np.float32)


def sample(name: str, *people: tuple[int, int, int, int]) -> DetectionSample:
    """A grey picture 96x96 with bright boxes as people."""
    image = np.full((96, 96, 3), 60, np.uint8)
    for x1, y1, x2, y2 in people:
        image[y1 : y2 + 1, x1 : x2 + 1] = (230, 180, 40)
    encoded = bytes(cv2.imencode(".png", image[..., ::-1])[1])
    return DetectionSample(
        name, "pennfudan", encoded, np.array(people, np.float32).reshape(-1, 4), NOBODY
    )


@pytest.fixture()
def network() -> DetectorNetwork:
    torch.manual_seed(0)
    return DetectorNetwork(TINY).eval()


class TestNetwork:
    @pytest.mark.parametrize(("height", "width"), [(64, 96), (32, 32)])
    def test_shapes(self, network: DetectorNetwork, height: int, width: int) -> None:
        out = network(torch.zeros(2, 3, height, width))
        points = sum(height * width // s**2 for s in (8, 16, 32))
        assert out["scores"].shape == (2, points) and out["boxes"].shape == (2, points, 4)
        assert bool(((out["scores"] >= 0) & (out["scores"] <= 1)).all())

    def test_empty_batch(self, network: DetectorNetwork) -> None:
        out = network(torch.zeros(0, 3, 64, 64))
        assert out["scores"].shape == (0, 84) and out["boxes"].shape == (0, 84, 4)

    def test_one_image_does_not_touch_another(self, network: DetectorNetwork) -> None:
        images = torch.rand(3, 3, 64, 64) * 255
        alone, together = network(images[:1]), network(images)
        torch.testing.assert_close(together["boxes"][:1], alone["boxes"], atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(together["scores"][:1], alone["scores"], atol=1e-5, rtol=1e-4)

    def test_grid_points_count_in_pixels(self, network: DetectorNetwork) -> None:
        raw = network.raw(torch.zeros(1, 3, 64, 96))
        assert raw.points[:3].tolist() == [[0, 0], [8, 0], [16, 0]]
        assert raw.points[12].tolist() == [0, 8]
        assert raw.points[-1].tolist() == [64, 32] and raw.strides[-1] == 32

    def test_checkpoint_round_trip(self, network: DetectorNetwork, tmp_path: Path) -> None:
        path = tmp_path / "detector-light.safetensors"
        save_checkpoint(path, network, network.config.model_dump())
        again, metadata = load_checkpoint(path)
        image = torch.rand(1, 3, 64, 64) * 255
        torch.testing.assert_close(again(image)["boxes"], network(image)["boxes"])
        assert metadata["kind"] == "detector"


class TestInit:
    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="init-onnx"):
            detector_from_onnx(tmp_path / "none.onnx")

    def test_not_onnx(self, tmp_path: Path) -> None:
        path = tmp_path / "text.onnx"
        path.write_text("not a network")
        with pytest.raises(WeightsError):
            detector_from_onnx(path)

    def test_own_export_comes_back(self, network: DetectorNetwork, tmp_path: Path) -> None:
        """Channel order apart (the file is read as BGR), the numbers are those of the file."""
        path = tmp_path / "tiny.onnx"
        _write_convolutions(network, path)
        again = detector_from_onnx(path, TINY)
        image = torch.rand(1, 3, 64, 64) * 255
        again.mean, again.std = again.mean.flip(1), again.std.flip(1)
        torch.testing.assert_close(
            again(image.flip(1))["boxes"], network(image)["boxes"], atol=1e-3, rtol=1e-4
        )

    def test_other_network_is_refused(self, network: DetectorNetwork, tmp_path: Path) -> None:
        path = tmp_path / "tiny.onnx"
        _write_convolutions(network, path)
        with pytest.raises(WeightsError, match="RTMDet-nano"):
            detector_from_onnx(path)


def _write_convolutions(network: DetectorNetwork, path: Path) -> None:
    """An ONNX file with the network's convolutions in run order, as an exporter stores them."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from mpmesh_core.training.detector_init import _run_order

    nodes, stored = [], []
    for index, conv in enumerate(_run_order(network)):
        assert conv.bias is not None
        stored.append(numpy_helper.from_array(conv.weight.detach().numpy(), f"w{index}"))
        stored.append(numpy_helper.from_array(conv.bias.detach().numpy(), f"b{index}"))
        nodes.append(helper.make_node("Conv", ["image", f"w{index}", f"b{index}"], [f"y{index}"]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 64])
    output = helper.make_tensor_value_info("y0", TensorProto.FLOAT, None)
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [image], [output], stored)), path)


def grid(height: int, width: int, boxes: torch.Tensor, logits: torch.Tensor) -> RawDetections:
    """One stride of 8."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    points = torch.stack([x, y], -1).flatten(0, 1).float() * 8
    return RawDetections(logits, boxes, points, torch.full((height * width,), 8.0))


class TestAssign:
    people = torch.tensor([[[0.0, 0, 30, 60], [40, 0, 70, 60]]])
    mask = torch.tensor([[True, True]])
    nothing = torch.zeros(1, 1, 4)

    def perfect(self) -> RawDetections:
        """Every point predicts the person it lies in."""
        raw = grid(8, 9, torch.zeros(1, 72, 4), torch.zeros(1, 72))
        left = raw.points[:, 0] < 35
        return raw._replace(
            boxes=torch.where(left[:, None], self.people[:, :1], self.people[:, 1:])
        )

    def test_points_go_to_the_person_around_them(self) -> None:
        raw = self.perfect()
        found = assign(raw, self.people, self.mask, self.nothing)
        taken = found.taken[0]
        assert 2 <= int(taken.sum()) <= 26
        assert (found.person[0][taken] == (raw.points[taken, 0] > 35).long()).all()
        torch.testing.assert_close(found.overlap[0][taken], torch.ones(int(taken.sum())))
        assert found.counted.all()

    def test_nobody(self) -> None:
        found = assign(self.perfect(), torch.zeros(1, 1, 4), torch.tensor([[False]]), self.nothing)
        assert not found.taken.any() and found.overlap.sum() == 0

    def test_ignored_region_is_not_told_anything(self) -> None:
        found = assign(self.perfect(), self.people[:, :1], self.mask[:, :1], self.people[:, 1:])
        right = self.perfect().points[:, 0] > 35
        assert not found.counted[0][right].any()
        assert found.counted[0][found.taken[0]].all()

    def test_loss_is_lower_for_better_boxes(self) -> None:
        good, bad = self.perfect(), self.perfect()
        bad = bad._replace(boxes=bad.boxes + torch.tensor([5.0, 9, 15, -20]))
        losses = [detection_loss(r, self.people, self.mask, self.nothing) for r in (good, bad)]
        assert losses[0].box < 1e-5 < losses[1].box

    def test_padding_changes_nothing(self) -> None:
        raw = self.perfect()
        padded = torch.cat([self.people, torch.zeros(1, 3, 4)], dim=1)
        mask = torch.tensor([[True, True, False, False, False]])
        a = detection_loss(raw, self.people, self.mask, self.nothing)
        b = detection_loss(raw, padded, mask, self.nothing)
        torch.testing.assert_close(a.total, b.total)

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 1000))
    def test_overlaps(self, seed: int) -> None:
        low = torch.rand(1, 7, 2, generator=torch.Generator().manual_seed(seed)) * 50
        size = torch.rand(1, 7, 2, generator=torch.Generator().manual_seed(seed + 1)) * 50 + 1
        boxes = torch.cat([low, low + size], dim=-1)
        iou = pairwise_iou(boxes, boxes)[0]
        torch.testing.assert_close(iou, iou.T)
        torch.testing.assert_close(iou.diagonal(), torch.ones(7))
        giou = generalised_iou(boxes[0, :-1], boxes[0, 1:])
        assert (giou <= iou[:-1, 1:].diagonal() + 1e-5).all() and (giou >= -1).all()


class TestAugment:
    picture = sample("a", (20, 10, 50, 80))

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10_000))
    def test_boxes_follow_the_picture(self, seed: int) -> None:
        view = augment(self.picture, (96, 128), [], np.random.default_rng(seed))
        assert view.image.shape == (96, 128, 3)
        assert len(view.people) + len(view.ignored) <= 1
        for x1, y1, x2, y2 in view.people:
            assert 0 <= x1 < x2 <= 127 and 0 <= y1 < y2 <= 95
            inside = view.image[int(y1) + 3 : int(y2) - 2, int(x1) + 3 : int(x2) - 2].astype(int)
            # The person is yellow or, drained of colour, at least brighter than the grey around.
            if inside.size and view.image.std() > 5:
                assert inside[..., :2].mean() > view.image[..., :2].mean() - 1

    def test_a_covered_person_is_ignored_or_smaller(self) -> None:
        canvas = np.full((100, 100, 3), 60, np.uint8)
        view = AugmentedImage(canvas, np.array([[30, 30, 60, 90]], np.float32), NOBODY)
        cutout = Cutout(np.full((90, 45, 3), 200, np.uint8), np.ones((90, 45), bool))
        for seed in range(20):
            result = paste(view, [cutout], 1, np.random.default_rng(seed))
            assert 1 <= len(result.people) + len(result.ignored) <= 2
            low, high = result.people[:, :2], result.people[:, 2:]
            assert (high > low).all() and (low >= 0).all() and (high <= 99).all()
            bright = (result.image == 200).all(-1)
            if bright.any():  # the pasted person's box is that of his pixels
                rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
                expected = [columns[0], rows[0], columns[-1], rows[-1]]
                distance = np.abs(np.concatenate([result.people, result.ignored]) - expected)
                assert distance.max(1).min() <= 2

    def test_same_seed_same_view(self) -> None:
        views = [augment(self.picture, (64, 64), [], np.random.default_rng(7)) for _ in range(2)]
        np.testing.assert_array_equal(views[0].image, views[1].image)


class TestSamples:
    def test_file_round_trip(self, tmp_path: Path) -> None:
        samples = [sample("a", (20, 10, 50, 80)), sample("b"), sample("c", (1, 2, 9, 9))]
        save_samples(tmp_path / "s.npz", samples)
        for before, after in zip(samples, load_samples(tmp_path / "s.npz")):
            assert (before.name, before.encoded) == (after.name, after.encoded)
            np.testing.assert_array_equal(before.people, after.people)
            assert after.ignored.shape == (0, 4)

    def test_split_is_a_partition(self) -> None:
        samples = [sample(str(i)) for i in range(11)]
        kept, held_out = split(samples, 5)
        assert [s.name for s in held_out] == ["4", "9"]
        assert {s.name for s in kept} | {s.name for s in held_out} == {str(i) for i in range(11)}


class TestFuse:
    def test_mean_score_over_looks(self) -> None:
        a, b = [0, 0, 10, 20], [40, 0, 50, 20]
        looks = [np.array([[*a, 0.8], [*b, 0.6]]), np.array([[*a, 0.4]]), np.zeros((0, 5))]
        boxes, confidence = fuse(looks)
        np.testing.assert_allclose(confidence, [0.4, 0.2], atol=1e-6)
        np.testing.assert_allclose(boxes, [a, b], atol=1e-5)

    def test_nothing(self) -> None:
        boxes, confidence = fuse([np.zeros((0, 5)), np.zeros((0, 5))])
        assert boxes.shape == (0, 4) and confidence.shape == (0,)


class TestTraining:
    def config(self, tmp_path: Path, **values: object) -> DetectorTraining:
        base = {"data": tmp_path, "output": tmp_path, "steps": 60, "batch": 4, "lr": 4e-3}
        base |= {"warmup": 5, "ema": 0.9, "canvases": ((96, 96),)}
        return DetectorTraining(**(base | values))

    def sets(self) -> DetectionSets:
        pictures = [
            sample("a", (10, 20, 35, 85)),
            sample("b", (50, 10, 85, 90), (5, 15, 30, 70)),
        ]
        return DetectionSets({"pennfudan": pictures}, pictures, [])

    def test_learns_two_pictures(self) -> None:
        torch.manual_seed(0)
        network, pictures = DetectorNetwork(TINY), self.sets().validation
        views = [AugmentedImage(s.decode(), s.people, s.ignored) for s in pictures]
        images = torch.stack([torch.from_numpy(v.image).permute(2, 0, 1).float() for v in views])
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
        losses = []
        for _ in range(75):
            loss = detection_loss(network.raw(images), *pad_boxes(views)).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.5 * losses[0]
        scores = evaluate_network(network, pictures, size=96)
        assert scores.recall_at_precision(0.9)[0] == 1.0

    def test_resumed_run_is_the_same_run(self, tmp_path: Path) -> None:
        config, sets = self.config(tmp_path, warmup=0), self.sets()
        torch.manual_seed(1)
        straight = TrainingState(DetectorNetwork(TINY), config)
        train_step(straight, config, sets)
        straight.save(tmp_path / "last.pt")
        resumed = TrainingState(DetectorNetwork(TINY), config)
        resumed.load(tmp_path / "last.pt")
        assert resumed.step == 1
        for state in (straight, resumed):
            train_step(state, config, sets)
        for a, b in zip(straight.average.parameters(), resumed.average.parameters()):
            torch.testing.assert_close(a, b)

    def test_a_signal_ends_the_run_after_its_step(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = self.config(tmp_path, steps=3, validate_every=2, warmup=0)
        monkeypatch.setattr(detector, "prepare_sets", lambda *_: self.sets())
        monkeypatch.setattr(detector, "_start", lambda _: DetectorNetwork(TINY))

        steps: list[int] = []

        def interrupted(state: TrainingState, *rest: Any) -> DetectionLoss:
            steps.append(state.step)
            if len(steps) == 1:
                signal.raise_signal(signal.SIGINT)
            return train_step(state, *rest)

        monkeypatch.setattr(detector, "train_step", interrupted)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                train_detector(config)
        finally:
            signal.signal(signal.SIGINT, before)
        assert train_detector(config).is_file()
        assert steps == [0, 1, 2]
        rows = (tmp_path / "curve.csv").read_text().splitlines()
        assert [row.split(",")[0] for row in rows] == ["step", "2", "3"]

    def test_damaged_resume_file(self, tmp_path: Path) -> None:
        (tmp_path / "last.pt").write_bytes(b"broken")
        state = TrainingState(DetectorNetwork(TINY), self.config(tmp_path))
        with pytest.raises(WeightsError, match="not a resume file"):
            state.load(tmp_path / "last.pt")

    def test_learning_rate(self, tmp_path: Path) -> None:
        config = self.config(tmp_path, steps=100, warmup=10)
        rates = [learning_rate(config, step) for step in range(100)]
        assert max(rates) == pytest.approx(config.lr) and rates.index(max(rates)) in (9, 10)
        assert (np.diff(rates[10:]) <= 0).all() and rates[-1] < 0.06 * config.lr

    def test_blend_weights(self) -> None:
        a, b = DetectorNetwork(TINY), DetectorNetwork(TINY)
        before = a.heads[0].score.bias.item()  # type: ignore[union-attr, operator]
        with torch.no_grad():
            b.heads[0].score.bias.fill_(0.0)  # type: ignore[union-attr, operator]
        blend_weights(a, b, keep=0.25)
        assert a.heads[0].score.bias.item() == pytest.approx(0.25 * before)  # type: ignore[union-attr, operator]

    def test_pad_boxes_of_nobody(self) -> None:
        empty = AugmentedImage(np.zeros((8, 8, 3), np.uint8), NOBODY, NOBODY)
        people, mask, ignored = pad_boxes([empty, empty])
        assert people.shape == (2, 1, 4) and ignored.shape == (2, 1, 4) and not mask.any()
