"""mpmesh body: info, render and their errors, through the real command."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mpmesh_core.cli import app
from mpmesh_core.cli.body_sheet import CELL, draw_sheet
from mpmesh_core.errors import MissingFileError


class TestInfo:
    def test_open_body(self) -> None:
        result = CliRunner().invoke(app, ["body", "info"])
        assert result.exit_code == 0
        for part in ("CC0", "6894, 13776", "left_shoulder", "coco17, h36m17"):
            assert part in result.output

    def test_missing_smpl(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MPMESH_SMPL_DIR", str(tmp_path))
        result = CliRunner().invoke(app, ["body", "info", "--body", "smpl"])
        assert isinstance(result.exception, MissingFileError)
        assert "smpl.is.tue.mpg.de" in str(result.exception)


class TestRender:
    def test_sheet(self, tmp_path: Path) -> None:
        output = tmp_path / "new" / "sheet.png"
        result = CliRunner().invoke(app, ["body", "render", "--output", str(output)])
        assert result.exit_code == 0, result.output
        picture = cv2.imread(str(output))
        assert picture.shape == (4 * CELL[1], 10 * CELL[0], 3)
        cells = picture.reshape(4, CELL[1], 10, CELL[0], 3).swapaxes(1, 2)
        assert (cells.std((2, 3, 4)) > 15).all()  # a body in every cell

    def test_left_is_red_and_on_the_viewers_right(self) -> None:
        square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * 0.5
        left, right = square * 0.5 + [0.4, 0, 0], square * 0.5 - [0.4, 0, 0]
        faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
        sheet = draw_sheet(
            np.concatenate([left, right])[None], faces, np.array([1, 1, -1, -1]), [""]
        ).astype(int)
        half = CELL[0] // 2
        red_minus_blue = sheet[..., 0] - sheet[..., 2]
        assert red_minus_blue[:, half:].max() > 60
        assert red_minus_blue[:, :half].min() < -60
