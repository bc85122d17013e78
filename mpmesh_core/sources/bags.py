"""sources.bags: image topics of ROS bags, without ROS, through the `rosbags` package.

In   a ROS 1 .bag, a ROS 2 .mcap or .db3 file, or a ROS 2 bag folder
Out  Frames with the stamp of the message's header and, where the bag has the topic's camera_info,
     the camera; between them the messages of topics to be kept, as ROS 2 has them
"""

from __future__ import annotations

import logging
import sqlite3
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpmesh_core.camera import Camera
from mpmesh_core.errors import InputError, MissingFileError, MissingPackageError, UsageError
from mpmesh_core.sources.frames import BadFrame, Frame, Header, SourceKind
from mpmesh_core.sources.kept_topics import KeptTopic, RawMessage, TopicKeeper
from mpmesh_core.sources.messages import (
    camera_from_message,
    image_from_compressed,
    image_from_message,
)

if TYPE_CHECKING:
    from rosbags.interfaces import Connection

logger = logging.getLogger(__name__)
BAG_SUFFIXES = frozenset({".bag", ".mcap", ".db3"})
_RAW, _COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
_INFO = "sensor_msgs/msg/CameraInfo"
_DAMAGE = (sqlite3.Error, struct.error, EOFError, IndexError)  # what readers raise on damaged bags


def is_bag(path: Path) -> bool:
    """Whether a path is a bag file by suffix or a ROS 2 bag folder."""
    if path.is_dir():
        return _describes_bag(path / "metadata.yaml") or bool(_parts(path))
    return path.suffix.lower() in BAG_SUFFIXES


def _describes_bag(path: Path) -> bool:
    """Whether a metadata.yaml is a ROS 2 bag's and not somebody's notes beside pictures."""
    try:
        return b"rosbag2_bagfile_information" in path.read_bytes()
    except OSError:
        return False


class Bag:
    """One image topic of a bag.

    Args:
        path: the bag.
        topic: the image topic; may be left out where the bag has only one.
        camera_info: read the topic's camera; without it an uncalibrated one is no error.

    Raises:
        MissingFileError: no such bag.
        MissingPackageError: `rosbags` isn't installed.
        InputError: a damaged bag, or one without pictures.
        UsageError: a topic that the bag lacks, or none given where there are several.
    """

    kind: SourceKind = "bag"
    sequence = True

    def __init__(
        self, path: str | Path, topic: str | None = None, camera_info: bool = True
    ) -> None:
        self.path = _readable(Path(path))
        self.paths = [self.path]
        self._camera_info = camera_info
        self._unusable = ""  # what is wrong with a camera_info message
        with self._opened() as reader:
            self.topic = _choose_topic(reader, self.path, topic)
            connections = [c for c in reader.bag.connections if c.topic == self.topic]
            self.length: int | None = sum(connection.msgcount for connection in connections)
            self.fps = _rate(self.length, reader.bag.duration)
        self.name = f"{path}:{self.topic}"

    def __iter__(self) -> Iterator[Frame | BadFrame]:
        """Read the topic's pictures in the order in which they were recorded."""
        for item in self.read():
            if not isinstance(item, RawMessage):
                yield item

    def read(self, keep: Collection[str] = ()) -> Iterator[Frame | BadFrame | RawMessage]:
        """Read the topic's pictures, and before or between them the messages of other topics.

        Args:
            keep: topics whose messages are wanted; may name the image topic too.
        """
        with self._opened() as reader:
            keeper = TopicKeeper(reader.bag.connections, keep, self.path)
            infos = self._info_connections(reader)
            pictures = [c for c in reader.bag.connections if c.topic == self.topic]
            wanted = pictures + [c for c in infos if c.topic not in keep] + keeper.connections
            camera, index = self._first_camera(reader, infos), 0
            for connection, time_ns, raw in reader.bag.messages(_distinct(wanted)):
                if connection.topic in keep:
                    yield keeper.message(connection, time_ns, raw)
                if connection in infos:
                    camera = self._camera(reader, connection, raw) or camera
                elif connection.topic == self.topic:
                    yield self._frame(reader, connection, raw, index, time_ns, camera)
                    index += 1

    def kept_topics(self, keep: Collection[str]) -> list[KeptTopic]:
        """What `read(keep)` will give messages of.

        Raises:
            UsageError: a topic that the bag lacks.
            InputError: one whose messages cannot be described.
        """
        with self._opened() as reader:
            return TopicKeeper(reader.bag.connections, keep, self.path).topics

    def all_topics(self) -> list[str]:
        """Names of all topics of the bag."""
        with self._opened() as reader:
            return sorted({connection.topic for connection in reader.bag.connections})

    def _frame(
        self,
        reader: _Reader,
        connection: Connection,
        raw: bytes,
        index: int,
        time_ns: int,
        camera: Camera | None,
    ) -> Frame | BadFrame:
        decode = image_from_message if connection.msgtype == _RAW else image_from_compressed
        try:
            message: Any = reader.deserialize(raw, connection.msgtype)
            image = decode(message)
        except InputError as error:
            return BadFrame(index, self.name, f"{self.name}, picture {index}: {error}")
        stamp = message.header.stamp
        header = Header(stamp.sec, stamp.nanosec, message.header.frame_id)
        seconds = stamp.sec + 1e-9 * stamp.nanosec
        seconds = seconds if seconds > 0 else 1e-9 * time_ns
        return Frame(index, seconds, self.name, image, camera, header, time_ns)

    def _info_connections(self, reader: _Reader) -> list[Connection]:
        if not self._camera_info:
            return []
        topic = _info_topic(self.topic)
        return [c for c in reader.bag.connections if (c.topic, c.msgtype) == (topic, _INFO)]

    def _first_camera(self, reader: _Reader, infos: list[Connection]) -> Camera | None:
        """The first usable camera, which pictures from before it get too.

        Raises:
            InputError: there are messages, and none is usable.
        """
        if not infos:
            return None
        unusable = None
        for connection, _, raw in reader.bag.messages(infos):
            camera = self._camera(reader, connection, raw)
            if camera is not None:
                return camera
            unusable = connection
        if unusable is None:
            return None
        raise InputError(
            f"{unusable.topic} in {self.path}: {self._unusable}; give --camera or --fov"
        )

    def _camera(self, reader: _Reader, connection: Connection, raw: bytes) -> Camera | None:
        """The camera of a message; None where it is unusable, which is logged once."""
        name = self.topic.removesuffix("/compressed").rsplit("/", 1)[-1]
        try:
            message = reader.deserialize(raw, connection.msgtype)
            return camera_from_message(message, rectified=name.startswith("image_rect"))
        except InputError as error:
            if not self._unusable:
                logger.warning("%s in %s: %s", connection.topic, self.path, error)
            self._unusable = str(error)
            return None

    @contextmanager
    def _opened(self) -> Iterator[_Reader]:
        reader_type, error_type, typestore, decode = _rosbags(self.path)
        try:
            reader = reader_type(self.path)
            reader.open()
        except Exception as error:  # of many kinds: rosbags, yaml, sqlite, struct, lz4, ...
            raise InputError(f"bag {self.path} cannot be read: {_one_line(error)}") from None
        try:
            yield _Reader(reader, getattr(typestore, decode))
        except (error_type, *_DAMAGE) as error:
            raise InputError(f"bag {self.path} is damaged: {_one_line(error)}") from None
        finally:
            reader.close()


