"""Training of the skeleton network: labels through crops, losses, steps, resuming."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from training_samples import skeleton_training, standing_scene

from mpmesh_core.body import load_body
from mpmesh_core.camera import Camera
from mpmesh_core.crop import look_at
from mpmesh_core.errors import InputError, MissingFileError, WeightsError
from mpmesh_core.ik import twist_from_rotations
from mpmesh_core.joints import COCO_KEYPOINTS, POINTS
from mpmesh_core.networks.checkpoint import load_checkpoint, save_checkpoint
from mpmesh_core.networks.mobilenet import MobileNet
from mpmesh_core.networks.point_head import PointMaps
from mpmesh_core.networks.refiner import RefinerNetwork
from mpmesh_core.networks.skeleton import SkeletonConfig, SkeletonNetwork
from mpmesh_core.training import (
    augment,
    backbone_init,
    skeleton,
    skeleton_data,
    skeleton_losses,
    skeleton_start,
)
from mpmesh_core.training.labels import LabelledImage
from mpmesh_core.training.labels.base import PersonLabel
from mpmesh_core.training.scene import encode_jpeg, write_shard
from mpmesh_core.training.skeleton_sources import labelled_people, scene_people
from mpmesh_core.training.skeleton_validation import validate_skeleton
from mpmesh_core.training.trainer import one_cycle

HEAVY = augment.AugmentConfig(strong_roll=0.5, part=0.5, mirror=0.5, shift=0.2)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    scenes = [standing_scene(seed) for seed in range(6)]
    skeleton_data.write_people(folder, scene_people(scenes, load_body("open"), real=False))
    return folder


class TestPeopleStore:
    @settings(max_examples=25, deadline=None)
    @given(index=st.integers(0, 5), seed=st.integers(0, 1000))
    def test_labels_in_a_crop_agree_with_its_camera(
        self, store: Path, index: int, seed: int
    ) -> None:
        """Whatever happens to the view, K_crop projects the 3D labels onto the 2D ones."""
        people = skeleton_data.PeopleStore(store)
        crop = people.crop(index, np.random.default_rng(seed), HEAVY, 128)
        for name in ("points", "coco"):
            away = crop["points3d"][0, :3] - crop["root"][:3]  # labels have a free origin
            rays = (crop[f"{name}3d"][:, :3] - away) @ crop["K"].T
            pixels = rays[:, :2] / rays[:, 2:]
            known = crop[f"{name}2d"][:, 2] > 0
            np.testing.assert_allclose(pixels[known], crop[f"{name}2d"][known, :2], atol=0.15)

    def test_without_augmentation_the_crop_is_that_of_the_pipeline(self, store: Path) -> None:
        people = skeleton_data.PeopleStore(store)
        crop = people.crop(0, np.random.default_rng(0), augment.NO_AUGMENT, 256)
        camera = Camera(people.labels["K"][0], np.zeros(0), "none", 10, 10)
        truth = look_at(people.labels["box"][:1], camera)
        np.testing.assert_allclose(crop["K"], truth.K[0], rtol=1e-4)

    def test_twist_labels_are_those_of_the_rotations(self, store: Path) -> None:
        scene, body = standing_scene(0), load_body("open")
        person = scene.people[0]
        rest = body.rest_points(torch.from_numpy(person.betas))
        truth = twist_from_rotations(torch.from_numpy(person.rotations), rest)
        labels = skeleton_data.PeopleStore(store).labels["twist"][0]
        np.testing.assert_allclose(labels[:, :2], truth, atol=1e-5)

    def test_mirroring_twice_changes_nothing(self, store: Path) -> None:
        labels = {k: v[0].copy() for k, v in skeleton_data.PeopleStore(store).labels.items()}
        again = skeleton_data.mirror(skeleton_data.mirror(labels, 64), 64)
        for name, value in labels.items():
            np.testing.assert_allclose(again[name], value, atol=1e-4)

    def test_same_seed_same_crop(self, store: Path) -> None:
        people = skeleton_data.PeopleStore(store)
        first, second = (people.crop(2, np.random.default_rng(5), HEAVY, 96) for _ in range(2))
        for name, value in first.items():
            np.testing.assert_array_equal(value, second[name])

    def test_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="no people in"):
            skeleton_data.PeopleStore(tmp_path)

    def test_a_write_that_fails_leaves_the_old_people(
        self, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(file: BinaryIO, **arrays: object) -> None:
            file.write(b"half of it")
            raise OSError(28, "no room")

        people = scene_people([standing_scene(9)], load_body("open"), real=False)
        for path in store.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        monkeypatch.setattr(skeleton_data.np, "savez", full)
        with pytest.raises(InputError, match=r"people cannot be written to .*: no room"):
            skeleton_data.write_people(tmp_path, people)
        assert len(skeleton_data.PeopleStore(tmp_path)) == 6
        assert len(list(tmp_path.iterdir())) == 2

    def test_what_is_stopped_leaves_nothing(self, tmp_path: Path) -> None:
        def stopped() -> Iterator[tuple[np.ndarray, skeleton_data.PersonSample]]:
            yield from scene_people([standing_scene(9)], load_body("open"), real=False)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            skeleton_data.write_people(tmp_path, stopped())
        assert not list(tmp_path.iterdir())

    def test_nobody_is_refused_and_nothing_written(self, tmp_path: Path) -> None:
        write_shard(tmp_path / "shard-00000.npz", [standing_scene(0)])
        with pytest.raises(InputError, match="nobody to store in"):
            skeleton_start.prepare_people(tmp_path, tmp_path / "people", least_size=100_000)
        assert not (tmp_path / "people").exists()

    @pytest.mark.parametrize("name", ["labels.npz", "patches.bin"])
    @pytest.mark.parametrize("part", [0.0, 0.5])
    def test_a_file_that_ends_early_is_named(
        self, store: Path, tmp_path: Path, name: str, part: float
    ) -> None:
        for path in store.iterdir():
            data = path.read_bytes()
            size = int(part * len(data)) if path.name == name else len(data)
            (tmp_path / path.name).write_bytes(data[:size])
        with pytest.raises(InputError, match=name):
            skeleton_data.PeopleStore(tmp_path)


class TestLabelledPeople:
    def test_labels_and_teacher_come_through_and_unknown_conventions_stay_out(self) -> None:
        picture = np.full((60, 80, 3), 90, np.uint8)
        marks = np.concatenate((np.zeros((33, 2)), np.full((33, 1), 0.4)), 1).astype(np.float32)
        person = PersonLabel(
            box=np.array([10, 5, 50, 55], np.float32),
            keypoints={"lsp14": np.ones((14, 3), np.float32), "mediapipe33": marks, "odd": marks},
            teacher3d=np.ones((33, 3), np.float32),
        )
        image = LabelledImage("a.jpg", "lspet", encode_jpeg(picture), 80, 60, (person,))
        ((found, sample),) = labelled_people([image])
        assert found.shape == picture.shape
        assert set(sample.points2d) == {"lsp", "mediapipe"}
        np.testing.assert_allclose(sample.points3d["mediapipe"][:, 3], 0.4)
        assert sample.arrays()["points3d"][:, 3].sum() == 0  # no body, so no weight

    def test_coco_limbs_teach_the_skeleton_too(self) -> None:
        picture = np.full((60, 80, 3), 90, np.uint8)
        coco = np.arange(51, dtype=np.float32).reshape(17, 3) % 40
        coco[:, 2] = 1
        person = PersonLabel(np.array([10, 5, 50, 55], np.float32), {"coco17": coco})
        image = LabelledImage("a.jpg", "coco128", encode_jpeg(picture), 80, 60, (person,))
        ((_, sample),) = labelled_people([image])
        points = sample.points2d["points"]
        for name, joint in (("left_wrist", "left_wrist"), ("right_knee", "right_knee")):
            row = coco[COCO_KEYPOINTS.index(name)]
            np.testing.assert_allclose(points[POINTS.index(joint)], [*row[:2], 0.5])
        assert points[POINTS.index("left_hip"), 2] == 0  # COCO's hips lie elsewhere


class TestLosses:
    def _maps(self, points3d: torch.Tensor, points2d: torch.Tensor) -> PointMaps:
        return PointMaps(
            points3d, points2d, torch.zeros(1), torch.zeros(points2d.shape[:2]),
            (), (), (), (),
        )  # fmt: skip

    def test_truth_costs_nothing(self) -> None:
        torch.manual_seed(0)
        truth3d, weight = torch.randn(2, 29, 3), torch.ones(2, 29, 1)
        truth2d = truth3d[..., :2] * 80 + 128  # an orthographic view
        losses = skeleton_losses.point_losses(
            self._maps(truth3d + 0.3, truth2d),
            torch.cat((truth3d, weight), -1),
            torch.cat((truth2d, weight), -1),
            pixel=0.01,
        )
        for name in ("relative", "image", "projection"):
            assert losses[name] < 1e-5, name

    def test_unknown_points_do_not_matter(self) -> None:
        torch.manual_seed(0)
        known = (torch.arange(29) < 10).float()[None, :, None]
        truth3d, truth2d = torch.randn(1, 29, 3), torch.randn(1, 29, 2)
        labels = torch.cat((truth3d, known), -1), torch.cat((truth2d, known), -1)
        wild = 1000 * (1 - known)
        found3d, found2d = torch.randn(1, 29, 3), torch.randn(1, 29, 2)
        tame = skeleton_losses.point_losses(self._maps(found3d, found2d), *labels, 0.01)
        odd = skeleton_losses.point_losses(
            self._maps(found3d + wild, found2d + wild), *labels, 0.01
        )
        for name, value in tame.items():
            torch.testing.assert_close(odd[name], value)

    def test_no_labels_give_zero_and_a_gradient(self) -> None:
        found = torch.randn(1, 5, 3, requires_grad=True)
        maps = self._maps(found, found[..., :2])
        losses = skeleton_losses.point_losses(maps, torch.zeros(1, 5, 4), torch.zeros(1, 5, 3), 1)
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        assert total == 0
        assert found.grad is not None
        assert torch.isfinite(found.grad).all()


class TestFinalLosses:
    def _labels(self) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        points3d, points2d = torch.randn(2, 29, 4), torch.randn(2, 29, 3) * 50
        points3d[..., 3] = points2d[..., 2] = (torch.arange(29) < 20).float()
        return points3d, points2d

    def test_truth_costs_only_what_it_claims(self) -> None:
        points3d, points2d = self._labels()
        found = {"points3d": points3d[..., :3] + 0.4, "points2d": points2d[..., :2]}
        found["confidence"] = torch.full((2, 29), 0.5)  # an expected error of 8 px
        losses = skeleton_losses.final_losses(found, points3d, points2d, 0.01)
        for name in ("relative", "bones", "image"):
            assert losses[name] < 1e-5, name
        assert losses["likelihood"] == pytest.approx(np.log(8.0), abs=1e-4)

    def test_unknown_points_do_not_matter(self) -> None:
        points3d, points2d = self._labels()
        found = {"points3d": torch.randn(2, 29, 3), "points2d": torch.randn(2, 29, 2)}
        found["confidence"] = torch.full((2, 29), 0.3)
        tame = skeleton_losses.final_losses(found, points3d, points2d, 0.01)
        for name in ("points3d", "points2d"):
            found[name] = torch.cat((found[name][:, :20], found[name][:, 20:] + 99), 1)
        odd = skeleton_losses.final_losses(found, points3d, points2d, 0.01)
        for name, value in tame.items():
            torch.testing.assert_close(odd[name], value)


class TestAbsoluteLoss:
    def test_truth_costs_nothing_and_depth_counts_less_far_away(self, store: Path) -> None:
        crop = skeleton_data.PeopleStore(store).crop(
            0, np.random.default_rng(0), augment.NO_AUGMENT, 256
        )
        labels = {name: torch.from_numpy(value)[None] for name, value in crop.items()}
        points = labels["points3d"][..., :3]
        found = {
            "points3d": points - points[:, :1],
            "points2d": labels["points2d"][..., :2],
            "confidence": torch.full((1, 29), 0.5),
        }
        assert skeleton_losses.placed_loss(found, labels, 256) < 2e-3
        labels["root"][:, 2] += 1.0  # 3 m away, so depth counts fully
        near = skeleton_losses.placed_loss(found, labels, 256)
        torch.testing.assert_close(near, torch.tensor(1.0), rtol=0, atol=5e-3)

    def test_has_a_gradient_where_nothing_can_be_placed(self, store: Path) -> None:
        crop = skeleton_data.PeopleStore(store).crop(
            0, np.random.default_rng(0), augment.NO_AUGMENT, 256
        )
        labels = {name: torch.from_numpy(value)[None] for name, value in crop.items()}
        points3d = torch.zeros(1, 29, 3, requires_grad=True)
        found = {"points3d": points3d, "points2d": torch.zeros(1, 29, 2)}
        found["confidence"] = torch.ones(1, 29)
        skeleton_losses.placed_loss(found, labels, 256).backward()
        assert points3d.grad is not None
        assert torch.isfinite(points3d.grad).all()


class TestTraining:
    def test_a_few_steps_lower_the_loss(self, store: Path, tmp_path: Path) -> None:
        config = skeleton_training(tmp_path, store, steps=40, warmup=0.01)
        trainer = skeleton.SkeletonTrainer(replace(config, augment=augment.NO_AUGMENT))
        batch = skeleton.Batches(trainer.config)[0]
        losses = [trainer.train_step(batch, 0.3)["loss"] for _ in range(25)]
        assert np.mean(losses[-3:]) < 0.9 * losses[0]

    def test_resumed_equals_uninterrupted(self, store: Path, tmp_path: Path) -> None:
        """And batches are the same whether a process beside makes them or not."""
        whole = skeleton_training(tmp_path / "a", store, workers=1)
        parts = skeleton_training(tmp_path / "b", store)
        skeleton.train_skeleton(whole)
        skeleton.SkeletonTrainer(parts).run(stop_at=2)
        path = skeleton.train_skeleton(parts)
        first, _ = load_checkpoint(tmp_path / "a" / "skeleton.safetensors")
        second, metadata = load_checkpoint(path)
        assert metadata["steps"] == 4
        for name, value in first.state_dict().items():
            torch.testing.assert_close(second.state_dict()[name], value, msg=name)

    def test_states_of_earlier_versions_resume(self, store: Path, tmp_path: Path) -> None:
        """They kept the terms since the last log as numbers by name."""
        config = skeleton_training(tmp_path, store)
        skeleton.SkeletonTrainer(config).run(stop_at=3)
        state = torch.load(tmp_path / "state.pt", weights_only=True)
        del state["terms"]
        torch.save(state | {"recent": [{"loss": 1.0}]}, tmp_path / "state.pt")
        trainer = skeleton.SkeletonTrainer(config)
        assert trainer.step == 3
        trainer.run()
        assert trainer.step == 4

    def test_curve_and_validation_are_written(self, store: Path, tmp_path: Path) -> None:
        skeleton.train_skeleton(skeleton_training(tmp_path, store, validation=(str(store),)))
        with (tmp_path / "curve.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["step"] for row in rows] == ["2", "4"]
        assert all(float(row["loss"]) > 0 for row in rows)
        scores = json.loads((tmp_path / "validation.jsonl").read_text())
        assert scores["step"] == 4
        # alignment minimises squares, so the mean of lengths may grow by a little
        assert 0 < scores["pa_mpjpe_mm"] <= 1.05 * scores["mpjpe_mm"]

    def test_frozen_stages_stay(self, store: Path, tmp_path: Path) -> None:
        trainer = skeleton.SkeletonTrainer(skeleton_training(tmp_path, store, frozen_stages=2))
        before = {k: v.clone() for k, v in trainer.network.state_dict().items()}
        trainer.train_step(skeleton.Batches(trainer.config)[0])
        after = trainer.network.state_dict()
        frozen = ("backbone.stem.", "backbone.stages.0.", "backbone.stages.1.")
        changed = {k for k in before if not torch.equal(before[k], after[k])}
        assert not any(name.startswith(frozen) for name in changed)
        assert any(name.startswith("backbone.stages.2.") for name in changed)

    def test_frozen_stages_run_fused_and_say_the_same(self, store: Path, tmp_path: Path) -> None:
        trainer = skeleton.SkeletonTrainer(skeleton_training(tmp_path, store, frozen_stages=2))
        backbone, image = trainer.network.backbone, torch.rand(1, 3, 64, 64) * 2 - 1
        parts = [backbone.stem, *backbone.stages[:2]]
        with torch.inference_mode():
            slow = image
            for part in parts:
                slow = part(slow)
            fast = backbone._fused[0](image)
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-4)
        assert not any("fused" in name for name in trainer.network.state_dict())

    def test_nothing_is_fused_where_all_learn(self, store: Path, tmp_path: Path) -> None:
        trainer = skeleton.SkeletonTrainer(skeleton_training(tmp_path, store))
        stem = trainer.network.backbone.stem.conv.weight.clone()
        trainer.train_step(skeleton.Batches(trainer.config)[0])
        assert not torch.equal(trainer.network.backbone.stem.conv.weight, stem)

    def test_a_start_of_another_kind_is_refused(self, store: Path, tmp_path: Path) -> None:
        refiner = RefinerNetwork()
        path = tmp_path / "refiner.safetensors"
        save_checkpoint(path, refiner, refiner.config_dict())
        with pytest.raises(WeightsError, match="holds a RefinerNetwork"):
            skeleton.SkeletonTrainer(skeleton_training(tmp_path / "b", store, start=str(path)))

    def test_schedule_rises_and_ends_at_zero(self) -> None:
        rates = [one_cycle(p, 0.1) for p in np.linspace(0, 1, 101)]
        assert np.argmax(rates) == 10
        assert rates[10] == pytest.approx(1.0)
        assert rates[-1] == pytest.approx(0.0, abs=1e-9)

    def test_validation_sees_nothing_wrong_in_the_truth(self, store: Path, tmp_path: Path) -> None:
        network = skeleton.SkeletonTrainer(skeleton_training(tmp_path, store)).network.eval()
        scores = validate_skeleton(network, skeleton_data.PeopleStore(store), 64, most=3)
        assert set(scores) == {"mpjpe_mm", "pa_mpjpe_mm"}  # no LSP labels here


class TestSpread:
    CELLS = torch.linspace(-1, 1, 41)

    def _cost(self, mean: float, width: float) -> Tensor:
        bell = (-0.5 * ((self.CELLS - mean) / width).square()).softmax(-1)
        marginals, truth = (bell[None, None],), torch.zeros(1, 1, 1)
        return skeleton_losses.spread_loss(marginals, (self.CELLS,), truth, 0.14, torch.ones(1, 1))

    def test_least_at_the_wanted_place_and_width(self) -> None:
        assert self._cost(0.0, 0.14) == pytest.approx(0.0, abs=1e-5)
        for mean, width in ((0.1, 0.14), (0.0, 0.3), (0.0, 0.07)):
            assert self._cost(mean, width) > 0.05

    def test_every_cell_near_the_truth_is_pulled_up(self) -> None:
        """A soft-argmax has no gradient on a flat map that is centred; this has."""
        logits = torch.zeros(1, 1, 41, requires_grad=True)
        skeleton_losses.spread_loss(
            (logits.softmax(-1),), (self.CELLS,), torch.zeros(1, 1, 1), 0.14, torch.ones(1, 1)
        ).backward()
        assert logits.grad is not None
        assert (logits.grad[0, 0, 18:23] < 0).all()
        assert (logits.grad[0, 0, :8] > 0).all()


class TestTakeOver:
    SMALL = SkeletonConfig(backbone="blazepose", features=32, hidden=32)

    @pytest.mark.parametrize("backbone", ["blazepose", "blazepose-deep"])
    def test_a_network_with_new_parts_says_what_the_old_one_said(
        self, tmp_path: Path, backbone: str
    ) -> None:
        torch.manual_seed(0)
        old = SkeletonNetwork(self.SMALL).eval()
        save_checkpoint(tmp_path / "old.safetensors", old, old.config_dict())
        new = SkeletonNetwork(replace(self.SMALL, backbone=backbone, fine=16)).eval()
        backbone_init.deepen(new.backbone, MobileNet("blazepose"))
        skeleton_start.take_over(new, tmp_path / "old.safetensors")
        image = old.example_inputs(2)["image"]
        with torch.inference_mode():
            before, after = old(image), new(image)
        for name in ("points3d", "features"):
            torch.testing.assert_close(after[name], before[name], rtol=1e-3, atol=1e-4)
        # between old cells scores are interpolated, which moves flat heatmaps' means a little
        assert (after["points2d"] - before["points2d"]).abs().max() < 8

    def test_another_backbone_is_refused(self, tmp_path: Path) -> None:
        other = SkeletonNetwork(replace(self.SMALL, backbone="mobilenetv2"))
        save_checkpoint(tmp_path / "other.safetensors", other, other.config_dict())
        with pytest.raises(WeightsError, match="no skeleton network on blazepose"):
            skeleton_start.take_over(SkeletonNetwork(self.SMALL), tmp_path / "other.safetensors")


class TestBackboneStart:
    def test_a_foreign_or_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="no backbone file"):
            backbone_init.read_tflite_convolutions(tmp_path / "none.tflite")
        (tmp_path / "odd.tflite").write_bytes(b"odd")
        with pytest.raises(InputError, match="not a TensorFlow Lite file"):
            backbone_init.read_tflite_convolutions(tmp_path / "odd.tflite")
