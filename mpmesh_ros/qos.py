"""qos: which policies the topics have, and words for a mismatch that would be silence."""

from __future__ import annotations

from typing import Any, Literal

from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    QoSCompatibility,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
    qos_profile_sensor_data,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

from mpmesh_core.messages import Output
from mpmesh_ros.problems import Problems

Role = Literal["subscription", "publisher"]
_OTHERS: dict[Role, str] = {"subscription": "publisher", "publisher": "subscriber"}

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


_KINDS = ("HISTORY", "DEPTH", "RELIABILITY", "DURABILITY")
OVERRIDABLE = QoSOverridingOptions([QoSPolicyKind[name] for name in _KINDS])
"""What `qos_overrides` may change: all that a mismatch can be about."""


def copied(qos: QoSProfile) -> QoSProfile:
    """Overrides change a profile in place."""
    return QoSProfile(
        history=qos.history,
        depth=qos.depth,
        reliability=qos.reliability,
        durability=qos.durability,
    )


def explained(node: Node, topic: str, qos: QoSProfile, ours: Role, problems: Problems) -> Any:
    """A callback for incompatible QoS that says what to do, for as long as somebody doesn't fit.

    Args:
        node: the node.
        topic: the topic.
        qos: of our side; overrides change it in place.
        ours: what we are.
        problems: where it is reported.
    """

    def callback(event: Any) -> None:
        policy = _policy_name(event.last_policy_kind)
        problems.report(
            qos_problem(topic),
            f"{topic}: {event.total_count} {_OTHERS[ours]} here with another QoS: {policy} doesn't "
            f"fit, so nothing is heard; change it there, or here with "
            f"qos_overrides.{topic}.{ours}.{policy}",
            lambda: _misfits(node, topic, qos, ours),
        )

    return callback


def qos_problem(topic: str) -> str:
    """What a topic's mismatch is reported under."""
    return f"qos of {topic}"


def _misfits(node: Node, topic: str, qos: QoSProfile, ours: Role) -> bool:
    """Whether somebody is on a topic whose QoS doesn't fit ours."""
    if ours == "subscription":
        pairs = [(other.qos_profile, qos) for other in node.get_publishers_info_by_topic(topic)]
    else:
        pairs = [(qos, other.qos_profile) for other in node.get_subscriptions_info_by_topic(topic)]
    return any(qos_check_compatible(*pair)[0] == QoSCompatibility.ERROR for pair in pairs)


def _policy_name(kind: Any) -> str:
    try:
        return QoSPolicyKind(kind).name.lower()
    except ValueError:
        return f"policy {kind}"
