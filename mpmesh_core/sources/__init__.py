"""sources: pictures from files, folders, videos, cameras and bags, one Frame at a time.

In   what the user names: image, folder, glob, video, camera index or bag
Out  Sources; each hands out Frames (RGB uint8, time, maybe a camera) and BadFrames
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mpmesh_core.errors import InputError, MissingFileError, UsageError
from mpmesh_core.paths import expanded
from mpmesh_core.sources.bag_reader import is_bag
from mpmesh_core.sources.bags import Bag
from mpmesh_core.sources.decoding import decode_image
from mpmesh_core.sources.frames import BadFrame, Frame, Source
from mpmesh_core.sources.images import (
    ImageFiles,
    folder_images,
    is_image_name,
    natural_key,
    read_image,
)
from mpmesh_core.sources.videos import LiveCamera, VideoFile

__all__ = [
    "BadFrame",
    "Frame",
    "Source",
    "decode_image",
    "open_source",
    "open_sources",
    "read_image",
]

VIDEO_SUFFIXES: tuple[str, ...] = (
    ".3gp",
    ".avi",
    ".flv",
    ".gif",
    ".m4v",
    ".mjpeg",
    ".mkv",
    ".mov",
    ".mp4",
)
VIDEO_SUFFIXES += (".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv")
_DIGITS = 10  # a number so long is no camera's, but the date in a name that isn't there


def open_source(text: str, topic: str | None = None, camera_info: bool = True) -> Source:
    """Open one source of pictures.

    Args:
        text: path of an image, folder, video or bag; a glob; or the number of a camera.
        topic: image topic of a bag that has several.
        camera_info: take the cameras that bags hold; False where the user gave one.

    Returns:
        The source; iterate it for its Frames.

    Raises:
        MissingFileError: nothing there, or no match.
        InputError: there, but nothing that can be read.
        UsageError: a topic that the bag lacks.
    """
    if not text:
        raise UsageError("a source has no name; give an image, folder, glob, video or bag")
    path = expanded(text)
    if path.is_dir():
        if is_bag(path):
            return Bag(path, topic, camera_info)
        return ImageFiles(folder_images(path), text)
    if path.is_file():
        return Bag(path, topic, camera_info) if is_bag(path) else _open_file(path, text)
    if text.isdecimal() and len(text) < _DIGITS:
        return LiveCamera(int(text))
    if _is_glob(text):
        sources = _open_glob(text, topic, camera_info)
        if len(sources) > 1:
            raise UsageError(f"source {text} names {len(sources)} sources; use open_sources")
        return sources[0]
    raise MissingFileError(
        f"source {text} does not exist; give an image, folder, glob, video, camera number or bag"
    )


def open_sources(
    texts: Sequence[str], topic: str | None = None, camera_info: bool = True
) -> list[Source]:
    """Open several sources; images named one after the other (a shell's glob) become one source.

    In such a group a broken picture is one BadFrame, as in a folder; a picture that is the only
    source must be readable. See `open_source` for the arguments and errors.
    """
    if not texts:
        raise UsageError("no source given: an image, folder, glob, video, camera number or bag")
    sources: list[Source] = []
    group: list[Path] = []
    for text in [*texts, None]:
        path = None if text is None else expanded(text)
        if len(texts) > 1 and path is not None and path.is_file() and is_image_name(path):
            group.append(path)
            continue
        if group:
            sources.append(ImageFiles(group, f"{len(group)} images"))
            group = []
        if text is not None and _is_glob(text):
            sources += _open_glob(text, topic, camera_info, alone=len(texts) == 1)
        elif text is not None:
            sources.append(open_source(text, topic, camera_info))
    return sources


def _open_file(path: Path, text: str) -> Source:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoFile(path)
    if is_image_name(path):
        return ImageFiles([path], text, strict=True)
    return _open_unnamed(path, text)


def _open_unnamed(path: Path, text: str) -> Source:
    """A file whose suffix says nothing: a picture if it can be decoded, else a video."""
    try:
        read_image(path)
    except InputError:
        try:
            return VideoFile(path)
        except InputError:
            raise InputError(
                f"source {path} is no picture, video or bag that can be read"
            ) from None
    return ImageFiles([path], text, strict=True)


def _open_glob(text: str, topic: str | None, camera_info: bool, alone: bool = True) -> list[Source]:
    """What a glob names: its pictures as one source, then its videos and bags in natural order."""
    matches = [Path(match) for match in glob.glob(str(expanded(text)), recursive=True)]
    found = sorted(_once(matches) if "**" in text else matches, key=natural_key)
    if not found:
        raise MissingFileError(f"source {text} matches no file")
    if len(found) == 1 and (alone or not is_image_name(found[0])):
        return [open_source(str(found[0]), topic, camera_info)]
    images = [path for path in found if path.is_file() and is_image_name(path)]
    films = [path for path in found if path.suffix.lower() in VIDEO_SUFFIXES or is_bag(path)]
    sources: list[Source] = [ImageFiles(images, text)] if images else []
    sources += [open_source(str(path), topic, camera_info) for path in films]
    if not sources:
        raise InputError(
            f"source {text} matches {len(found)} files, but no picture, video or bag among them"
        )
    return sources


def _is_glob(text: str) -> bool:
    return any(letter in text for letter in "*?[") and not expanded(text).exists()


def _once(paths: list[Path]) -> Iterable[Path]:
    """Each file once, by its shortest path: `**` goes round where a link leads to a folder above.

    Links to files are left alone: whoever made them wants the picture under both names.
    """
    shortest_last = sorted(paths, key=lambda path: -len(path.parts))
    return {(os.path.realpath(path.parent), path.name): path for path in shortest_last}.values()
