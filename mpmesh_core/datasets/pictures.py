"""datasets.pictures: the picture of a record, from a file, a video or a shard of scenes.

Out  (H, W, 3) uint8 RGB; or just a file's size, from its header

Labels are of the pixels as stored: what EXIF says of a photo's orientation is left aside.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mpmesh_core.datasets.record import FrameRecord, Picture
from mpmesh_core.errors import InputError, MissingFileError
from mpmesh_core.sources.images import read_image
from mpmesh_core.sources.videos import quiet_ffmpeg
from mpmesh_core.types import Array

_HEADER = 1 << 18  # bytes; profiles and previews may stand before a JPEG's size
_SPARE = 4  # [px] rows or columns that some tools add or cut at the end
_FAR = 600  # frames; further ahead than that, seeking beats reading


def picture_size(path: Path, absent: tuple[int, int] | None = None) -> tuple[int, int]:
    """Width and height [px] of a JPEG or PNG from its header; others are decoded.

    Args:
        path: the picture.
        absent: the answer where there is no such file.

    Raises:
        MissingFileError: no such file, and no answer for that.
        InputError: no picture.
    """
    if absent is not None and not path.exists():
        return absent
    if not path.is_file():
        raise MissingFileError(f"image {path} does not exist")
    with path.open("rb") as file:
        head = file.read(_HEADER)
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 24:
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    place = 2
    while head.startswith(b"\xff\xd8") and place + 9 <= len(head) and head[place] == 0xFF:
        marker = head[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width = head[place + 5 : place + 7], head[place + 7 : place + 9]
            return int.from_bytes(width, "big"), int.from_bytes(height, "big")
        place += 1 if marker == 0xFF else 2 + int.from_bytes(head[place + 2 : place + 4], "big")
    height_px, width_px = read_image(path, upright=False).shape[:2]
    return width_px, height_px


class PictureReader:
    """Reads pictures; keeps the last video open, as records come in order."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._video: cv2.VideoCapture | None = None
        self._next = 0
        self._ends: dict[Path, int] = {}  # frames of videos that ended too early
        self._shard: tuple[Path, dict[str, Array]] | None = None

    def of(self, record: FrameRecord) -> Array:
        """The picture (H, W, 3) uint8 RGB of a record, as `read` gives it.

        Raises:
            InputError: it is of another size than the labels are for, by more than a few rows.
        """
        picture = self.read(record.picture)
        height, width = picture.shape[:2]
        if max(abs(width - record.width), abs(height - record.height)) > _SPARE:
            raise InputError(
                f"{record.picture.path} is {width} x {height} px, but its labels are for "
                f"{record.width} x {record.height} px; use the pictures as published"
            )
        return picture

    def read(self, picture: Picture) -> Array:
        """The picture (H, W, 3) uint8 RGB.

        Raises:
            MissingFileError: no such file.
            InputError: it cannot be decoded, or the video ends before this frame.
        """
        if picture.frame is None:
            return read_image(picture.path, upright=False)
        if picture.path.suffix == ".npz":
            return self._of_shard(picture.path, picture.frame)
        return self._of_video(picture.path, picture.frame)

    def _of_video(self, path: Path, frame: int) -> Array:
        if frame >= self._ends.get(path, frame + 1):
            raise _ended(path, frame, self._ends[path])
        video = self._video
        if video is None or path != self._path or frame < self._next:
            video = self._open(path)
        if frame - self._next > _FAR:
            video.set(cv2.CAP_PROP_POS_FRAMES, frame)
            self._next = frame
            if video.get(cv2.CAP_PROP_POS_FRAMES) != frame:  # not every codec can jump exactly
                video = self._open(path)
        while self._next < frame and video.grab():
            self._next += 1
        bgr = video.read()[1] if self._next == frame else None
        if bgr is None:
            self._path, self._ends[path] = None, self._next
            raise _ended(path, frame, self._next)
        self._next += 1
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)

    def _open(self, path: Path) -> cv2.VideoCapture:
        if not path.is_file():
            raise MissingFileError(f"video {path} does not exist")
        if self._video is not None:
            self._video.release()
        quiet_ffmpeg()
        video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not video.isOpened():
            raise InputError(f"video {path} cannot be played: not a video, or cut off")
        self._path, self._video, self._next = path, video, 0
        return video

    def _of_shard(self, path: Path, frame: int) -> Array:
        from mpmesh_core.training.scene import decode_jpeg

        if self._shard is None or self._shard[0] != path:
            if not path.is_file():
                raise MissingFileError(f"shard {path} does not exist")
            with np.load(path) as file:
                self._shard = path, {name: file[name] for name in ("jpeg", "jpeg_end")}
        arrays = self._shard[1]
        first = int(arrays["jpeg_end"][frame - 1]) if frame else 0
        return decode_jpeg(arrays["jpeg"][first : int(arrays["jpeg_end"][frame])])


def _ended(path: Path, frame: int, end: int) -> InputError:
    return InputError(f"video {path} ends before frame {frame}, at {end}: cut off or damaged")
