from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import roma
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpmesh_core.crop import CropCameras
from mpmesh_core.engines.export import check_parity, export_onnx
from mpmesh_core.errors import ShapeError, WeightsError
from mpmesh_core.networks.checkpoint import load_checkpoint, save_checkpoint
from mpmesh_core.networks.refiner import CAMERA_START, RefinerConfig, RefinerNetwork
from mpmesh_core.refine import (
    nearest_context,
    pose6d_from_rotations,
    refine,
    rotations_from_pose6d,
)
from mpmesh_core.types import Skeletons

SMALL = {"feature_channels": 16, "width": 32, "mlp": 48}


def network(seed: int = 0, **changes: object) -> RefinerNetwork:
    """A small refiner with random heads too, as after training."""
    torch.manual_seed(seed)
    refiner = RefinerNetwork(RefinerConfig(**{**SMALL, **changes})).eval()
    for weights in (refiner.pose.weight, refiner.shape_camera[-1].weight):
        torch.nn.init.normal_(weights, std=0.1)
    return refiner


def run(refiner: RefinerNetwork, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        return refiner(*inputs.values())


class TestConfig:
    def test_paper_tokens(self):
        config = RefinerConfig.paper()
        assert config.token_width == 2067
        torch.manual_seed(0)
        refiner = RefinerNetwork(config)
        inputs = refiner.example_inputs(2)
        tokens = refiner.tokens(*list(inputs.values())[:5])
        assert tokens.shape == (2, 24, 2067)
        assert refiner.variant == "paper"

    def test_light_is_small(self):
        assert sum(p.numel() for p in RefinerNetwork().parameters()) < 2_000_000

    @pytest.mark.parametrize(
        "change",
        [
            {"positional_embedding": True}, {"mask_ratio": 0.0}, {"max_people": 1},
            {"max_people": 4}, {"rearrange": "conv"}, {"rearrange": "linear"},
            {"target_flag": False}, {"layers": 1},
        ],
    )  # fmt: skip
    def test_every_switch_runs_and_survives_a_checkpoint(self, tmp_path: Path, change):
        refiner = network(**change)
        inputs = refiner.example_inputs(3)
        save_checkpoint(tmp_path / "refiner.safetensors", refiner, refiner.config_dict())
        loaded, _ = load_checkpoint(tmp_path / "refiner.safetensors")
        assert loaded.config == refiner.config
        for name, value in run(loaded, inputs).items():
            assert torch.equal(value, run(refiner, inputs)[name])

    def test_wrong_configuration_is_named(self):
        with pytest.raises(WeightsError, match="rearrangement 'sum'"):
            RefinerConfig(rearrange="sum")
        with pytest.raises(WeightsError, match="unknown refiner configuration: widht"):
            RefinerNetwork.from_config({"widht": 3})


class TestNetwork:
    def test_untrained_is_the_identity(self):
        refiner = RefinerNetwork(RefinerConfig(**SMALL)).train()
        inputs = refiner.example_inputs(4)
        outputs = refiner(*inputs.values())
        for name in refiner.OUTPUT_NAMES:
            assert torch.equal(outputs[name], inputs[name.removeprefix("refined_")])

    @pytest.mark.parametrize("poison", (1e3, float("nan"), float("inf")))
    def test_invalid_people_have_no_influence_at_all(self, poison):
        refiner = network()
        inputs = refiner.example_inputs(4)
        inputs["context"] = torch.tensor([[0, 1, 3], [1, 0, 3], [2, 3, 3], [3, 3, 3]])
        inputs["valid"] = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]]).bool()
        clean = run(refiner, inputs)
        for name in ("features", "pose6d", "betas"):
            inputs[name] = inputs[name].clone()
            inputs[name][3] = poison
        poisoned = run(refiner, inputs)
        for name in refiner.OUTPUT_NAMES:
            assert torch.equal(clean[name][:3], poisoned[name][:3])

    def test_padding_equals_fewer_people(self):
        refiner = network()
        inputs = refiner.example_inputs(2)
        padded = run(refiner, inputs)
        inputs["context"], inputs["valid"] = inputs["context"][:, :2], inputs["valid"][:, :2]
        for name, value in run(refiner, inputs).items():
            assert torch.allclose(value, padded[name], atol=1e-6)

    def test_order_of_the_context_has_no_influence(self):
        refiner = network(max_people=4)
        inputs = refiner.example_inputs(4)
        expected = run(refiner, inputs)
        for order in itertools.permutations((1, 2, 3)):
            changed = {**inputs, "context": inputs["context"][:, [0, *order]]}
            for name, value in run(refiner, changed).items():
                assert torch.allclose(value, expected[name], atol=1e-5)

    def test_order_matters_with_positions(self):
        refiner = network(positional_embedding=True)
        inputs = refiner.example_inputs(3)
        changed = {**inputs, "context": inputs["context"][:, [0, 2, 1]]}
        difference = (
            run(refiner, changed)["refined_pose6d"] - run(refiner, inputs)["refined_pose6d"]
        )
        assert difference.abs().max() > 1e-6

    def test_context_has_influence(self):
        refiner = network()
        inputs = refiner.example_inputs(3)
        alone = {**inputs, "valid": torch.tensor([[True, False, False]]).expand(3, -1)}
        difference = run(refiner, alone)["refined_pose6d"] - run(refiner, inputs)["refined_pose6d"]
        assert difference.abs().max() > 1e-6

    def test_flag_tells_the_target_from_a_context_alike(self):
        refiner = network()
        inputs = refiner.example_inputs(2)
        swapped = {**inputs, "context": inputs["context"].flip(1)[:, [1, 2, 0]]}
        swapped["valid"] = torch.tensor([[True, False, True]]).expand(2, -1)
        assert not torch.allclose(
            run(refiner, inputs)["refined_pose6d"] - inputs["pose6d"],
            run(refiner, swapped)["refined_pose6d"].flip(0) - inputs["pose6d"].flip(0),
        )

    def test_masking_hides_at_most_its_part_and_only_in_training(self):
        refiner = network(mask_ratio=0.3)
        runs = torch.randn(50, 3, 24, 32)
        assert torch.equal(refiner._mask(runs), runs)
        hidden = (refiner.train()._mask(runs) != runs).all(-1).flatten(1).float().mean(1)
        assert 0 <= hidden.min() < 0.05
        assert 0.2 < hidden.max() <= 0.3

    def test_gradients_reach_every_parameter(self):
        refiner = network(positional_embedding=True, rearrange="conv").train()
        outputs = refiner(*refiner.example_inputs(3).values())
        sum(value.square().sum() for value in outputs.values()).backward()
        for name, parameter in refiner.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name

    @pytest.mark.parametrize("rearrange", ("heatmap", "conv", "linear"))
    def test_onnx_agrees(self, tmp_path: Path, rearrange):
        refiner = network(rearrange=rearrange)
        path = export_onnx(refiner, tmp_path / "refiner.onnx", check=rearrange == "heatmap")
        if rearrange == "heatmap":
            assert max(check_parity(refiner, path, batches=(1, 2, 7)).values()) < 1e-4


