"""Samples of real data sets, which tests use where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def needs_samples(folder: str) -> Path:
    """A folder of the data, or a skip that says what is absent."""
    path = Path(os.environ.get("MPMESH_TEST_DATA", "absent")) / folder
    if not path.is_dir():
        pytest.skip(f"MPMESH_TEST_DATA has no {folder}")
    return path
