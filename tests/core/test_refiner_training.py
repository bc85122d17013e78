from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import roma
import torch

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.camera import Camera
from mpmesh_core.errors import MissingFileError
from mpmesh_core.networks.checkpoint import load_checkpoint
from mpmesh_core.networks.refiner import RefinerConfig, RefinerNetwork
from mpmesh_core.refine import pose6d_from_rotations
from mpmesh_core.training.equations import orthographic
from mpmesh_core.training.losses import RefinerLossWeights, RefinerTruth, refiner_losses
from mpmesh_core.training.refiner import (
    RefinerTrainer,
    RefinerTraining,
    cache_folder,
    evaluate_refiner,
    train_refiner,
)
from mpmesh_core.training.refiner_data import RefinerCache, cache_scenes
from mpmesh_core.training.scene import PersonTruth, Scene

CHANNELS = 8
CAMERA = Camera.from_fov(320, 240)
NETWORK = RefinerConfig(feature_channels=CHANNELS, width=32, mlp=32)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("open")


class Noise:
    """A skeleton engine that answers at random, but finite."""

    name, backend, device = "skeleton", "torch", torch.device("cpu")
    input_names: tuple[str, ...] = ("image",)
    output_names: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(0)

    def run(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        people = len(inputs["image"])

        def draw(*shape: int) -> torch.Tensor:
            return torch.rand(people, *shape, generator=self._generator)

        return {
            "points3d": draw(29, 3) - 0.5,
            "points2d": 255 * draw(29, 2),
            "confidence": draw(29),
            "twist": draw(23, 2),
            "betas": draw(10),
            "features": draw(CHANNELS, 8, 8),
            "heatmaps": draw(24, 64).softmax(-1).unflatten(-1, (8, 8)),
        }


def scenes(counts: tuple[int, ...], seed: int = 0) -> list[Scene]:
    """Grey pictures with people at known places."""
    rng = np.random.default_rng(seed)

    def person() -> PersonTruth:
        rotvec = torch.from_numpy(0.4 * rng.standard_normal((24, 3))).float()
        return PersonTruth(
            rotations=roma.rotvec_to_rotmat(rotvec).numpy(),
            betas=rng.standard_normal(10).astype(np.float32),
            transl=np.array((rng.uniform(-1, 1), 0, rng.uniform(3, 6)), np.float32),
            box=np.array((60, 40, 160, 220), np.float32),
            visible_box=None,
            visibility=1.0,
        )

    grey = np.full((240, 320, 3), 128, np.uint8)
    return [Scene(grey, CAMERA, [person() for _ in range(count)]) for count in counts]


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


def truth_of(body: BodyModel, people: int = 4) -> RefinerTruth:
    """People straight ahead of their crop cameras."""
    torch.manual_seed(0)
    rotations = roma.rotvec_to_rotmat(0.3 * torch.randn(people, 24, 3))
    betas, zero = torch.randn(people, 10), torch.zeros(people, 3)
    points = body(rotations, betas, zero, vertices=False).points
    coco = body.keypoints(rotations, betas, zero, "coco17") - points[:, :1]
    points = points - points[:, :1]
    K = torch.tensor([[300.0, 0, 127.5], [0, 300, 127.5], [0, 0, 1]]).repeat(people, 1, 1)
    ahead = torch.tensor([0.0, 0.0, 3.0])
    uv = [(x + ahead) @ K[0].T for x in (points, coco)]
    pixels, coco = (x[..., :2] / x[..., 2:] for x in uv)
    one = torch.ones(people)
    labelled = torch.cat((coco, torch.ones_like(coco[..., :1])), -1)
    return RefinerTruth(rotations, betas, points, one, pixels, one, labelled, K)


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


class TestTraining:
    def config(self, folder: Path, cache: Path, **changes: object) -> RefinerTraining:
        """A run whose caches exist already."""
        config = RefinerTraining(
            output=str(folder), skeleton="", scenes={"made/scenes": 1.0},
            validation=("made/scenes",), network=NETWORK, batch=8, rate=3e-3, log_every=5,
            save_every=20, threads=1, **changes,
        )  # fmt: skip
        target = cache_folder(config, "made/scenes")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.symlink_to(cache)
        return config

    def test_learns_and_beats_kinematics_alone(self, tmp_path: Path, cache: Path, body: BodyModel):
        path = train_refiner(self.config(tmp_path, cache, steps=60))
        network, metadata = load_checkpoint(path)
        scores = evaluate_refiner(network, RefinerCache(cache), body)
        assert scores["refined_mpjpe_mm"] < 0.9 * scores["ik_mpjpe_mm"]
        assert scores["refined_rotation_deg"] < scores["ik_rotation_deg"]
        assert metadata["metrics"]["made-scenes"] == scores
        with (tmp_path / "curve.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [int(row["step"]) for row in rows] == list(range(5, 61, 5))
        assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
        lines = (tmp_path / "validation.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [20, 40, 60]

    def test_resumes_where_it_was(self, tmp_path: Path, cache: Path):
        straight = RefinerTrainer(self.config(tmp_path / "a", cache, steps=6))
        straight.run()
        halted = RefinerTrainer(self.config(tmp_path / "b", cache, steps=6))
        torch.manual_seed(1)
        for step in range(3):
            halted.train_step(halted.batch(step))
            halted.step += 1
        halted.save()
        resumed = RefinerTrainer(self.config(tmp_path / "b", cache, steps=6))
        assert resumed.step == 3
        for name, value in resumed.network.state_dict().items():
            assert torch.equal(value, halted.network.state_dict()[name])
        resumed.run()
        assert resumed.step == straight.step == 6

    def test_untrained_scores_like_kinematics(self, cache: Path, body: BodyModel):
        scores = evaluate_refiner(RefinerNetwork(NETWORK).eval(), RefinerCache(cache), body)
        for name in ("mpjpe_mm", "pa_mpjpe_mm", "rotation_deg", "betas"):
            assert scores[f"ik_{name}"] == pytest.approx(scores[f"refined_{name}"], rel=1e-3)
