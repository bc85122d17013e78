from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from ik_people import rest_skeleton
from training_samples import NETWORK, Noise, refiner_training, scenes, truth_of

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.errors import InputError, MissingFileError, UsageError
from mpmesh_core.networks.checkpoint import load_checkpoint
from mpmesh_core.networks.refiner import RefinerNetwork
from mpmesh_core.refine import pose6d_from_rotations
from mpmesh_core.training.equations import orthographic
from mpmesh_core.training.losses import RefinerLossWeights, RefinerTruth, refiner_losses
from mpmesh_core.training.refiner import (
    RefinerTrainer,
    cache_folder,
    evaluate_refiner,
    make_caches,
    train_refiner,
)
from mpmesh_core.training.refiner_data import RefinerCache, cache_scenes


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("open")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, body: BodyModel) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    assert cache_scenes(folder, scenes((1, 3, 0, 2, 4)), Noise(), body) == 10
    return folder


class TestCache:
    def test_truth_is_carried_into_the_crops(self, cache: Path, body: BodyModel):
        truth = [person for scene in scenes((1, 3, 0, 2, 4)) for person in scene.people]
        with np.load(cache / "labels.npz") as file:
            labels = {name: torch.from_numpy(file[name]) for name in file.files}
        for row, person in enumerate(truth):
            tensors = (person.rotations[None], person.betas[None], person.transl[None])
            points = body(*map(torch.from_numpy, tensors), vertices=False).points[0]
            R_crop_cam = labels["rotations"][row, 0] @ torch.from_numpy(person.rotations[0]).T
            assert torch.allclose(R_crop_cam @ R_crop_cam.T, torch.eye(3), atol=1e-5)
            in_crop = points @ R_crop_cam.T
            assert torch.allclose(labels["points"][row], in_crop - in_crop[:1], atol=1e-5)
            projected = in_crop @ labels["K"][row].T
            assert torch.allclose(
                labels["pixels"][row], projected[:, :2] / projected[:, 2:], atol=0.05
            )
        assert labels["picture"].tolist() == [0, 1, 1, 1, 3, 3, 4, 4, 4, 4]

    def test_contexts_stay_within_a_picture(self, cache: Path):
        store = RefinerCache(cache)
        assert len(store) == 4
        owner = np.repeat(np.arange(4), [len(picture) for picture in store.pictures])
        batches = list(store.in_order(100, 3))
        assert len(batches) == 1
        context, valid = (batches[0].inputs[name].numpy() for name in ("context", "valid"))
        assert (context[:, 0] == np.arange(10)).all()
        assert valid.sum(1).tolist() == [1, 3, 3, 3, 2, 2, 3, 3, 3, 3]
        for row in range(10):
            assert (owner[context[row][valid[row]]] == owner[row]).all()

    def test_samples_depend_on_the_seed_only(self, cache: Path):
        store = RefinerCache(cache)
        first, again, other = (
            store.sample(8, 3, np.random.default_rng(seed)).inputs for seed in (5, 5, 6)
        )
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert first["pose6d"].shape != other["pose6d"].shape or not torch.equal(
            first["pose6d"], other["pose6d"]
        )

    def test_missing_folder_and_empty_scenes(self, tmp_path: Path, body: BodyModel):
        with pytest.raises(MissingFileError, match="no refiner cache"):
            RefinerCache(tmp_path)
        with pytest.raises(MissingFileError, match="hold none"):
            cache_scenes(tmp_path / "x", scenes((0, 0)), Noise(), body)

    @pytest.mark.parametrize("name", ["labels.npz", "features.bin"])
    @pytest.mark.parametrize("part", [0.0, 0.5])
    def test_a_file_that_ends_early_is_named(
        self, cache: Path, tmp_path: Path, name: str, part: float
    ):
        for path in cache.iterdir():
            data = path.read_bytes()
            size = int(part * len(data)) if path.name == name else len(data)
            (tmp_path / path.name).write_bytes(data[:size])
        with pytest.raises(InputError, match=name):
            RefinerCache(tmp_path)

    def test_folders_that_end_alike_have_caches_of_their_own(self, tmp_path: Path, cache: Path):
        config = refiner_training(tmp_path, cache)
        ends = {cache_folder(config, name) for name in ("runs/real/val", "runs/o1/real/val")}
        assert len(ends) == 2

    def test_a_cache_of_something_else_is_refused(self, tmp_path: Path, cache: Path):
        config = refiner_training(tmp_path, cache)
        make_caches(config)
        make_caches(config)
        where = str(cache_folder(config, "/made/scenes"))
        other = tmp_path / "other.safetensors"
        other.write_bytes(b"another network")
        for change in ({"seed": 9}, {"body": "smpl"}, {"skeleton": str(other)}):
            with pytest.raises(UsageError, match=f"{where} was not made of /made/scenes"):
                make_caches(replace(config, **change))
        with pytest.raises(MissingFileError, match=r"none\.safetensors does not exist"):
            make_caches(replace(config, skeleton="none.safetensors"))

    def test_the_first_of_several_processes_makes_caches(
        self, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """The others neither write beside it, nor go on before it is done."""
        config = refiner_training(tmp_path, cache)
        made = cache_folder(config, "/made/scenes")
        hidden = made.rename(made.with_name("hidden"))
        waited: list[float] = []

        def first_is_done(seconds: float) -> None:
            waited.append(seconds)
            hidden.rename(made)

        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
        monkeypatch.setattr("time.sleep", first_is_done)
        make_caches(config)
        assert len(waited) == 1
        assert not made.with_name(f"{made.name}.json").exists()


class TestLosses:
    def test_truth_costs_nothing(self, body: BodyModel):
        truth = truth_of(body)
        pose6d, camera = pose6d_from_rotations(truth.rotations), torch.zeros(4, 3)
        refined = {
            "refined_pose6d": pose6d,
            "refined_betas": truth.betas,
            "refined_camera": camera,
        }
        start = {"pose6d": pose6d, "betas": truth.betas, "camera": camera}
        terms = refiner_losses(refined, start, truth, body, RefinerLossWeights())
        assert all(value < 1e-3 for name, value in terms.items() if name != "camera"), terms

    def test_unknown_people_teach_nothing_but_to_stay(self, body: BodyModel):
        truth = truth_of(body)
        zero = torch.zeros(4)
        unknown = RefinerTruth(
            truth.rotations, truth.betas, truth.points, zero, truth.pixels, zero,
            torch.zeros_like(truth.coco), truth.K,
        )  # fmt: skip
        pose6d = torch.randn(4, 24, 6, requires_grad=True)
        refined = {
            "refined_pose6d": pose6d,
            "refined_betas": torch.zeros(4, 10),
            "refined_camera": torch.ones(4, 3),
        }
        start = {"pose6d": pose6d.detach(), "betas": torch.zeros(4, 10), "camera": zero}
        terms = refiner_losses(refined, start, unknown, body, RefinerLossWeights())
        assert all(value == 0 for value in terms.values())
        sum(terms.values()).backward()
        assert pose6d.grad.isfinite().all()

    def test_orthographic_camera(self):
        camera = torch.tensor([[0.5, 0.2, -0.4]])
        uv = orthographic(torch.tensor([[[-0.2, 0.4, 9.0], [1.8, 2.4, 0.0]]]), camera, 256)
        assert torch.allclose(uv, torch.tensor([[[127.5, 127.5], [255.5, 255.5]]]))


class Leaning(Noise):
    """A skeleton engine that sees everybody lean by 0.8 rad: an error that can be learned."""

    def run(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        said = super().run(inputs)
        lean = roma.rotvec_to_rotmat(torch.tensor([0.0, 0.0, 0.8]))
        points = rest_skeleton().float() @ lean.T + 0.05 * said["points3d"]
        pixels = 127.5 + 100 * points[..., :2]
        sure = torch.ones_like(said["confidence"])
        return said | {"points3d": points, "points2d": pixels, "confidence": sure}


class TestTraining:
    def test_learns_and_beats_kinematics_alone(self, tmp_path: Path, body: BodyModel):
        leaning = tmp_path / "leaning"
        cache_scenes(leaning, scenes((1, 3, 0, 2, 4)), Leaning(), body)
        path = train_refiner(
            refiner_training(tmp_path, leaning, validation=("/made/scenes",), steps=60)
        )
        network, metadata = load_checkpoint(path)
        scores = evaluate_refiner(network, RefinerCache(leaning), body)
        assert scores["refined_mpjpe_mm"] < 0.8 * scores["ik_mpjpe_mm"]  # 0.64 to 0.72 of 6 seeds
        assert scores["refined_rotation_deg"] < 0.65 * scores["ik_rotation_deg"]
        assert metadata["metrics"]["made-scenes"] == scores
        with (tmp_path / "curve.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [int(row["step"]) for row in rows] == list(range(5, 61, 5))
        assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
        lines = (tmp_path / "validation.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [20, 40, 60]

    def test_resumes_where_it_was(self, tmp_path: Path, cache: Path):
        straight = RefinerTrainer(refiner_training(tmp_path / "a", cache, steps=6))
        straight.run()
        halted = RefinerTrainer(refiner_training(tmp_path / "b", cache, steps=6))
        torch.manual_seed(1)
        for step in range(3):
            halted.train_step(halted.batch(step))
            halted.step += 1
        halted.save()
        resumed = RefinerTrainer(refiner_training(tmp_path / "b", cache, steps=6))
        assert resumed.step == 3
        for name, value in resumed.network.state_dict().items():
            assert torch.equal(value, halted.network.state_dict()[name])
        resumed.run()
        assert resumed.step == straight.step == 6

    def test_untrained_scores_like_kinematics(self, cache: Path, body: BodyModel):
        scores = evaluate_refiner(RefinerNetwork(NETWORK).eval(), RefinerCache(cache), body)
        for name in ("mpjpe_mm", "pa_mpjpe_mm", "rotation_deg", "betas"):
            assert scores[f"ik_{name}"] == pytest.approx(scores[f"refined_{name}"], rel=1e-3)