class TestNearestContext:
    def test_by_distance(self):
        roots = torch.tensor([[0.0, 0, 0], [5, 0, 0], [1, 0, 0], [7, 0, 0]])
        context, valid = nearest_context(roots, 3)
        assert context.tolist() == [[0, 2, 1], [1, 3, 2], [2, 0, 1], [3, 1, 2]]
        assert valid.all()

    def test_fewer_people_than_places(self):
        context, valid = nearest_context(torch.zeros(2, 3), 4)
        assert context.shape == valid.shape == (2, 4)
        assert valid.tolist() == [[True, True, False, False]] * 2
        assert context[:, 0].tolist() == [0, 1]

    def test_nobody(self):
        context, valid = nearest_context(torch.zeros(0, 3), 3)
        assert context.shape == valid.shape == (0, 3)
        assert context.dtype == torch.int64

    def test_people_without_a_place_are_nobodys_context(self):
        roots = torch.tensor([[0.0, 0, 0], [float("nan"), 0, 0], [1, 0, 0]])
        context, valid = nearest_context(roots, 3)
        assert context[[0, 2], :2].tolist() == [[0, 2], [2, 0]]
        assert valid.tolist() == [[True, True, False], [True, False, False], [True, True, False]]
        assert context[:, 0].tolist() == [0, 1, 2]

    @given(people=st.integers(1, 8), size=st.integers(1, 4), seed=st.integers(0, 100))
    @settings(max_examples=40, deadline=None)
    def test_first_is_itself_and_none_twice(self, people, size, seed):
        roots = torch.randn(people, 3, generator=torch.Generator().manual_seed(seed)).round()
        context, valid = nearest_context(roots, size)
        assert context[:, 0].tolist() == list(range(people))
        for row, ok in zip(context.tolist(), valid.tolist()):
            used = [person for person, is_valid in zip(row, ok) if is_valid]
            assert len(set(used)) == len(used) == min(people, size)


