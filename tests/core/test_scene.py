"""Tests of shards: what was written is read, and damage is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mpmesh_core.camera import Camera
from mpmesh_core.errors import InputError, MissingFileError
from mpmesh_core.training.scene import (
    PersonTruth,
    Scene,
    ShardFolder,
    decode_jpeg,
    encode_jpeg,
    write_shard,
)


def person(rng: np.random.Generator, **values: object) -> PersonTruth:
    """Random truth."""
    fields: dict = {
        "rotations": rng.standard_normal((24, 3, 3)).astype(np.float32),
        "betas": rng.standard_normal(10).astype(np.float32),
        "transl": rng.standard_normal(3).astype(np.float32),
        "box": rng.uniform(-50, 300, 4).astype(np.float32),
        "visible_box": rng.uniform(0, 99, 4).astype(np.float32),
        "visibility": 0.5,
        "source": "cmu_mocap/train/running/running_1",
    }
    return PersonTruth(**(fields | values))


def scene(rng: np.random.Generator, people: list[PersonTruth], size: tuple[int, int]) -> Scene:
    """A smooth picture, so that JPEG changes little."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[:] = np.linspace(20, 220, width)[None, :, None]
    K = np.array([[300.0, 0, 99], [0, 310, 74], [0, 0, 1]])
    return Scene(image, Camera(K, np.array([0.1, -0.05, 0, 0, 0]), "plumb_bob", *size), people)


class TestShards:
    def test_round_trip(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        coco = np.column_stack([rng.uniform(0, 99, (17, 2)), np.ones(17)]).astype(np.float32)
        hidden = person(rng, visible_box=None, visibility=0.0, weight_3d=0.0)
        labelled = person(rng, keypoints={"coco17": coco}, source="lspet")
        scenes = [
            scene(rng, [person(rng), hidden], (120, 90)),
            scene(rng, [], (64, 80)),
            scene(rng, [labelled], (200, 150)),
        ]
        assert write_shard(tmp_path / "shard-00000.npz", scenes[:2]) == 2
        write_shard(tmp_path / "shard-00001.npz", scenes[2:])
        folder = ShardFolder(tmp_path)
        assert len(folder) == 3
        for written, read in zip(scenes, folder):
            assert read.image.shape == written.image.shape
            assert np.abs(read.image.astype(int) - written.image).max() < 12
            np.testing.assert_array_equal(read.camera.K, written.camera.K)
            np.testing.assert_array_equal(read.camera.D, written.camera.D)
            assert read.camera.model == "plumb_bob"
            assert len(read.people) == len(written.people)
            for a, b in zip(written.people, read.people):
                for name in ("rotations", "betas", "transl", "box"):
                    np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
                assert (a.visible_box is None) == (b.visible_box is None)
                assert (a.visibility, a.weight_3d, a.source) == (
                    b.visibility,
                    b.weight_3d,
                    b.source,
                )
                assert a.keypoints.keys() == b.keypoints.keys()
        np.testing.assert_array_equal(folder[2].people[0].keypoints["coco17"], coco)

    def test_stored_file_is_kept_byte_for_byte(self, tmp_path: Path) -> None:
        first = scene(np.random.default_rng(1), [], (60, 40))
        jpeg = encode_jpeg(first.image, 40)
        kept = Scene(decode_jpeg(jpeg), first.camera, [], jpeg)
        write_shard(tmp_path / "shard-00000.npz", [kept])
        assert ShardFolder(tmp_path)[0].jpeg == jpeg

    def test_a_failed_write_leaves_no_shard(self, tmp_path: Path) -> None:
        bad = scene(np.random.default_rng(2), [person(np.random.default_rng(2), betas=3)], (60, 40))
        with pytest.raises(ValueError):
            write_shard(tmp_path / "shard-00000.npz", [bad, scene(np.random.default_rng(3), [
                person(np.random.default_rng(3))], (60, 40))])  # fmt: skip
        assert list(tmp_path.glob("*.npz")) == []

    def test_errors(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="mpmesh train synthesize"):
            ShardFolder(tmp_path)
        (tmp_path / "shard-00000.npz").write_bytes(b"junk")
        with pytest.raises(InputError, match="is no shard"):
            ShardFolder(tmp_path)
        with pytest.raises(InputError, match="damaged"):
            decode_jpeg(b"junk")

    @pytest.mark.parametrize("part", [0.0, 0.5, 0.98])
    def test_a_shard_that_ends_early_is_named(self, tmp_path: Path, part: float) -> None:
        rng = np.random.default_rng(4)
        path = tmp_path / "shard-00000.npz"
        write_shard(path, [scene(rng, [person(rng)], (60, 40))])
        path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
        with pytest.raises(InputError, match=r"shard-00000\.npz is no shard"):
            ShardFolder(tmp_path)

    def test_a_shard_damaged_after_its_count_is_named(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(5)
        path = tmp_path / "shard-00000.npz"
        write_shard(path, [scene(rng, [person(rng)], (60, 40))])
        folder = ShardFolder(tmp_path)
        path.write_bytes(b"")
        with pytest.raises(InputError, match=r"shard-00000\.npz is no shard"):
            folder[0]
