"""The roofline: work of known operations exactly, every stage of the line in the table."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mpmesh_core.pipeline import Pipeline, PipelineConfig

STAGES = ["detect", "crop", "skeleton", "place", "ik", "refine", "body"]
FLOAT = 4  # bytes


@pytest.fixture
def roofline(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return import_module("roofline")


class TestWork:
    @torch.inference_mode()
    def test_a_linear_layer(self, roofline: ModuleType) -> None:
        meter, layer, x = roofline.StageMeter(), nn.Linear(3, 5), torch.rand(2, 3)
        assert torch.equal(meter("linear", None, layer, x), layer(x))
        moved = FLOAT * (2 * 3 + 3 * 5 + 5 + 2 * 5)
        assert meter.work["linear"] == roofline.Work(2 * 2 * 3 * 5, 1, moved, moved)

    @torch.inference_mode()
    def test_what_stays_inside_is_moved_but_not_least(self, roofline: ModuleType) -> None:
        def step(x: Tensor, row: Tensor) -> dict[str, Tensor]:
            total = (x + row).view(-1).relu_()
            return {"sum": total.sum(), "given": x}

        meter = roofline.StageMeter()
        meter("step", None, step, torch.rand(4, 5), torch.rand(1, 5).expand(4, 5))
        added, positive, summed = 20 + 5 + 20, 20 + 20, 20 + 1
        moved, least = FLOAT * (added + positive + summed), FLOAT * (20 + 5 + 1)
        assert meter.work["step"] == roofline.Work(20 + 20 + 20, 3, moved, least)

    @torch.inference_mode()
    def test_weights_that_are_not_read_do_not_count(self, roofline: ModuleType) -> None:
        layers = nn.ModuleDict({"read": nn.Linear(8, 8), "unread": nn.Linear(8, 8)})
        meter = roofline.StageMeter()
        meter("step", None, lambda x: layers["read"](x), torch.rand(1, 8))
        assert meter.work["step"].least == FLOAT * (8 + 8 * 8 + 8 + 8)


def test_the_longer_time_is_the_roof(roofline: ModuleType) -> None:
    ceilings = roofline.Ceilings(network_flops=4e9, other_flops=1e9, bandwidth=1e9)
    work = roofline.Work(flops=2e6, ops=1, moved=9e6, least=1e6)
    place = roofline.against_roof("place", work, 4.0, ceilings)
    assert (place.allowed_ms, place.share, place.roof) == (2, 0.5, "arithmetic")
    detect = roofline.against_roof("detect", work, 4.0, ceilings)  # in the networks' precision
    assert (detect.allowed_ms, detect.share, detect.roof) == (1, 0.25, "memory")
    assert detect.intensity == 2


def test_products_of_a_network_are_those_of_torchs_counter(roofline: ModuleType) -> None:
    config = PipelineConfig(backend="torch", device="cpu", track=False, second_look="off")
    skeleton = Pipeline(config).skeleton
    image = {"image": torch.rand(1, 3, 256, 256)}
    with FlopCounterMode(display=False) as counter:
        skeleton.run(image)
    meter = roofline.StageMeter()
    meter("skeleton", None, skeleton.run, image)
    products = counter.get_total_flops()
    assert products < meter.work["skeleton"].flops < 1.05 * products


def test_every_stage_is_in_the_table(
    roofline: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(roofline, "SIDES", {"cpu": 64})
    monkeypatch.setattr(roofline, "COPIED", {"cpu": 2**20})
    options = {"--device": "cpu", "--people": "1", "--size": "160x120", "--runs": "2"}
    words = [word for option in options.items() for word in option]
    monkeypatch.setattr(sys, "argv", ["roofline.py", *words, "--output", str(tmp_path)])
    roofline.main()
    figures = json.loads((tmp_path / "roofline.json").read_text())
    assert [row["stage"] for row in figures["stages"]] == STAGES
    for row in figures["stages"]:
        assert row["gflop"] > 0 and row["ms"] > 0 and row["ops"] > 0
        assert row["moved_mb"] > row["least_mb"] > 0
    lines = capsys.readouterr().out.splitlines()
    table = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert table == ["stage", "---", *STAGES, "all"]
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