class TestPose6d:
    def test_convention_columns_one_after_the_other(self):
        rotation = roma.random_rotmat(1)[0]
        assert torch.equal(
            pose6d_from_rotations(rotation), torch.cat((rotation[:, 0], rotation[:, 1]))
        )

    def test_there_and_back(self):
        rotations = roma.random_rotmat(50).view(2, 25, 3, 3)
        pose = pose6d_from_rotations(rotations)
        back = rotations_from_pose6d(pose, torch.eye(3).expand_as(rotations))
        assert torch.allclose(back, rotations, atol=1e-5)

    @pytest.mark.parametrize(
        "pose",
        ([0.0] * 6, [1.0, 2, 3, 2, 4, 6], [float("nan")] * 6, [1.0, 0, 0, float("inf"), 0, 0]),
    )
    def test_columns_without_a_plane_keep_the_other_rotation(self, pose):
        other = roma.random_rotmat(1)
        pose6d = torch.tensor([pose], requires_grad=True)
        rotation = rotations_from_pose6d(pose6d, other)
        assert torch.allclose(rotation, other, atol=1e-6)
        rotation.sum().backward()
        assert pose6d.grad.isfinite().all()


class _Engine:
    """A refiner as an engine."""

    backend = "torch"

    def __init__(self, refiner: RefinerNetwork) -> None:
        self.refiner = refiner

    def run(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        assert list(inputs) == list(self.refiner.INPUT_NAMES)
        assert inputs["camera"].tolist() == [list(map(pytest.approx, CAMERA_START))] * len(
            inputs["camera"]
        )
        return run(self.refiner, inputs)


def scene(people: int) -> tuple[Skeletons, torch.Tensor, torch.Tensor, torch.Tensor, CropCameras]:
    inputs = network().example_inputs(people)
    nothing = torch.zeros(people, 29, 3)
    skeletons = Skeletons(
        nothing, nothing[..., :2], nothing[..., 0], nothing[:, :23, :2],
        inputs["betas"], inputs["features"], inputs["heatmaps"],
    )  # fmt: skip
    rotations = roma.random_rotmat(people * 24).view(people, 24, 3, 3)
    crops = CropCameras(*(torch.eye(3).expand(2, people, 3, 3)), 256, torch.ones(people).bool())
    roots = torch.arange(3.0 * people).view(people, 3)
    return skeletons, rotations, inputs["betas"], roots, crops


class TestRefine:
    @pytest.mark.parametrize("people", (0, 1, 2, 5))
    def test_untrained_changes_nothing(self, people):
        skeletons, rotations, betas, roots, crops = scene(people)
        engine = _Engine(RefinerNetwork(RefinerConfig(**SMALL)).eval())
        refined, shape, _ = refine(engine, skeletons, rotations, betas, roots, crops)
        assert torch.allclose(refined, rotations, atol=1e-5)
        assert torch.equal(shape, betas)

    def test_gives_rotations(self):
        skeletons, rotations, betas, roots, crops = scene(5)
        refined, _, _ = refine(_Engine(network()), skeletons, rotations, betas, roots, crops)
        assert not torch.allclose(refined, rotations, atol=1e-3)
        assert torch.allclose(refined @ refined.mT, torch.eye(3).expand_as(refined), atol=1e-5)

    def test_bad_person_comes_back_as_it_was_and_disturbs_nobody_far(self):
        skeletons, rotations, betas, roots, crops = scene(4)
        engine = _Engine(network())
        before, _, _ = refine(engine, skeletons, rotations, betas, roots[:], crops, 1)
        skeletons.features[2] = float("nan")
        roots[2] = float("nan")
        after, shape, ok = refine(engine, skeletons, rotations, betas, roots, crops, 1)
        assert torch.equal(after[[0, 1, 3]], before[[0, 1, 3]])
        assert torch.allclose(after[2], rotations[2], atol=1e-5)
        assert torch.equal(shape[2], betas[2])
        assert ok.tolist() == [True, True, False, True]

    def test_wrong_shapes(self):
        skeletons, rotations, betas, roots, crops = scene(2)
        with pytest.raises(ShapeError, match="roots"):
            refine(_Engine(network()), skeletons, rotations, betas, roots[:1], crops)
