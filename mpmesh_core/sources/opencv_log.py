"""sources.opencv_log: what OpenCV itself writes to the terminal."""

from __future__ import annotations

from typing import Any

import cv2

SILENT, ERRORS = 0, 2  # OpenCV's levels


def set_log_level(level: int) -> int:
    """Let OpenCV write what is at least so grave; returns the level before.

    The functions moved: to `cv2.utils.logging` in 4.11, from `cv2` itself.
    """
    home: Any = getattr(cv2.utils, "logging", cv2)
    before = int(home.getLogLevel())
    home.setLogLevel(level)
    return before
