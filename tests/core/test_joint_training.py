"""Joint training and recipes: data, gradients through the whole line, checkpoints, the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_samples import scenes, skeleton_training, standing_scene
from typer.testing import CliRunner

from mpmesh_core.body import load_body
from mpmesh_core.cli.train import app
from mpmesh_core.errors import UsageError
from mpmesh_core.networks.checkpoint import load_checkpoint
from mpmesh_core.networks.refiner import RefinerConfig
from mpmesh_core.networks.skeleton import SkeletonConfig
from mpmesh_core.training.augment import NO_AUGMENT
from mpmesh_core.training.detector import DetectorTraining
from mpmesh_core.training.head import HeadTraining
from mpmesh_core.training.joint import JointTrainer, JointTraining
from mpmesh_core.training.joint_data import SceneBatches
from mpmesh_core.training.recipe import Recipe, train_recipe
from mpmesh_core.training.refiner import RefinerTraining
from mpmesh_core.training.scene import write_shard
from mpmesh_core.training.settings import read_settings
from mpmesh_core.training.skeleton import SkeletonTrainer, SkeletonTraining
from mpmesh_core.training.skeleton_data import write_people
from mpmesh_core.training.skeleton_sources import scene_people

CONFIGS = Path(__file__).parents[2] / "configs"
LIGHT = CONFIGS / "light"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of scenes with 0 to 4 people, and a store of single people."""
    folder = tmp_path_factory.mktemp("joint")
    (folder / "scenes").mkdir()
    write_shard(folder / "scenes" / "shard-00000.npz", scenes((1, 3, 0, 2, 4)))
    single = [standing_scene(seed) for seed in range(3)]
    write_people(folder / "store", scene_people(single, load_body("open"), real=False))
    return folder / "scenes", folder / "store"


def config(data: tuple[Path, Path], output: Path, **changes: object) -> JointTraining:
    settings: dict[str, object] = {
        "output": str(output), "scenes": {str(data[0]): 1.0}, "stores": {str(data[1]): 1.0},
        "batch": 6, "store_people": 2, "steps": 2, "threads": 1, "workers": 0, "log_every": 1,
        "network": SkeletonConfig(features=16, hidden=32), "precision": "32-true",
        "refiner": RefinerConfig(feature_channels=16, width=32, mlp=32), "frozen_stages": 0,
    }  # fmt: skip
    return JointTraining(**(settings | changes))  # type: ignore[arg-type]


def batches(data: tuple[Path, Path], part: tuple[int, int] = (0, 1)) -> SceneBatches:
    scenes, store = ({str(folder): 1.0} for folder in data)
    return SceneBatches(scenes, 4, 3, NO_AUGMENT, "open", store, 2, seed=0, part=part)


class TestData:
    def test_labels_of_people_agree_with_their_cameras(self, data: tuple[Path, Path]) -> None:
        batch = batches(data)[0]
        people = len(batch["context"])
        standing = batch["points3d"][:people, :, :3] + batch["root"][:people, None, :3]
        rays = standing @ batch["K"][:people].mT
        known = batch["points2d"][:people, :, 2] > 0
        off = rays[..., :2] / rays[..., 2:] - batch["points2d"][:people, :, :2]
        assert known.any()
        assert off[known].abs().max() < 0.1

    def test_groups_have_at_most_n_people_and_stores_come_last(
        self, data: tuple[Path, Path]
    ) -> None:
        batch = batches(data)[1]
        people = len(batch["context"])
        assert 4 <= people <= 12
        assert len(batch["image"]) == len(batch["K"]) == people + 2
        assert len(batch["truth_pixels"]) == people
        assert batch["valid"].sum(1).max() <= 3
        assert (batch["context"][:, 0] == torch.arange(people)).all()

    def test_devices_share_one_batch(self, data: tuple[Path, Path]) -> None:
        whole = batches(data)[3]
        parts = [batches(data, (rank, 2))[3] for rank in (0, 1)]
        for name in ("betas", "truth_betas"):
            rows = torch.cat([part[name] for part in parts])
            order, expected = (np.lexsort(x.numpy().T) for x in (rows, whole[name]))
            torch.testing.assert_close(rows[order], whole[name][expected])


