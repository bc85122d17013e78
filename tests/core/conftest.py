"""Fixtures that several tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def smpl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of SMPL files of random bodies, where MPMesh looks for them."""
    from set_samples import write_smpl

    folder = write_smpl(tmp_path / "smpl")
    monkeypatch.setenv("MPMESH_SMPL_DIR", str(folder))
    return folder
