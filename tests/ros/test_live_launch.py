"""The launch files do what their arguments say."""

import runpy
from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="ROS 2 isn't sourced")

from launch.conditions import InvalidConditionExpressionError

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
