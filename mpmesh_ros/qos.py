"""qos: which policies the topics have, and words for a mismatch that would be silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.qos import (
    DurabilityPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_profile_sensor_data,
)

from mpmesh_core.messages import Output

NEWEST = QoSProfile(depth=1, reliability=qos_profile_sensor_data.reliability)
"""Of pictures: what is missed is gone, and nothing queues up."""

NEWEST_RELIABLE = QoSProfile(depth=1)
RELIABLE = QoSProfile(depth=10)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
TRANSFORMS = QoSProfile(depth=100)
DEPTH = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def output_qos(output: Output) -> QoSProfile:
    """Reliable, so that both kinds of subscribers hear it; the topology for those who come late."""
    if output.latched:
        return LATCHED
    if output.name == "tf":
        return TRANSFORMS
    return NEWEST_RELIABLE if output.meshes else RELIABLE


def mismatch(topic: str, role: str, other: str, report: Callable[[str], None]) -> Any:
    """A callback for incompatible QoS that says what to do.

    Args:
        topic: the topic.
        role: `subscription` or `publisher`, ours.
        other: what the other side is, such as `camera`.
        report: gets the line.
    """

    def callback(event: Any) -> None:
        policy = _policy_name(event.last_policy_kind)
        report(
            f"{topic}: {event.total_count} {other} here with another QoS: {policy} doesn't fit, so "
            f"nothing is heard; change it there, or here with "
            f"qos_overrides.{topic}.{role}.{policy}"
        )

    return callback


def _policy_name(kind: Any) -> str:
    try:
        return QoSPolicyKind(kind).name.lower()
    except ValueError:
        return f"policy {kind}"
