"""Missing and damaged files of data sets: one clear line, whatever the damage."""

from __future__ import annotations

import shutil
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from dataset_samples import NEEDS, WRITERS, Sample

from mpmesh_core.datasets import DATASETS, read_dataset
from mpmesh_core.errors import InputError, MissingFileError, MissingPackageError, MPMeshError

LABELS = (".mat", ".json", ".pkl", ".cdf", ".xml", ".txt", ".calibration", ".npz")
DAMAGES = ("empty", "half", "noise", "text", "flips 1", "flips 2", "flips 3", "flips 4")


@pytest.fixture(scope="module", params=list(WRITERS))
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Sample, Path]:
    if request.param in NEEDS:
        pytest.importorskip(NEEDS[request.param])
    root = tmp_path_factory.mktemp(request.param)
    return WRITERS[request.param](root), root


def read(sample: Sample, root: Path) -> int:
    return sum(1 for _ in islice(read_dataset(sample.name, root, sample.split), 50))


class TestMissing:
    def test_whole_data_set(self, written: tuple[Sample, Path], tmp_path: Path) -> None:
        sample, _ = written
        info = DATASETS[sample.name]
        with pytest.raises(MissingFileError) as caught:
            read(sample, tmp_path)
        for part in (info.title, str(tmp_path / info.folder), info.page):
            assert part in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_each_file(self, written: tuple[Sample, Path]) -> None:
        sample, root = written
        for name in sample.essential:
            path, aside = root / name, root / "aside"
            path.rename(aside)
            try:
                with pytest.raises(MissingFileError) as caught:
                    read(sample, root)
            finally:
                aside.rename(path)
            assert DATASETS[sample.name].page in str(caught.value)
            # the file itself, or one of those in the folder that was taken away
            assert str(path.parent if path.is_dir() else path) in str(caught.value)
        assert read(sample, root) == len(sample.pixels)


def damage(content: bytes, kind: str) -> bytes:
    rng = np.random.default_rng(len(content) + len(kind) + ord(kind[-1]))
    if kind == "empty":
        return b""
    if kind == "half":
        return content[: len(content) // 2]
    if kind == "noise":
        return rng.bytes(max(len(content), 64))
    if kind == "text":
        return b"<html><body>404: please log in</body></html>\n"
    changed = bytearray(content)
    for place in rng.integers(0, len(changed), 1 + len(changed) // 200):
        changed[place] = int(rng.integers(256))
    return bytes(changed)


class TestDamaged:
    @pytest.mark.parametrize("kind", DAMAGES)
    def test_each_label_file(self, written: tuple[Sample, Path], kind: str) -> None:
        sample, root = written
        files = [root / name for name in sample.essential if (root / name).suffix in LABELS]
        for path in files:
            content = path.read_bytes()
            path.write_bytes(damage(content, kind))
            try:
                read(sample, root)
            except MPMeshError as error:
                text = str(error)
                assert "\n" not in text
                assert len(text) < 700
            else:  # bytes that nobody reads may change; a file that isn't one may not
                assert kind.startswith("flips") or path.suffix == ".txt"
            finally:
                path.write_bytes(content)

    def test_says_which_file_and_where_to_get_it(self, tmp_path: Path) -> None:
        sample = WRITERS["coco"](tmp_path)
        path = tmp_path / sample.essential[0]
        path.write_text('{"images": [{"id": 1}], "annotations": []}')
        with pytest.raises(InputError) as caught:
            read(sample, tmp_path)
        assert str(path) in str(caught.value)
        assert "cocodataset.org" in str(caught.value)

    def test_a_variable_that_is_missing(self, tmp_path: Path) -> None:
        from dataset_samples import put_mat

        sample = WRITERS["lsp"](tmp_path)
        put_mat(tmp_path / "LSP/joints.mat", points=np.zeros((3, 14, 4)))
        with pytest.raises(InputError, match="no 'joints', only points"):
            read(sample, tmp_path)

    def test_values_that_are_not_finite(self, tmp_path: Path) -> None:
        from dataset_samples import put_mat

        sample = WRITERS["lsp"](tmp_path)
        put_mat(tmp_path / "LSP/joints.mat", joints=np.full((3, 14, 4), np.nan))
        with pytest.raises(InputError, match="not finite"):
            read(sample, tmp_path)

    def test_pickles_cannot_run_code(self, tmp_path: Path) -> None:
        sample = WRITERS["aist"](tmp_path)
        path = next((tmp_path / "AIST++/keypoints3d").glob("*.pkl"))
        path.write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
        with pytest.raises(InputError, match=r"asks for os\.system"):
            read(sample, tmp_path)


class TestPackages:
    @pytest.mark.parametrize("name", list(NEEDS))
    def test_missing_package(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package = NEEDS[name]
        pytest.importorskip(package)
        sample = WRITERS[name](tmp_path)
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingPackageError, match=r"pip install 'mpmesh\[datasets\]'"):
            read(sample, tmp_path)

    def test_others_need_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        samples = [WRITERS[name](tmp_path) for name in WRITERS if name not in NEEDS]
        for package in NEEDS.values():
            monkeypatch.setitem(sys.modules, package, None)
        assert all(read(sample, tmp_path) for sample in samples)
        shutil.rmtree(tmp_path)


class TestMatlab:
    """Files without compression have no checksum: their structure is checked instead."""

    @pytest.mark.parametrize("name", ["3dhp", "mpii", "lsp", "surreal"])
    def test_flipped_bytes_never_reach_the_reader(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import zlib
        from io import BytesIO

        from scipy.io import loadmat, savemat

        from mpmesh_core.datasets.matlab import checked_mat

        plain = lambda path, content, do_compression: savemat(path, content)  # noqa: E731
        monkeypatch.setattr("dataset_samples.savemat", plain)
        sample = WRITERS[name](tmp_path)
        content = next(tmp_path.rglob("*.mat")).read_bytes()
        assert read(sample, tmp_path) == len(sample.pixels)
        assert checked_mat(content) == content
        refused = 0
        for seed in range(80):
            rng, changed = np.random.default_rng(seed), bytearray(content)
            for place in rng.integers(128, min(len(changed), 3000), 1 + seed % 4):
                changed[place] = int(rng.integers(256))
            try:
                checked = checked_mat(bytes(changed))
            except (ValueError, zlib.error):
                refused += 1
                continue
            try:
                loadmat(BytesIO(checked), struct_as_record=False)
            except Exception as error:  # an ordinary error is one that `reading` makes a line of
                assert str(error) is not None
        assert refused
