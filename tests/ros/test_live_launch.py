"""The launch files do what their arguments say."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("launch_ros", reason="ROS 2 isn't sourced")

import rclpy
from launch.actions import Shutdown
from launch.conditions import InvalidConditionExpressionError
from rclpy.context import Context

from launch import LaunchContext

LAUNCH = Path(__file__).parents[2] / "launch"
TRUE_AND_FALSE = [("true", True), ("True", True), ("1", True), ("False", False), ("0", False)]


def called(file, function, **chosen):
    """What a function of a launch file gives for these arguments."""
    names = runpy.run_path(str(LAUNCH / file))
    context = LaunchContext()
    defaults = {name: default for name, (default, _) in names["ARGUMENTS"].items()}
    context.launch_configurations.update({**defaults, "params_file": "", **chosen})
    return names[function](context)


class TestSwitches:
    @pytest.mark.parametrize(("text", "on"), TRUE_AND_FALSE)
    def test_use_sim_time(self, text, on):
        parameters = called("mpmesh.launch.py", "_parameters", use_sim_time=text)
        assert parameters.get("use_sim_time", False) is on

    @pytest.mark.parametrize(("text", "on"), TRUE_AND_FALSE)
    def test_of_the_demo(self, text, on):
        assert called("demo.launch.py", "_source_parameters", loop=text)["loop"] is on
        off = {"rviz": "false", "nav": "false"}
        least = len(called("demo.launch.py", "_actions", **off))
        for name in off:
            actions = called("demo.launch.py", "_actions", **{**off, name: text})
            assert (len(actions) > least) is on, name

    def test_anything_else_is_refused(self):
        with pytest.raises(InvalidConditionExpressionError):
            called("demo.launch.py", "_actions", rviz="maybe")


class TestParameters:
    def test_a_file_that_is_missing_is_refused(self):
        with pytest.raises(FileNotFoundError, match=r"params_file /no\.yaml"):
            called("mpmesh.launch.py", "_node", params_file="/no.yaml")

    def test_a_file_at_home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "mine.yaml").touch()
        found = called("mpmesh.launch.py", "_params_file", params_file="~/mine.yaml")
        assert found == str(tmp_path / "mine.yaml")
        assert called("mpmesh.launch.py", "_node", params_file="~/mine.yaml")


class TestSource:
    @pytest.mark.parametrize(("code", "ends"), [(0, False), (1, True), (2, True)])
    def test_one_that_cannot_be_shown_ends_the_demo(self, code, ends):
        ended = runpy.run_path(str(LAUNCH / "demo.launch.py"))["_without_pictures"]
        actions = ended(SimpleNamespace(returncode=code), LaunchContext())
        assert [type(action) for action in actions] == [Shutdown] * ends


class TestLogLevel:
    @pytest.mark.parametrize("space", ["", "left", "/robot/left", "robot/left/"])
    def test_is_that_of_the_nodes_logger(self, space):
        """As ROS itself names the logger of a node."""
        context = Context()
        rclpy.init(context=context)
        node = rclpy.create_node("mpmesh", namespace=space.rstrip("/"), context=context)
        expected = node.get_logger().name
        node.destroy_node()
        rclpy.shutdown(context=context)
        assert called("mpmesh.launch.py", "_logger", namespace=space) == expected

    def test_in_the_namespace_of_an_outer_launch_file(self):
        chosen = {"ros_namespace": "/robot", "namespace": "left"}
        assert called("mpmesh.launch.py", "_logger", **chosen) == "robot.left.mpmesh"


class TestRviz:
    def test_its_picture_is_that_of_the_camera(self):
        """The shipped configuration names the topic of the demo."""
        assert called("demo.launch.py", "_camera_remapping") == []
        chosen = {"source": "topics", "image": "/camera/color/image_raw"}
        assert called("demo.launch.py", "_camera_remapping", **chosen) == [
            ("/camera/image_raw", "/camera/color/image_raw")
        ]
