"""`mpmesh data`: list, check, people, scenes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from dataset_samples import FRAMES, WRITERS
from typer.testing import CliRunner

from mpmesh_core.camera import Camera
from mpmesh_core.cli import app
from mpmesh_core.cli.data_sheet import write_sheet
from mpmesh_core.datasets import DATASETS, read_dataset
from mpmesh_core.errors import InputError, MissingFileError, UsageError
from mpmesh_core.training.scene import PersonTruth, Scene, ShardFolder, write_shard

RUN = CliRunner()
PAGE = Path(__file__).parents[2] / "docs" / "datasets.md"


def run(*words: object) -> str:
    result = RUN.invoke(app, ["data", *map(str, words)], env={"COLUMNS": "250"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


class TestList:
    def test_says_what_is_found(self, tmp_path: Path) -> None:
        WRITERS["lsp"](tmp_path)
        text = run("list", "--root", tmp_path)
        rows = {line.split("│")[1].strip(): line for line in text.splitlines() if "│" in line}
        assert "yes" in rows["lsp"]
        assert "no" in rows["coco"]
        assert set(DATASETS) <= set(rows)


class TestCheck:
    @pytest.mark.parametrize("name", ["coco", "surreal", "panoptic"])
    def test_counts_and_sheet(self, name: str, tmp_path: Path) -> None:
        sample = WRITERS[name](tmp_path)
        text = run("check", name, "--root", tmp_path, "--output", tmp_path / "sheet.png")
        row = next(line for line in text.splitlines() if sample.split in line and "│" in line)
        cells = [cell.strip() for cell in row.split("│")[1:-1]]
        assert cells[0] == sample.split
        assert cells[2] == str(FRAMES)
        assert cells[-1] == "whole"
        sheet = cv2.imread(str(tmp_path / "sheet.png"))
        assert sheet.shape == (400, 480 * FRAMES, 3)
        yellow = (sheet[..., 2] > 200) & (sheet[..., 1] > 180) & (sheet[..., 0] < 120)
        assert yellow.sum() > 100  # boxes
        blue = (sheet[..., 0] > 200) & (sheet[..., 2] < 120)
        assert blue.sum() > 30  # sticks

    def test_people_without_a_box_are_not_drawn(self, tmp_path: Path) -> None:
        WRITERS["muco"](tmp_path)
        record = next(read_dataset("muco", tmp_path))
        lost = replace(record.people[0], box=np.full(4, np.nan, np.float32))
        write_sheet(tmp_path / "a.png", [replace(record, people=(lost,))])
        write_sheet(tmp_path / "b.png", [replace(record, people=())])
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()

    def test_names_the_first_problem(self, tmp_path: Path) -> None:
        sample = WRITERS["lsp"](tmp_path)
        (tmp_path / sample.essential[1]).unlink()
        text = run("check", "lsp", "--root", tmp_path)
        assert "broken" in text
        assert "im0002.jpg is missing" in text

    def test_the_root_may_be_the_set_itself(self, tmp_path: Path, monkeypatch) -> None:
        WRITERS["lsp"](tmp_path)
        assert "whole" in run("check", "lsp", "--root", tmp_path / "LSP")
        monkeypatch.chdir(tmp_path / "LSP")
        assert "whole" in run("check", "lsp", "--root", ".")
        with pytest.raises(MissingFileError, match="COCO is missing"):
            run("check", "coco", "--root", ".")

    def test_nothing_there_is_a_failure(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="MPII Human Pose: "):
            run("check", "mpii", "--root", tmp_path)


class TestConvert:
    def test_people(self, tmp_path: Path) -> None:
        WRITERS["muco"](tmp_path)
        out = tmp_path / "people"
        text = run("people", "muco", "--root", tmp_path, "--output", out, "--every", 2)
        assert "2 people" in text
        assert len(np.load(out / "labels.npz")["box"]) == 2
        assert "1 people" in run(
            "people", "muco", "--root", tmp_path, "--output", out, "--limit", 1
        )

    def test_nobody_is_refused_and_nothing_written(self, tmp_path: Path) -> None:
        WRITERS["muco"](tmp_path)
        out = tmp_path / "people"
        with pytest.raises(InputError, match="nobody to store in"):
            run("people", "muco", "--root", tmp_path, "--output", out, "--least-size", 100_000)
        assert not out.exists()

    def test_scenes(self, tmp_path: Path) -> None:
        box = np.array([8, 4, 40, 44], np.float32)
        rotations = np.repeat(np.eye(3, dtype=np.float32)[None], 24, 0)
        truth = PersonTruth(rotations, np.ones(10), np.array([0, 0, 3.0]), box, box, 0.9)
        scene = Scene(np.zeros((48, 64, 3), np.uint8), Camera.from_fov(64, 48), [truth])
        (tmp_path / "synthetic").mkdir()
        write_shard(tmp_path / "synthetic/shard-00000.npz", [scene, scene])
        out = tmp_path / "scenes"
        assert "2 scenes" in run("scenes", "synthetic", "--root", tmp_path, "--output", out)
        again = ShardFolder(out)[1].people[0]
        assert np.allclose(again.rotations, rotations, atol=1e-6)
        assert np.allclose(again.betas, 1)

    def test_scenes_are_not_mixed_with_others(self, tmp_path: Path) -> None:
        """What an earlier call left would be trained on with them."""
        WRITERS["surreal"](tmp_path)
        out = tmp_path / "scenes"
        out.mkdir()
        (out / "shard-00007.npz").write_bytes(b"of another set")
        with pytest.raises(UsageError, match="holds scenes already"):
            run("scenes", "surreal", "--root", tmp_path, "--output", out)
        assert [path.name for path in out.iterdir()] == ["shard-00007.npz"]

    def test_scenes_of_no_such_body(self, tmp_path: Path) -> None:
        WRITERS["surreal"](tmp_path)
        out = tmp_path / "scenes"
        with pytest.raises(UsageError, match="--gender"):
            run("scenes", "surreal", "--root", tmp_path, "--output", out)


def test_the_page_lists_every_set_as_the_catalogue_does() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| `([^`]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert dict(rows) == {info.name: info.folder for info in DATASETS.values()}
