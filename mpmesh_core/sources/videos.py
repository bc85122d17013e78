"""sources.videos: video files and live cameras, through OpenCV.

Out  Frames with the video's own timestamps; a live camera's are the clock's [s since 1970]
A video that ends before its stated length gives its frames and one BadFrame that says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import cv2

from mpmesh_core.errors import InputError, MissingFileError
from mpmesh_core.sources.frames import BadFrame, Frame, SourceKind
from mpmesh_core.sources.opencv_log import ERRORS, set_log_level

FALLBACK_FPS = 30.0
FASTEST_FPS = 1000.0
SHORT_BY = 0.02  # containers state their length this well, or to two frames


class VideoFile:
    """A video file.

    Raises:
        MissingFileError: no such file.
        InputError: a file that OpenCV cannot play.
    """

    kind: SourceKind = "video"
    sequence = True

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.paths = [self.path]
        if not self.path.is_file():
            raise MissingFileError(f"video {self.path} does not exist")
        self.name = str(path)
        capture = self._open()
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        fps = float(capture.get(cv2.CAP_PROP_FPS))
        capture.release()
        self.fps: float | None = fps if 0 < fps <= FASTEST_FPS else FALLBACK_FPS
        self.length: int | None = count if count > 0 else None

    def __iter__(self) -> Iterator[Frame | BadFrame]:
        """Read the frames one by one; their time is the video's, or 1/fps where it stands still."""
        capture = self._open()
        try:
            index, stamp = 0, -1.0 / (self.fps or FALLBACK_FPS)
            while True:
                good, bgr = capture.read()
                if not good:
                    break
                seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
                stamp = seconds if seconds > stamp else stamp + 1.0 / (self.fps or FALLBACK_FPS)
                yield Frame(index, max(stamp, 0.0), self.name, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
                index += 1
        finally:
            capture.release()
        if index == 0:
            raise InputError(f"video {self.path} has no frame that can be decoded")
        if self.length is not None and self.length - index > _tolerated(self.length):
            reason = f"video {self.path} ends after {index} of {self.length} frames: cut or damaged"
            yield BadFrame(index, self.name, reason)

    def _open(self) -> cv2.VideoCapture:
        quiet_ffmpeg()
        capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            capture.release()
            raise InputError(
                f"video {self.path} cannot be played: not a video, cut off, or a codec that "
                "OpenCV lacks; convert it to H.264 .mp4"
            )
        return capture


class LiveCamera:
    """A camera of this machine, until it stops or Ctrl-C."""

    kind: SourceKind = "camera"
    sequence = True
    length: int | None = None

    def __init__(self, index: int) -> None:
        self.index = index
        self.paths: list[Path] = []
        self.name = f"camera {index}"
        self.fps: float | None = FALLBACK_FPS

    def __iter__(self) -> Iterator[Frame | BadFrame]:
        """Read pictures as they come.

        Raises:
            InputError: no such camera.
        """
        quiet_ffmpeg()
        capture = cv2.VideoCapture(self.index)
        try:
            if not capture.isOpened():
                raise InputError(
                    f"camera {self.index} cannot be opened: not plugged in, in use or not allowed; "
                    "see /dev/video*"
                )
            index = 0
            while True:
                good, bgr = capture.read()
                if not good:
                    yield BadFrame(index, self.name, f"{self.name} stopped giving pictures")
                    return
                yield Frame(index, time.time(), self.name, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
                index += 1
        finally:
            capture.release()


def _tolerated(length: int) -> float:
    """How many frames may be missing of a stated number: never most of a short video."""
    return min(max(2, SHORT_BY * length), length / 2)


def quiet_ffmpeg() -> None:
    """Keep FFmpeg's and OpenCV's messages off the terminal; ours is one line.

    FFmpeg's level is read at its first use, OpenCV's own warnings are errors that we report.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    set_log_level(ERRORS)
