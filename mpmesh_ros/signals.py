"""signals: a node started so that it may end in peace, without ROS's own signal handlers.

Those would end the communication at once, before a node could say its last words.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import TypeVar

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.signals import SignalHandlerOptions

from mpmesh_core.errors import DeviceError, UsageError

N = TypeVar("N")


def start(make: Callable[[], N], args: list[str] | None) -> tuple[N, threading.Event]:
    """Start rclpy and a node.

    Args:
        make: makes the node.
        args: of the command line; None takes those of the process.

    Returns:
        The node, and an event that SIGINT and SIGTERM set.

    Raises:
        UsageError: arguments or parameters that aren't possible; rclpy is shut down then.
        DeviceError: ROS itself cannot start.
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        return make(), ended
    except UsageError:
        rclpy.try_shutdown()
        raise
    except ParameterException as error:
        rclpy.try_shutdown()
        raise UsageError(_one_line(error)) from None
    except RuntimeError as error:  # what rcl raises has no public name
        rclpy.try_shutdown()
        text = f"{type(error).__name__}: {_one_line(error)}"
        wrong = "Args" in type(error).__name__ or "parse" in text
        raise (UsageError(text) if wrong else DeviceError(text)) from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
