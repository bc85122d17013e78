"""Crops cut on a device: the same pictures as those that loading processes cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_samples import skeleton_training, standing_scene

from mpmesh_core.body import load_body
from mpmesh_core.errors import MissingFileError, UsageError
from mpmesh_core.training.augment import NO_AUGMENT, AugmentConfig
from mpmesh_core.training.device_crops import DeviceCrops
from mpmesh_core.training.skeleton import SkeletonTrainer, SkeletonTraining
from mpmesh_core.training.skeleton_batches import Batches
from mpmesh_core.training.skeleton_data import write_people
from mpmesh_core.training.skeleton_sources import scene_people

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two stores whose patches differ in size."""
    body, folders = load_body("open"), []
    for number in range(2):
        folder = tmp_path_factory.mktemp("people")
        scenes = [standing_scene(seed) for seed in range(3 * number, 3 * number + 3)]
        write_people(folder, scene_people(scenes, body, real=False))
        folders.append(folder)
    return folders


def run(stores: list[Path], augment: AugmentConfig, **values: object) -> SkeletonTraining:
    shares = {str(folder): 0.5 for folder in stores}
    return replace(
        skeleton_training(stores[0], stores[0] / "run"), stores=shares, augment=augment, **values
    )


def pictures(config: SkeletonTraining, step: int, device: str = "cpu") -> np.ndarray:
    """(N, S, S, 3), 0..255, of one batch."""
    batches = Batches(config)
    batch = batches[step]
    if config.pixels == "loader":
        return batch["image"].permute(0, 2, 3, 1).numpy().astype(np.float32)
    crops = DeviceCrops(torch.device(device))
    for number, store in batches.open_stores().items():
        crops.hold(number, store)
    return crops(batch, config.size).permute(0, 2, 3, 1).cpu().numpy()


PARTS = {
    "nothing": NO_AUGMENT,
    "views": replace(NO_AUGMENT, strong_roll=0.5, part=0.7, border=0.5, shift=0.2, mirror=0.5),
    "occluders": replace(NO_AUGMENT, occlude=1.0),
    "resolution": replace(NO_AUGMENT, low_resolution=1.0),
    "blur": replace(NO_AUGMENT, blur=1.0),
    "colour": replace(NO_AUGMENT, colour=1.0, grey=0.3),
    "all but noise": AugmentConfig(noise=0.0, low_resolution=0.5, blur=0.5, part=0.5),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("part", PARTS)
def test_same_pictures_as_the_loader_cuts(stores: list[Path], part: str, device: str) -> None:
    config = run(stores, PARTS[part], batch=24, size=64)
    truth = pictures(config, 3)
    found = pictures(replace(config, pixels="device"), 3, device)
    errors = np.abs(found - truth)
    # Rounding, and OpenCV samples at 1/32 px; low resolutions are averaged over whole pixels.
    assert errors.mean() < (2.5 if part == "resolution" else 1.0)
    assert (errors > 16).mean() < 0.005  # edges of windows
    other = pictures(replace(config, pixels="device"), 4, device)
    assert np.abs(other - truth).mean() > 5  # so the bound means something


def test_a_camera_that_sees_no_plane_gives_numbers(stores: list[Path]) -> None:
    """Somewhere in the crop its homography divides by zero."""
    config = run(stores, NO_AUGMENT, batch=2, size=8, pixels="device")
    batches = Batches(config)
    batch = batches[0]
    batch["H"][:] = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 0, 3]])
    crops = DeviceCrops(torch.device("cpu"))
    for number, store in batches.open_stores().items():
        crops.hold(number, store)
    assert crops(batch, 8).isfinite().all()


def test_same_labels(stores: list[Path]) -> None:
    config = run(stores, AugmentConfig(), batch=6, size=64)
    cut, viewed = Batches(config)[2], Batches(replace(config, pixels="device"))[2]
    for name in set(cut) - {"image"}:
        torch.testing.assert_close(cut[name], viewed[name], rtol=0, atol=0)


def test_noise_has_its_strength_and_repeats(stores: list[Path]) -> None:
    config = run(stores, replace(NO_AUGMENT, noise=1.0), batch=8, size=64, pixels="device")
    clean = pictures(replace(config, augment=NO_AUGMENT), 1)
    noisy, again = pictures(config, 1), pictures(config, 1)
    np.testing.assert_array_equal(noisy, again)
    grey = (clean > 40) & (clean < 215)  # where nothing is cut off
    wanted = Batches(config)[1]["noise"].numpy()
    for person in range(8):
        errors = (noisy - clean)[person][grey[person]]
        assert errors.std() == pytest.approx(wanted[person], rel=0.2)


def test_training_on_device_crops(stores: list[Path], tmp_path: Path) -> None:
    config = run(stores, AugmentConfig(), batch=4, steps=2, pixels="device", output=str(tmp_path))
    trainer = SkeletonTrainer(replace(config, validation=()))
    trainer.run()
    assert trainer.step == 2


def test_a_step_without_finite_gradients_changes_no_weight(
    stores: list[Path], tmp_path: Path
) -> None:
    config = run(stores, NO_AUGMENT, batch=4, output=str(tmp_path))
    trainer = SkeletonTrainer(replace(config, validation=()))
    batch = trainer._batches[0]
    before = {name: value.clone() for name, value in trainer.network.named_parameters()}
    trainer.train_step(batch | {"points3d": batch["points3d"] * torch.nan}, 0.5)
    for name, value in trainer.network.named_parameters():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    trainer.train_step(batch, 0.5)
    assert any((v != before[n]).any() for n, v in trainer.network.named_parameters())


class TestAwaitedStores:
    def test_a_store_joins_once_it_is_written(self, stores: list[Path], tmp_path: Path) -> None:
        late = tmp_path / "late"
        config = run([stores[0], late], NO_AUGMENT, batch=16, size=32, pixels="device")
        batches = Batches(replace(config, awaited=True))
        assert batches[0]["store"].unique().tolist() == [0]
        late.symlink_to(stores[1])
        assert batches[0]["store"].unique().tolist() == [0, 1]

    def test_not_there_and_not_awaited(self, stores: list[Path], tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="no people in"):
            Batches(run([stores[0], tmp_path / "none"], NO_AUGMENT))

    def test_a_run_that_counts_its_people_cannot_wait(
        self, stores: list[Path], tmp_path: Path
    ) -> None:
        config = run(stores, NO_AUGMENT, awaited=True, epochs=1.0, output=str(tmp_path))
        with pytest.raises(UsageError, match="awaited stores need"):
            SkeletonTrainer(config)

    def test_none_is_there(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="none of the stores"):
            Batches(run([tmp_path / "none"], NO_AUGMENT, awaited=True))