@dataclass(frozen=True)
class _Reader:
    """An opened bag and the decoder of its messages."""

    bag: Any  # rosbags Reader of ROS 1 or 2, which have the same methods
    decode: Callable[[bytes, str], Any]

    def deserialize(self, raw: bytes, kind: str) -> Any:
        """One message; whatever damaged bytes make the decoder raise is an InputError."""
        try:
            return self.decode(raw, kind)
        except Exception as error:
            raise InputError(f"message cannot be decoded: {_one_line(error)}") from None


def _readable(path: Path) -> Path:
    if not path.exists():
        raise MissingFileError(f"bag {path} does not exist")
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        parts = _parts(path)
        if len(parts) != 1:
            raise InputError(
                f"bag folder {path} has no metadata.yaml; give one of its files, or make it again "
                "with `ros2 bag reindex`"
            )
        return parts[0]
    return path


def _parts(folder: Path) -> list[Path]:
    return [*folder.glob("*.mcap"), *folder.glob("*.db3")]


def _rosbags(path: Path) -> tuple[Any, type[Exception], Any, str]:
    """Reader, its error, message types and the name of their decoder, for a bag's ROS version.

    The standard message types are used rather than the definitions in the bag: pictures have been
    the same since ROS 1 but for the header, and definitions of other topics may not parse.
    """
    try:
        from rosbags import rosbag1, rosbag2
        from rosbags.typesys import Stores, get_typestore
    except ImportError:
        raise MissingPackageError(
            "reading bags needs the package rosbags: pip install 'mpmesh[bag]'"
        ) from None
    if path.suffix.lower() == ".bag":
        noetic = get_typestore(Stores.ROS1_NOETIC)
        return rosbag1.Reader, rosbag1.ReaderError, noetic, "deserialize_ros1"
    humble = get_typestore(Stores.ROS2_HUMBLE)
    return rosbag2.Reader, rosbag2.ReaderError, humble, "deserialize_cdr"


def _choose_topic(reader: _Reader, path: Path, topic: str | None) -> str:
    counts: dict[str, int] = {}
    for connection in reader.bag.connections:
        if connection.msgtype in (_RAW, _COMPRESSED):
            counts[connection.topic] = counts.get(connection.topic, 0) + connection.msgcount
    listed = ", ".join(sorted(counts)) or "none"
    if topic is not None:
        if topic not in counts:
            raise UsageError(f"bag {path} has no image topic {topic!r}; its image topics: {listed}")
        return topic
    if not counts:
        others = ", ".join(sorted({connection.topic for connection in reader.bag.connections}))
        raise InputError(f"bag {path} has no image topic; its topics: {others or 'none'}")
    if len(counts) > 1:
        raise UsageError(f"bag {path} has several image topics, choose with --topic: {listed}")
    return next(iter(counts))


def _info_topic(topic: str) -> str:
    """The camera_info that image_transport pairs with an image topic: its sibling."""
    base = topic.removesuffix("/compressed")
    return f"{base.rsplit('/', 1)[0]}/camera_info"


def _rate(count: int, duration_ns: int) -> float | None:
    return 1e9 * (count - 1) / duration_ns if count > 1 and duration_ns > 0 else None


def _distinct(connections: list[Connection]) -> list[Connection]:
    return list({connection.id: connection for connection in connections}.values())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
