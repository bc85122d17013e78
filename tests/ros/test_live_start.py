"""The executables end in peace, also before they have begun."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 isn't sourced")
pytest.importorskip("mpmesh_ros.msg", reason="mpmesh_ros isn't built; source its workspace")

import rclpy
from live import START_S

from mpmesh_core.errors import InputError
from mpmesh_core.training.synthetic import demo_clip
from mpmesh_ros.picture_source import PictureSource

ROOT = Path(__file__).parents[2]
SCRIPTS = ("mpmesh_node", "picture_source")


def started(name, *arguments):
    """Of the checkout; its output in one pipe."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-u", "-X", "importtime", str(ROOT / "scripts" / name), *arguments],
        env={**os.environ, "PYTHONPATH": path, "ROS_DOMAIN_ID": str(20 + os.getpid() % 80)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_signal_during_imports(name, number):
    process = started(name)
    for line in process.stderr:  # one for each import that is done
        if line.rstrip().endswith("numpy"):
            break
    process.send_signal(number)
    rest = process.stderr.read()
    assert process.wait(START_S) == 0
    assert "Traceback" not in rest


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("mpmesh_node", ["--params-file", "/no.yaml"], "mpmesh: RCLError: .*/no.yaml"),
        ("mpmesh_node", ["--bogus"], r"mpmesh: UnknownROSArgsError: \['--bogus'\]"),
        ("mpmesh_node", ["-p", "max_people:=many"], "mpmesh: .*'max_people'"),
        ("picture_source", ["-p", "rate:=10"], "picture_source: .*'rate'.*DOUBLE"),
        ("picture_source", ["-p", "rate:=-1.0"], "picture_source: rate -1: must be 0"),
    ],
)
def test_wrong_arguments_are_one_line(name, arguments, said):
    process = started(name, "--ros-args", *arguments)
    output = process.communicate(timeout=START_S)[1]
    assert process.returncode == 2
    assert "Traceback" not in output
    assert re.search(f"^{said}", output, re.MULTILINE), output


def test_a_number_is_a_webcam():
    rclpy.init(args=["--ros-args", "-p", "source:=99"])
    node = PictureSource()
    with pytest.raises(InputError, match="camera 99"):
        node.play(threading.Event())
    node.destroy_node()
    rclpy.shutdown()


def test_a_signal_while_the_clip_is_rendered(monkeypatch):
    """No further picture is rendered."""
    ended, rendered = threading.Event(), []

    def scenes(frames):
        for index in range(frames):
            rendered.append(index)
            if index == 2:
                ended.set()
            yield None

    monkeypatch.setattr(demo_clip, "demo_clip", scenes)
    rclpy.init()
    node = PictureSource()
    node.play(ended)
    node.destroy_node()
    rclpy.shutdown()
    assert rendered == [0, 1, 2]