class TestTraining:
    def test_the_refiners_losses_reach_the_backbone(
        self, data: tuple[Path, Path], tmp_path: Path
    ) -> None:
        trainer = JointTrainer(config(data, tmp_path))
        trainer.train_mode()
        torch.nn.init.normal_(trainer.network.skeleton.joints.shift.weight, std=0.01)
        terms = trainer.loss_terms(batches(data)[0], 0.0)
        names = ("pose", "points", "image", "camera")
        torch.stack([terms[f"refined_{name}"] for name in names]).sum().backward()
        for part in (trainer.network.skeleton.backbone, trainer.network.refiner):
            gradients = [p.grad for p in part.parameters() if p.grad is not None]
            assert gradients
            assert all(gradient.isfinite().all() for gradient in gradients)
            assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0

    def test_people_without_labels_teach_the_skeleton_nothing(
        self, data: tuple[Path, Path], tmp_path: Path
    ) -> None:
        trainer = JointTrainer(config(data, tmp_path))
        batch = batches(data)[0]
        for name in ("points", "lsp", "coco", "mediapipe"):
            batch[f"{name}3d"][..., 3] = batch[f"{name}2d"][..., 2] = 0
        for name in ("twist", "betas", "root"):
            batch[name][..., -1] = 0
        for name in ("weight_3d", "weight_2d"):
            batch[f"truth_{name}"].zero_()
        batch["truth_coco"][..., 2] = 0
        terms = trainer.loss_terms(batch, 1.0)
        assert {name for name, value in terms.items() if value != 0} <= {"refined_stay"}

    def test_two_dimensional_labels_alone_give_2d_losses_alone(
        self, data: tuple[Path, Path], tmp_path: Path
    ) -> None:
        """Weak supervision: photos with keypoints and no bodies."""
        trainer = JointTrainer(config(data, tmp_path))
        batch = batches(data)[0]
        for name in ("points", "lsp", "coco", "mediapipe"):
            batch[f"{name}3d"][..., 3] = 0
        for name in ("twist", "betas", "root"):
            batch[name][..., -1] = 0
        batch["truth_weight_3d"].zero_()
        terms = trainer.loss_terms(batch, 1.0)
        for name in ("relative_final", "bones_final", "twist", "shape", "absolute",
                     "refined_pose", "refined_shape", "refined_points"):  # fmt: skip
            assert terms[name] == 0, name
        for name in ("image_final", "projection_points", "refined_image", "refined_camera"):
            assert terms[name] > 0, name

    def test_writes_both_networks_and_resumes(
        self, data: tuple[Path, Path], tmp_path: Path
    ) -> None:
        recipe = Recipe(joint=config(data, tmp_path, validation=(str(data[0]),), save_every=1))
        JointTrainer(recipe.joint).run(stop_at=1)
        paths = train_recipe(recipe, lambda text: None)
        assert [path.name for path in paths] == [
            "skeleton-light.safetensors", "refiner-light.safetensors",
        ]  # fmt: skip
        for path in paths:
            _, metadata = load_checkpoint(path)
            assert metadata["steps"] == 2
            (scores,) = metadata["metrics"].values()
            assert scores["ik_mpjpe_mm"] > 0

    def test_what_does_not_fit_is_refused(self, data: tuple[Path, Path], tmp_path: Path) -> None:
        fitting = config(data, tmp_path)
        with pytest.raises(UsageError, match="16 features, the refiner reads 256"):
            JointTrainer(replace(fitting, refiner=RefinerConfig()))
        for other in ({"pixels": "device"}, {"awaited": True}):
            with pytest.raises(UsageError, match="leave out pixels and awaited"):
                JointTrainer(replace(fitting, **other))
        with pytest.raises(UsageError, match="size=256"):
            JointTrainer(replace(fitting, size=128))


