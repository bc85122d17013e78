from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_samples import NETWORK, made_cache, refiner_training
from typer.testing import CliRunner

from mpmesh_core import cli
from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.errors import InputError, UsageError
from mpmesh_core.evaluation import ablation
from mpmesh_core.evaluation.ablation import METRICS, REFINED, measure, run_ablation
from mpmesh_core.evaluation.ablation_report import (
    difference,
    over_seeds,
    summarise,
    to_markdown,
)
from mpmesh_core.limbs import keep_limbs
from mpmesh_core.networks.refiner import RefinerConfig, RefinerNetwork
from mpmesh_core.refine import pose6d_from_rotations, rotations_from_pose6d
from mpmesh_core.training.refiner import RefinerTraining
from mpmesh_core.training.refiner_data import RefinerCache


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("open")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_cache(tmp_path_factory.mktemp("cache"))


def config(output: Path, cache: Path, **changes: object) -> RefinerTraining:
    """Every row in a second: a tiny network and two steps, on a cache that is its own folder."""
    return RefinerTraining(
        output=str(output), scenes={str(cache): 1.0}, validation=(str(cache),), network=NETWORK,
        batch=8, steps=2, threads=1, workers=0, **changes,
    )  # fmt: skip


class TestMeasure:
    def test_an_untrained_refiner_changes_nothing(self, cache: Path, body: BodyModel) -> None:
        store = RefinerCache(cache)
        before = measure(None, [store], body)
        after = measure(RefinerNetwork(NETWORK).eval(), [store], body)
        for metric in METRICS:
            assert np.allclose(after[f"refiner/{metric}"], before[f"ik/{metric}"], atol=0.01)

    def test_truth_has_no_error(self, cache: Path, body: BodyModel) -> None:
        store = RefinerCache(cache)
        labels = store._labels
        labels["pose6d"] = pose6d_from_rotations(torch.from_numpy(labels["rotations"])).numpy()
        labels["start_betas"] = labels["betas"]
        for name in ("skeleton", "placed"):
            labels[name] = labels["points"][:, :24] + 0.5  # wherever it stands
        errors = measure(None, [store], body)
        assert len(errors["ik/mve"]) == 10
        assert max(float(values.max()) for values in errors.values()) < 0.01

    def test_the_pipelines_people_go_through_keep_limbs(self, cache: Path, body: BodyModel) -> None:
        store = RefinerCache(cache)
        network = RefinerNetwork(NETWORK).eval()
        torch.manual_seed(0)
        torch.nn.init.normal_(network.pose.weight, std=0.2)
        errors = measure(network, [store], body)
        people = next(iter(store.in_order(64, 3)))
        with torch.inference_mode():
            refined = network(*people.inputs.values())
            seen = rotations_from_pose6d(people.inputs["pose6d"], people.truth.rotations)
            rotations = rotations_from_pose6d(refined["refined_pose6d"], seen)
            betas = people.inputs["betas"]
            kept = keep_limbs(rotations, seen, betas, body)
            joints = body(kept, betas, torch.zeros(10, 3), vertices=False).joints
            joints = joints - joints[:, :1]
        expected = 1e3 * (joints - people.truth.points[:, :24]).norm(dim=-1).mean(-1).numpy()
        assert np.allclose(errors["pipeline/mpjpe"], expected, atol=0.01)
        assert not np.allclose(errors["pipeline/mpjpe"], errors["refiner/mpjpe"], atol=1)

    def test_an_older_cache_is_refused(self, cache: Path, body: BodyModel) -> None:
        store = RefinerCache(cache)
        del store._labels["skeleton"], store._labels["placed"]
        with pytest.raises(InputError, match="make it anew"):
            measure(None, [store], body)


