"""signals: rclpy started so that a node may end in peace, without ROS's own signal handlers.

Those would end the communication at once, before a node could say its last words.
"""

from __future__ import annotations

import signal
import threading

import rclpy
from rclpy.signals import SignalHandlerOptions


def init_until_signal(args: list[str] | None) -> threading.Event:
    """Start rclpy.

    Args:
        args: of the command line; None takes those of the process.

    Returns:
        An event that SIGINT and SIGTERM set.
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    return ended
