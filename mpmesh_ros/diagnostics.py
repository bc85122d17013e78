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

PATIENCE_S = 5.0  # that `Statistics` have been silent, after which the log says it, too
_SILENCE = "pictures"


@dataclass(frozen=True)
class Situation:
    """What the node is doing."""

    word: str
    facts: dict[str, str]  # that stay, such as the backend
    failure: str = ""  # of the last transition
    silence: Callable[[], str] = str  # tells why no pictures come, as far as one can see


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
        self._silent_since: float | None = None
        self._updater = Updater(node)
        self._updater.setHardwareID(node.get_fully_qualified_name())
        space = node.get_namespace()  # the updater's own name for a status leaves it out
        self._updater.add("people" if space == "/" else f"people of {space}", self._fill)

    def _fill(self, status: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        situation = self._situation()
        word, facts = situation.word, situation.facts
        now = time.monotonic()
        silence = self._silence(situation, now)
        problems = [text for topic, text in self._problems.current.items() if topic != _SILENCE]
        if silence:
            problems.append(silence)
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

    def _silence(self, situation: Situation, now: float) -> str:
        """What is to be said about pictures that don't come; nothing where they do."""
        if situation.word != "active" or not self._statistics.silent(now):
            self._silent_since = None
            if situation.word == "active":
                self._problems.solved(_SILENCE)
            return ""
        if self._silent_since is None:
            self._silent_since = now
        why = situation.silence()
        text = f"no pictures on {situation.facts['image topic']}{': ' if why else ''}{why}"
        if now - self._silent_since >= PATIENCE_S:
            self._problems.report(_SILENCE, text)
        return text
