"""Fixtures that several tests share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def smpl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of SMPL files of random bodies, where MPMesh looks for them."""
    from set_samples import write_smpl

    folder = write_smpl(tmp_path / "smpl")
    monkeypatch.setenv("MPMESH_SMPL_DIR", str(folder))
    return folder


@pytest.fixture(scope="module")
def small_refiner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a small refiner with random heads."""
    import torch

    from mpmesh_core.networks.checkpoint import save_checkpoint
    from mpmesh_core.networks.refiner import RefinerConfig, RefinerNetwork

    torch.manual_seed(0)
    network = RefinerNetwork(RefinerConfig(feature_channels=16, width=32, mlp=48))
    torch.nn.init.normal_(network.pose.weight, std=0.1)
    path = tmp_path_factory.mktemp("weights") / "refiner-light.safetensors"
    save_checkpoint(path, network, network.config_dict())
    return path


class _Ear(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


@pytest.fixture
def listen() -> Iterator[Callable[[str], list[str]]]:
    """What a module's logger says from now on.

    Unlike caplog it listens to that logger itself: under ROS's launch plugin, loggers hand nothing
    on.
    """
    attached: list[tuple[logging.Logger, _Ear]] = []

    def attach(module: str) -> list[str]:
        logger, ear = logging.getLogger(module), _Ear()
        logger.addHandler(ear)
        attached.append((logger, ear))
        return ear.heard

    yield attach
    for logger, ear in attached:
        logger.removeHandler(ear)
