"""diagnostics and problems as they are heard on /diagnostics, without the rest of the node."""

import time
from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="ROS 2 isn't sourced")
pytest.importorskip("mpmesh_ros.msg", reason="mpmesh_ros isn't built; source its workspace")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from live import Observer
from rclpy.lifecycle import LifecycleNode

from mpmesh_ros import diagnostics
from mpmesh_ros.diagnostics import Diagnostics, Situation
from mpmesh_ros.problems import Problems
from mpmesh_ros.statistics import Statistics

FACTS = {"image topic": "/camera/image_raw"}


@pytest.fixture(scope="module")
def node():
    """What publishes, and what hears it, in one node."""
    see = Observer()
    said = []
    problems = Problems(said.append, said.append)
    made = SimpleNamespace(see=see, problems=problems, situation=Situation("active", FACTS))
    made.said, made.statistics = said, Statistics()
    Diagnostics(see.node, made.statistics, problems, lambda: made.situation)
    made.heard = see.listen(DiagnosticArray, "/diagnostics")
    yield made
    see.close()


def next_status(node):
    """The second one from now, since the first may be on its way."""
    count = len(node.heard)
    node.see.until(lambda: len(node.heard) >= count + 2)
    return node.heard[-1].status[0]


def test_two_nodes_are_told_apart(node):
    """Also by their names alone, which is how aggregators do it."""
    other = LifecycleNode("observer", namespace="/left", context=node.see.node.context)
    node.see.add(other)
    Diagnostics(other, Statistics(), node.problems, lambda: node.situation)

    def names():
        return {s.hardware_id: s.name for m in node.heard for s in m.status if s.hardware_id}

    node.see.until(lambda: len(names()) == 2)
    assert set(names()) == {"/observer", "/left/observer"}
    assert names()["/observer"] == "observer: people" != names()["/left/observer"]
    other.destroy_node()


def test_problems_hide_neither_silence_nor_rest(node):
    node.problems.report("image", "no such encoding")
    node.situation = Situation("active", FACTS)
    message = next_status(node).message
    assert "no such encoding" in message and "no pictures on /camera/image_raw" in message
    node.problems.expire(after_s=0.0)
    node.situation = Situation("disabled", FACTS)
    assert next_status(node).message == "disabled"


def test_silence_is_said_in_the_log_after_a_while(node, monkeypatch):
    monkeypatch.setattr(diagnostics, "PATIENCE_S", 1.5)
    node.said.clear()
    node.situation = Situation("active", FACTS, silence=lambda: "nobody publishes them")
    line = "no pictures on /camera/image_raw: nobody publishes them"
    assert next_status(node).message == line
    node.see.until(lambda: node.said == [line])
    assert next_status(node).message == line
    node.statistics.received(time.monotonic())
    node.statistics.received(time.monotonic() + 0.1)
    node.see.until(lambda: node.said == [line, "pictures: well again"])


def test_a_transition_that_failed_is_an_error_until_another_succeeds(node):
    node.situation = Situation("unconfigured", {}, "cannot configure: weights folder x is empty")
    status = next_status(node)
    assert status.level == DiagnosticStatus.ERROR and "weights folder" in status.message
    node.situation = Situation("inactive", FACTS)
    assert next_status(node).level == DiagnosticStatus.OK
