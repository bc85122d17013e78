"""overlay_output: where the drawn pictures go.

In   pictures (H, W, 3) uint8 RGB and the name of their source
Out  DIR/overlay/NAME.jpg for pictures from files; DIR/overlay.mp4 for videos, cameras and bags

The video is a fragmented MP4 (MPEG-4 part 2, which every FFmpeg can write): its index is not at
the end, so that a killed run leaves a video that plays up to its last seconds.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from mpmesh_core.errors import InputError
from mpmesh_core.outputs import prepare_folder, write_file
from mpmesh_core.sources.frames import Source
from mpmesh_core.sources.videos import quiet_ffmpeg

Array = np.ndarray
JPEG_QUALITY = 92
FALLBACK_FPS = 30.0
_LONGEST_SIDE = 8190  # [px] that MPEG-4 knows
_LEAST_RATE = 1.0  # [px/s]; at half of that the encoder ends the process
_LONGEST_STEM = 240  # bytes; file systems take 255 with the number, the suffix and `.part`


class OverlayImages:
    """Writes DIR/overlay/NAME.jpg; a second picture of the same name becomes NAME_2.jpg.

    A name that is too long for a file with what stands before and behind it is cut.

    Args:
        folder: DIR.
        name: another name for `overlay`.
    """

    def __init__(self, folder: str | Path, name: str = "overlay") -> None:
        self.folder = prepare_folder(Path(folder) / name)
        self._written: set[str] = set()

    def write(self, image: Array, source: str, index: int | None = None) -> Path:
        """Write one picture (H, W, 3) uint8 RGB; returns its path.

        Args:
            image: the picture.
            source: whose name it gets.
            index: of the frame, for the name; None for a source that is a picture itself.
        """
        end = "" if index is None else f"_{index:06d}"
        stem = name = _cut(Path(source).stem or "image", _LONGEST_STEM - len(end)) + end
        number = 1
        while name.lower() in self._written:
            number += 1
            name = f"{stem}_{number}"
        self._written.add(name.lower())
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        path = self.folder / f"{name}.jpg"
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        write_file(path, data.tobytes())
        return path

    def close(self) -> None:
        """Nothing to do: every picture is whole."""


class OverlayVideo:
    """Writes one video; the first picture decides its size, later ones are fitted into it.

    Pictures longer than MPEG-4 can hold, 8190 pixels, are made smaller.
    """

    def __init__(self, path: str | Path, fps: float | None) -> None:
        path = Path(path)
        self.path = prepare_folder(path.parent) / path.name
        self.fps = fps or FALLBACK_FPS
        self._writer: cv2.VideoWriter | None = None
        self._size, self._frames = (0, 0), 0

    def write(self, image: Array, source: str) -> Path:
        """Append one picture (H, W, 3) uint8 RGB; returns the video's path."""
        if self._writer is None:
            height, width = image.shape[:2]
            scale = min(1.0, _LONGEST_SIDE / max(width, height))
            width, height = max(1, round(scale * width)), max(1, round(scale * height))
            self._size = (width + width % 2, height + height % 2)  # the codec wants even sizes
            self._writer = self._open()
        self._writer.write(cv2.cvtColor(_fitted(image, self._size), cv2.COLOR_RGB2BGR))
        self._frames += 1
        return self.path

    def _open(self) -> cv2.VideoWriter:
        """OpenCV names containers by suffix: .ismv is MP4 in fragments, renamed once it exists."""
        width, height = self._size
        if width * height * self.fps < _LEAST_RATE:
            raise InputError(
                f"video {self.path} cannot be written: {width}x{height} pixels at {self.fps:g} FPS "
                "are too few; use --no-overlay"
            )
        quiet_ffmpeg()
        beginning = self.path.with_name(f".{self.path.stem}.ismv")
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(beginning), cv2.CAP_FFMPEG, codec, self.fps, self._size)
        if not writer.isOpened():
            raise InputError(f"video {self.path} cannot be written; use --no-overlay")
        os.replace(beginning, self.path)
        return writer

    def close(self) -> None:
        """Finish the video.

        Raises:
            InputError: a part of it is missing, since OpenCV doesn't tell of a full disk.
        """
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        kept = int(cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FRAME_COUNT))
        if kept < self._frames:
            raise InputError(
                f"video {self.path} holds {kept} of {self._frames} frames: make room on the disk, "
                "or use --no-overlay"
            )


class OverlayWriter:
    """Writes the drawn pictures of several sources, each where its kind belongs.

    Use as a context manager, so that an error or Ctrl-C finishes the video. A second video becomes
    overlay_2.mp4.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = prepare_folder(folder)
        self._images: OverlayImages | None = None
        self._video: OverlayVideo | None = None
        self._videos = 0
        self.last: Path | None = None  # the file last written

    def start(self, source: Source) -> None:
        """Say which source the next pictures come from."""
        self.close()
        if source.kind == "images":
            self._images = self._images or OverlayImages(self.folder)
            return
        self._videos += 1
        name = "overlay.mp4" if self._videos == 1 else f"overlay_{self._videos}.mp4"
        self._video = OverlayVideo(self.folder / name, source.fps)

    def write(self, image: Array, source: str) -> None:
        """Write one picture (H, W, 3) uint8 RGB of the started source."""
        target = self._video or self._images
        if target is None:
            raise InputError("start(source) comes before write")
        self.last = target.write(image, source)

    def close(self) -> None:
        """Finish the video, if one is being written."""
        if self._video is not None:
            self._video.close()
            self._video = None

    def __enter__(self) -> OverlayWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _cut(name: str, most: int) -> str:
    """The beginning of a name, at most so many bytes of whole letters."""
    data = os.fsencode(name)
    return name if len(data) <= most else data[:most].decode(errors="ignore")


def _fitted(image: Array, size: tuple[int, int]) -> Array:
    """The picture scaled into (width, height), its shape kept, black beside it."""
    width, height = size
    h, w = image.shape[:2]
    if width - w in (0, 1) and height - h in (0, 1):
        return cv2.copyMakeBorder(image, 0, height - h, 0, width - w, cv2.BORDER_REPLICATE)
    scale = min(width / w, height / h)
    w, h = max(1, round(w * scale)), max(1, round(h * scale))
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[(height - h) // 2 :][:h, (width - w) // 2 :][:, :w] = cv2.resize(
        image, (w, h), interpolation=cv2.INTER_AREA
    )
    return canvas
