"""diagnostics: one status on /diagnostics that says how the node is, through diagnostic_updater."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus
from diagnostic_updater import DiagnosticStatusWrapper, Updater
from rclpy.node import Node

from mpmesh_ros.problems import Problems
from mpmesh_ros.statistics import Statistics


@dataclass(frozen=True)
class Situation:
    """What the node is doing."""

    word: str
    facts: dict[str, str]  # that stay, such as the backend
    failure: str = ""  # of the last transition


class Diagnostics:
    """Publishes the node's status every second (`diagnostic_updater.period`).

    Args:
        node: the node.
        statistics: of its work.
        problems: what is wrong.
        situation: tells what the node is doing.
    """

    def __init__(
        self,
        node: Node,
        statistics: Statistics,
        problems: Problems,
        situation: Callable[[], Situation],
    ) -> None:
        self._statistics, self._problems, self._situation = statistics, problems, situation
        self._updater = Updater(node)
        self._updater.setHardwareID(node.get_fully_qualified_name())
        space = node.get_namespace()  # the updater's own name for a status leaves it out
        self._updater.add("people" if space == "/" else f"people of {space}", self._fill)

    def _fill(self, status: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        situation = self._situation()
        word, facts = situation.word, situation.facts
        now = time.monotonic()
        problems = list(self._problems.current.values())
        if word == "active" and self._statistics.silent(now):
            problems.append(f"no pictures on {facts['image topic']}")
        if situation.failure:
            status.summary(DiagnosticStatus.ERROR, situation.failure)
        elif problems:
            status.summary(DiagnosticStatus.WARN, "; ".join(problems))
        else:
            status.summary(DiagnosticStatus.OK, word)
        rows = {"state": word, **facts, **self._statistics.values(now)}
        for key, value in rows.items():
            status.add(key, value)
        return status