class TestRecipes:
    def test_the_papers_is_the_papers(self) -> None:
        """Section 3.4, number by number."""
        recipe = read_settings(Recipe, CONFIGS / "paper.yaml")
        joint = recipe.joint
        assert recipe.variant == joint.network.variant == joint.refiner.variant == "paper"
        assert (joint.optimizer, joint.schedule, joint.decay) == ("adam", "exponential", 0.9)
        assert joint.rate == joint.head_rate == joint.joint_rate == 1e-4
        assert joint.refiner_rate == 5e-5
        assert joint.epochs == 100
        assert joint.batch + joint.store_people == 64
        assert joint.refiner == RefinerConfig.paper()
        assert (joint.refiner.max_people, joint.refiner.mask_ratio) == (3, 0.3)
        assert joint.weight_decay == joint.average == 0
        assert joint.largest_gradient is None
        ours = {"bones", "spread", "likelihood", "extra"}
        assert all(getattr(joint.weights, name) == 0 for name in ours)
        assert joint.refiner_weights.image == joint.refiner_weights.stay == 0
        assert joint.weights.form == joint.refiner_weights.form == "paper"

    @pytest.mark.parametrize("name", ("light/joint.yaml", "paper.yaml"))
    def test_recipes_can_be_read(self, name: str) -> None:
        assert read_settings(Recipe, CONFIGS / name).joint is not None

    @pytest.mark.parametrize(
        "kind, word",
        [
            (SkeletonTraining, "step=3"),
            (SkeletonTraining, "weights.relatve=1"),
            (SkeletonTraining, "augment.rol_deg=1"),
            (SkeletonTraining, "network.hiden=8"),
            (RefinerTraining, "weights.pos=1"),
            (RefinerTraining, "network.layer=2"),
            (HeadTraining, "token=9"),
            (Recipe, "joint.bach=2"),
            (Recipe, "jont=2"),
        ],
    )
    def test_unknown_keys_are_refused(self, kind: type, word: str) -> None:
        key = word.partition("=")[0]
        given = ["output=x", "stores={x: 1.0}"] if kind in (SkeletonTraining, HeadTraining) else []
        given = ["output=x", "scenes={x: 1.0}"] if kind is RefinerTraining else given
        given = ["joint={output: x, scenes: {x: 1.0}}"] if kind is Recipe else given
        with pytest.raises(UsageError, match=f"'{key}'"):
            read_settings(kind, None, [*given, word])

    @pytest.mark.parametrize("name", sorted(path.name for path in LIGHT.glob("*.yaml")))
    def test_shipped_settings_can_be_read(self, name: str) -> None:
        kinds: dict[str, type] = {"refiner.yaml": RefinerTraining, "ablation.yaml": RefinerTraining}
        kinds |= {"head.yaml": HeadTraining, "joint.yaml": Recipe}
        if name == "detector.yaml":
            assert read_settings(DetectorTraining, LIGHT / name, ["data=x"]).batch == 8
        else:
            assert read_settings(kinds.get(name, SkeletonTraining), LIGHT / name)

    def test_a_gpu_that_is_not_there_is_one_line(
        self, data: tuple[Path, Path], tmp_path: Path
    ) -> None:
        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
        config = skeleton_training(tmp_path, data[1], accelerator="cuda")
        with pytest.raises(UsageError, match="accelerator=cpu"):
            SkeletonTrainer(config)

    def test_stages_are_checked(self, data: tuple[Path, Path], tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="needs a stage"):
            train_recipe(Recipe())
        with pytest.raises(UsageError, match=r"joint.network is of variant light"):
            train_recipe(Recipe(variant="paper", joint=config(data, tmp_path)))

    def test_command(self, tmp_path: Path) -> None:
        runner = CliRunner()
        assert "skeleton" in runner.invoke(app, []).output  # help
        file = tmp_path / "recipe.yaml"
        file.write_text("variant: light\n")
        result = runner.invoke(app, ["--config", str(file)])
        assert isinstance(result.exception, UsageError)
        result = runner.invoke(app, ["--config", str(file), "skeleton"])
        assert "behind the command" in str(result.exception)
        result = runner.invoke(app, ["-c", str(file), "--set", "joint.steps=1"])
        assert "joint.output" in str(result.exception)
