"""Checkpoints: round trips, and every way in which a file can be wrong."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mpmesh_core.errors import MissingFileError, WeightsError
from mpmesh_core.networks.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint
from mpmesh_core.networks.skeleton import SkeletonConfig, SkeletonNetwork

HEADER = {"kind": "skeleton", "variant": "light", "config": {}, "version": 1}


@pytest.fixture(scope="module")
def network() -> SkeletonNetwork:
    torch.manual_seed(0)
    return SkeletonNetwork(SkeletonConfig(hidden=32, features=64)).eval()


def _foreign(path: Path, header: object) -> Path:
    text = header if isinstance(header, str) else json.dumps(header)
    save_file({"a": torch.zeros(2)}, path, metadata={"mpmesh": text})
    return path


class TestRoundTrip:
    def test_weights_configuration_and_metadata_come_back(
        self, network: SkeletonNetwork, tmp_path: Path
    ) -> None:
        path = tmp_path / "weights" / "skeleton.safetensors"
        save_checkpoint(
            path, network, network.config_dict(), licence="Apache-2.0", metrics={"a": 1}
        )
        loaded, metadata = load_checkpoint(path)
        assert not loaded.training
        assert metadata["config"] == network.config_dict()
        assert (metadata["kind"], metadata["variant"]) == ("skeleton", "light")
        assert (metadata["licence"], metadata["metrics"]) == ("Apache-2.0", {"a": 1})
        for name, value in network.state_dict().items():
            torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)
        assert [p.name for p in path.parent.iterdir()] == [path.name]

    def test_half_storage_halves_the_file_and_loads_as_float32(
        self, network: SkeletonNetwork, tmp_path: Path
    ) -> None:
        full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
        save_checkpoint(full, network, network.config_dict())
        save_checkpoint(half, network, network.config_dict(), half=True)
        assert half.stat().st_size < 0.6 * full.stat().st_size
        loaded, _ = load_checkpoint(half)
        for name, value in network.state_dict().items():
            found = loaded.state_dict()[name]
            assert found.dtype == value.dtype
            torch.testing.assert_close(found, value, rtol=1e-3, atol=1e-6)


class TestWrongFiles:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="no weights file"):
            load_checkpoint(tmp_path / "nothing.safetensors")

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\xff" * 64])
    def test_not_safetensors(self, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / "bad.safetensors"
        path.write_bytes(content)
        self._assert_one_line(path, "not a readable safetensors file")

    def test_truncated(self, network: SkeletonNetwork, tmp_path: Path) -> None:
        path = tmp_path / "cut.safetensors"
        save_checkpoint(path, network, network.config_dict())
        path.write_bytes(path.read_bytes()[:-1000])
        self._assert_one_line(path, "not a readable safetensors file")

    def test_foreign(self, tmp_path: Path) -> None:
        path = tmp_path / "foreign.safetensors"
        save_file({"a": torch.zeros(2)}, path)
        self._assert_one_line(path, "no MPMesh metadata")

    @pytest.mark.parametrize(
        ("header", "message"),
        [
            ("{", "damaged metadata"),
            ([1], "lacks config, kind, variant, version"),
            ({**HEADER, "kind": "face"}, "unknown network kind"),
            ({**HEADER, "version": 99}, "update MPMesh"),
            ({**HEADER, "version": "new"}, "update MPMesh"),
            ({**HEADER, "config": {"depth": 1}}, "unknown skeleton configuration"),
            (HEADER, "does not fit its own configuration"),
        ],
        ids=["json", "list", "kind", "newer", "odd version", "config", "tensors"],
    )
    def test_wrong_metadata(self, header: object, message: str, tmp_path: Path) -> None:
        self._assert_one_line(_foreign(tmp_path / "x.safetensors", header), message)

    @pytest.mark.parametrize("config", [None, {"hidden": "wide"}, {"colour": 1}, 3])
    def test_configuration_of_no_network(
        self, config: object, network: SkeletonNetwork, tmp_path: Path
    ) -> None:
        path = tmp_path / "odd.safetensors"
        save_checkpoint(path, network, config)  # type: ignore[arg-type]
        with pytest.raises(WeightsError, match=r"odd\.safetensors"):
            load_checkpoint(path)

    def test_nan_is_named(self, network: SkeletonNetwork, tmp_path: Path) -> None:
        spoiled = copy.deepcopy(network)
        with torch.no_grad():
            spoiled.head.conv.bias[0] = torch.nan
        path = tmp_path / "nan.safetensors"
        save_checkpoint(path, spoiled, spoiled.config_dict())
        with pytest.raises(WeightsError, match=r"head\.conv\.bias holds NaN"):
            load_checkpoint(path)

    def test_reading_alone_needs_no_network(self, tmp_path: Path) -> None:
        metadata, tensors = read_checkpoint(_foreign(tmp_path / "x.safetensors", HEADER))
        assert metadata == HEADER
        assert list(tensors) == ["a"]

    @staticmethod
    def _assert_one_line(path: Path, message: str) -> None:
        with pytest.raises(WeightsError, match=message) as caught:
            load_checkpoint(path)
        assert "\n" not in str(caught.value)
