"""Paths with `~`, which a shell replaces only in some places."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpmesh_core.body.files import find_body_file
from mpmesh_core.camera import Camera
from mpmesh_core.configuration import PipelineConfig
from mpmesh_core.errors import MissingFileError
from mpmesh_core.mcap_output import McapFile
from mpmesh_core.outputs import ResultsWriter, prepare_folder
from mpmesh_core.paths import expanded
from mpmesh_core.replay import ReplayConfig

STRANGER = "~no-such-user"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home, which is the current folder too."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_home_and_a_stranger(home: Path) -> None:
    assert expanded("~/a b/ä") == home / "a b" / "ä"
    assert expanded(f"{STRANGER}/x") == Path(f"{STRANGER}/x")
    assert expanded("a/~/x") == Path("a/~/x")


def test_outputs(home: Path) -> None:
    assert prepare_folder("~/out") == home / "out"
    ResultsWriter(f"{STRANGER}/out").close()
    assert (home / STRANGER / "out").is_dir()


def test_recordings(home: Path) -> None:
    pytest.importorskip("mcap")
    for name in ("~/a.mcap", f"{STRANGER}/a.mcap"):
        with McapFile(name):
            pass
    assert (home / "a.mcap").is_file() and (home / STRANGER / "a.mcap").is_file()


def test_settings(home: Path) -> None:
    """A YAML of ROS parameters goes through no shell."""
    config = PipelineConfig(weights=Path("~/w"), detector=Path("~/d.onnx"))
    assert (config.weights, config.detector) == (home / "w", home / "d.onnx")
    assert ReplayConfig(camera_file=Path("~/c.yaml")).camera_file == home / "c.yaml"


@pytest.mark.parametrize("read", [Camera.from_file, find_body_file])
def test_what_is_missing_is_named(read, home: Path) -> None:
    with pytest.raises(MissingFileError, match=str(home / "x.npz")):
        read("~/x.npz")
    with pytest.raises(MissingFileError, match=f"{STRANGER}/x.npz"):
        read(f"{STRANGER}/x.npz")