class TestRun:
    def test_every_row_and_finished_ones_once(
        self, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        training = config(tmp_path / "out", cache)
        found = run_ablation(training, seeds=2)
        assert set(found.refined) == {row.name for row in REFINED}
        assert all(len(runs) == 2 for runs in found.refined.values())
        page = to_markdown(summarise(found))
        for title in (*(row.title for row in REFINED), "w/o refiner", "66.0", "71.8", "2 seeds"):
            assert title in page
        assert not list(tmp_path.rglob("state.pt"))  # nothing to resume is kept

        def fail(*_: object) -> None:
            raise AssertionError("trained again")

        monkeypatch.setattr(ablation, "train_refiner", fail)
        again = run_ablation(replace(training, threads=2), seeds=2)
        assert summarise(again) == summarise(found)
        some = run_ablation(training, seeds=1, rows=["n1"])
        assert summarise(some)["seeds"] == 1
        with pytest.raises(UsageError, match="another steps"):
            run_ablation(replace(training, steps=3))

    def test_all_seeds_share_the_cache_of_the_scenes(self, tmp_path: Path, cache: Path) -> None:
        training = refiner_training(tmp_path, cache, steps=2, validation=("/made/scenes",))
        assert len(run_ablation(training, seeds=2, rows=["n1"]).refined["n1"]) == 2
        assert len(list((tmp_path / "cache").glob("*.json"))) == 1

    def test_rows_are_configuration(self) -> None:
        changed = {row.name: replace(RefinerConfig(), **row.changes) for row in REFINED}
        assert changed["n3"] == RefinerConfig()
        assert changed["position"].positional_embedding and not RefinerConfig().positional_embedding
        assert changed["no_mask"].mask_ratio == 0 < RefinerConfig().mask_ratio
        assert [changed[f"n{n}"].max_people for n in range(1, 5)] == [1, 2, 3, 4]

    def test_the_command_writes_tables(self, tmp_path: Path, cache: Path) -> None:
        words = [
            "ablate", "--row", "n1", "--seeds", "1", f"output={tmp_path}", f"scenes={{{cache}: 1}}",
            f"validation=[{cache}]", "steps=1", "batch=4", "threads=1", "workers=0",
            "network.feature_channels=8", "network.width=32", "network.mlp=32",
        ]  # fmt: skip
        outcome = CliRunner().invoke(cli.app, words)
        assert outcome.exit_code == 0, outcome.output
        assert "PA-MPJPE" in outcome.output
        table = json.loads((tmp_path / "table4.json").read_text())
        assert (table["people"], table["pictures"], table["seeds"]) == (10, 4, 1)
        assert "| N = 1 | pipeline |" in (tmp_path / "table4.md").read_text()

    def test_wrong_usage(self, tmp_path: Path, cache: Path) -> None:
        with pytest.raises(UsageError, match="'n9'"):
            run_ablation(config(tmp_path, cache), rows=["n9"])
        with pytest.raises(UsageError, match="validation"):
            run_ablation(replace(config(tmp_path, cache), validation=()))


class TestIntervals:
    def test_over_seeds_is_students_t(self) -> None:
        figure = over_seeds([1.0, 2.0, 3.0])
        assert figure["mean"] == 2.0
        assert figure["half"] == pytest.approx(4.3027 / 3**0.5, abs=1e-3)
        assert over_seeds([5.0]) == {"mean": 5.0, "half": None}

    def test_intervals_hold_the_truth_as_often_as_they_say(self) -> None:
        rng, hits = np.random.default_rng(0), 0
        pictures = np.repeat(np.arange(60), 2)
        for _ in range(100):
            shared = np.repeat(rng.normal(size=60), 2)  # people of one picture err alike
            errors = 1.0 + shared + 0.1 * rng.normal(size=120)
            found = difference(errors[None], np.zeros((1, 120)), pictures)
            hits += found["low"] <= 1.0 <= found["high"]
        assert 85 <= hits <= 99

    def test_a_claim_needs_more_than_a_lucky_mean(self) -> None:
        pictures, nothing = np.arange(4), np.zeros((1, 4))
        lucky = difference(np.array([[-5.0, 1.0, 1.0, 1.0]]), nothing, pictures)
        assert lucky["mean"] < 0 and not lucky["holds"]
        assert difference(np.full((1, 4), -0.1), nothing, pictures)["holds"]

    def test_a_claim_holds_for_all_seeds(self) -> None:
        pictures = np.arange(4)
        seeds = np.repeat([[-2.0], [0.5], [0.3]], 4, axis=1)
        found = difference(seeds, np.zeros((3, 4)), pictures)
        assert found["high"] < 0 and not found["holds"]
        alike = np.repeat([[-1.0], [-1.1], [-0.9]], 4, axis=1)
        assert difference(alike, np.zeros((3, 4)), pictures)["holds"]
