"""What the tests of messages share."""

import sys
from pathlib import Path

import pytest

from mpmesh_core.body import load_body
from mpmesh_core.camera import Camera

sys.path.append(str(Path(__file__).parents[1] / "core"))  # people_samples


@pytest.fixture(scope="session")
def body():
    return load_body("open")


@pytest.fixture(scope="session")
def camera():
    return Camera.from_fov(640, 480)
