"""A network made ready for half precision says the same."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from mpmesh_core.engines.half import fold_norms, halve_weights, make_half
from mpmesh_core.networks.checkpoint import load_checkpoint
from mpmesh_core.networks.skeleton import SkeletonConfig, SkeletonNetwork
from mpmesh_core.weights import weights_path


def paper() -> nn.Module:
    torch.manual_seed(0)
    return SkeletonNetwork(SkeletonConfig(variant="paper")).eval()


def light() -> nn.Module:
    return load_checkpoint(weights_path("skeleton"))[0]


@pytest.mark.parametrize("load", [paper, light])
@torch.inference_mode()
def test_folding_leaves_no_norm_and_the_same_outputs(load: Callable[[], nn.Module]) -> None:
    network = load()
    inputs = network.example_inputs(1)
    before = network(**inputs)
    fold_norms(network)
    after = network(**inputs)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-4, rtol=1e-3, msg=name)


@torch.inference_mode()
def test_half_weights_run_under_autocast() -> None:
    network = light()
    inputs = network.example_inputs(1)
    before = network(**inputs)
    halve_weights(network)
    with torch.autocast("cpu", torch.float16):
        after = network(**inputs)
    assert (after["points2d"] - before["points2d"]).abs().max() < 4  # [px]
    assert after["points3d"].dtype == torch.float32


@torch.inference_mode()
def test_parts_that_need_float32_keep_it() -> None:
    network = light()
    inputs = network.example_inputs(2)
    truth = network(**inputs)
    rounded = copy.deepcopy(network)
    fold_norms(rounded)
    halve_weights(rounded)
    make_half(network)
    kinds = {name: value.dtype for name, value in network.named_parameters() if "conv" not in name}
    late = [kind for name, kind in kinds.items() if name.startswith("backbone.stages.6.")]
    assert late and set(late) == {torch.float32}
    assert kinds["backbone.stem.0.weight"] == torch.float16
    with torch.autocast("cpu", torch.float16):
        errors = [
            float((found["features"].float() - truth["features"]).abs().mean())
            for found in (network(**inputs), rounded(**inputs))
        ]
    assert 0 < errors[0] < 0.9 * errors[1]
