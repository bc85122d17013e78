"""What the tests of messages share."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from mpmesh_core.body import load_body
from mpmesh_core.camera import Camera

sys.path.append(str(Path(__file__).parents[1] / "core"))  # people_samples

NOT_BUILT = find_spec("rclpy") is not None and find_spec("mpmesh_ros.msg") is None
if NOT_BUILT:
    # pytest's plugin of ROS imports files before pytest does, and takes a skip for its own
    collect_ignore_glob = ["test_live_*.py", "test_rclpy_types.py"]


def pytest_report_header():
    if NOT_BUILT:
        return "ROS 2 is sourced, a workspace with mpmesh_ros isn't: tests of the node are left out"
    return None


@pytest.fixture(scope="session")
def body():
    return load_body("open")


@pytest.fixture(scope="session")
def camera():
    return Camera.from_fov(640, 480)
