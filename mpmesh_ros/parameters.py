"""parameters: the settings as ROS parameters with descriptors, and the check of new values."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from mpmesh_core.errors import UsageError
from mpmesh_ros.settings import SWITCHES, NodeSettings, ParameterRow, parameter_rows, settings_from

_LARGEST = 2**31 - 1
_DECLARED_LATER = ("qos_overrides.", "diagnostic_updater.")


class Parameters:
    """Declares the node's parameters and follows them.

    Args:
        node: the node.

    Raises:
        UsageError: a value given at the start that isn't possible.
        ParameterException: one of another type, or outside its range.
    """

    def __init__(self, node: Node) -> None:
        values = {row.name: _declared(node, row) for row in parameter_rows()}
        self._settings = settings_from(values)
        for name in unknown(node, list(values)):
            node.get_logger().warning(f"there is no parameter {name}: it does nothing")
        node.add_on_set_parameters_callback(self._on_set)

    @property
    def settings(self) -> NodeSettings:
        """As they are now."""
        return self._settings

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        known = NodeSettings.model_fields
        values = {p.name: p.value for p in parameters if p.name in known}
        try:
            self._settings = self._settings.changed(values)
        except UsageError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def unknown(node: Node, known: list[str]) -> list[str]:
    """What was given and isn't known, each with what may have been meant.

    A file for many nodes may hold others' parameters, so these are no error.
    """
    given = getattr(node, "_parameter_overrides", {})  # rclpy has no public way to them
    names = [n for n in given if not node.has_parameter(n) and not n.startswith(_DECLARED_LATER)]
    meant = [get_close_matches(name, known, 1) for name in names]
    return [n + (f" (is {m[0]} meant?)" if m else "") for n, m in zip(names, meant)]


def _declared(node: Node, row: ParameterRow) -> Any:
    return node.declare_parameter(row.name, row.default, descriptor(row)).value


def descriptor(row: ParameterRow) -> ParameterDescriptor:
    """Description, range, choices, and whether it may change."""
    result = ParameterDescriptor(
        description=row.description,
        read_only=not row.dynamic,
        dynamic_typing=row.name in SWITCHES,  # the settings check what is no word and no boolean
    )
    if row.choices:
        result.additional_constraints = f"one of {', '.join(row.choices)}"
    if row.low is not None:
        high = _LARGEST if row.high is None else row.high
        if isinstance(row.default, float):
            limits = FloatingPointRange(from_value=float(row.low), to_value=float(high))
            result.floating_point_range = [limits]
        else:
            result.integer_range = [IntegerRange(from_value=int(row.low), to_value=int(high))]
    return result
