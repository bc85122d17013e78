"""parameters: the settings as ROS parameters with descriptors, and the check of new values."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterException,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from mpmesh_core.errors import UsageError
from mpmesh_ros.settings import SWITCHES, NodeSettings, ParameterRow, parameter_rows, settings_from

_LARGEST = 2**31 - 1


class Parameters:
    """Declares the node's parameters and follows them.

    Args:
        node: the node.

    Raises:
        UsageError: a value given at the start that isn't possible.
    """

    def __init__(self, node: Node) -> None:
        try:
            values = {row.name: _declared(node, row) for row in parameter_rows()}
        except (
            InvalidParameterTypeException,
            InvalidParameterValueException,
            ParameterException,
        ) as error:
            raise UsageError(" ".join(str(error).split())) from None
        self._settings = settings_from(values)
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
