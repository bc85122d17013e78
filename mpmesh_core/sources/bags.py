"""sources.bags: image topics of ROS bags, without ROS, through the `rosbags` package.

In   a ROS 1 .bag, a ROS 2 .mcap or .db3 file, or a ROS 2 bag folder
Out  Frames with the stamp of the message's header and, where the bag has the topic's camera_info,
     the camera; between them the messages of topics to be kept, as ROS 2 has them
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpmesh_core.camera import Camera
from mpmesh_core.errors import InputError, UsageError
from mpmesh_core.sources.bag_reader import BagReader, opened_bag, readable_bag
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
_RAW, _COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
_PEOPLE = "mpmesh_ros/msg/SmplPersonArray"
_INFO = "sensor_msgs/msg/CameraInfo"


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
        self.path = readable_bag(Path(path))
        self.paths = [self.path]
        self._camera_info = camera_info
        self._unusable = ""  # what is wrong with a camera_info message
        self._told = False
        with opened_bag(self.path) as reader:
            self.topic = _choose_topic(reader, self.path, topic)
            connections = [c for c in reader.bag.connections if c.topic == self.topic]
            self.length: int | None = sum(connection.msgcount for connection in connections)
            self.fps = _rate(self.length, reader.bag.duration)
        self.name = f"{path}:{self.topic}"

    def __iter__(self) -> Iterator[Frame | BadFrame]:
        """Read the topic's pictures in the order in which they were recorded.

        Where the bag is damaged, or its camera unusable, a BadFrame says so and is the last.
        """
        index = 0
        try:
            for item in self.read():
                if not isinstance(item, RawMessage):
                    yield item
                    index = item.index + 1
        except InputError as error:
            yield BadFrame(index, self.name, str(error))

    def read(self, keep: Collection[str] = ()) -> Iterator[Frame | BadFrame | RawMessage]:
        """Read the topic's pictures, and before or between them the messages of other topics.

        Args:
            keep: topics whose messages are wanted; may name the image topic too.
        """
        with opened_bag(self.path) as reader:
            keeper = TopicKeeper(reader.bag.connections, keep, self.path)
            infos = self._info_connections(reader)
            pictures = [c for c in reader.bag.connections if c.topic == self.topic]
            wanted = pictures + [c for c in infos if c.topic not in keep] + keeper.connections
            camera, index = self._first_camera(reader, infos), 0
            for connection, time_ns, raw in reader.messages(_distinct(wanted)):
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
        with opened_bag(self.path) as reader:
            return TopicKeeper(reader.bag.connections, keep, self.path).topics

    def all_topics(self) -> list[str]:
        """Names of all topics of the bag."""
        with opened_bag(self.path) as reader:
            return sorted({connection.topic for connection in reader.bag.connections})

    def _frame(
        self,
        reader: BagReader,
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

    def _info_connections(self, reader: BagReader) -> list[Connection]:
        if not self._camera_info:
            return []
        topic = _info_topic(self.topic)
        return [c for c in reader.bag.connections if (c.topic, c.msgtype) == (topic, _INFO)]

    def _first_camera(self, reader: BagReader, infos: list[Connection]) -> Camera | None:
        """The first usable camera, which pictures from before it get too.

        Raises:
            InputError: there are messages, and none is usable.
        """
        if not infos:
            return None
        unusable = None
        for connection, _, raw in reader.messages(infos):
            camera = self._camera(reader, connection, raw, tell=False)
            if camera is not None:
                return camera
            unusable = connection
        if unusable is None:
            return None
        raise InputError(
            f"{unusable.topic} in {self.path}: {self._unusable}; give --camera or --fov"
        )

    def _camera(
        self, reader: BagReader, connection: Connection, raw: bytes, tell: bool = True
    ) -> Camera | None:
        """The camera of a message; None where it is unusable, which may be logged, but once."""
        name = self.topic.removesuffix("/compressed").rsplit("/", 1)[-1]
        try:
            message = reader.deserialize(raw, connection.msgtype)
            return camera_from_message(message, rectified=name.startswith("image_rect"))
        except InputError as error:
            if tell and not self._told:
                logger.warning("%s in %s: %s", connection.topic, self.path, error)
            self._told |= tell
            self._unusable = str(error)
            return None


def bag_messages(path: Path, topic: str) -> Iterator[tuple[str, bytes]]:
    """Type and CDR of every message of one topic of a bag, in recorded order.

    Raises:
        MissingFileError, MissingPackageError, InputError: see `Bag`.
        UsageError: a topic that the bag lacks.
    """
    path = readable_bag(path)
    with opened_bag(path) as reader:
        keeper = TopicKeeper(reader.bag.connections, [topic], path)
        for connection, time_ns, raw in reader.messages(keeper.connections):
            message = keeper.message(connection, time_ns, raw)
            yield message.type, message.data


def _choose_topic(reader: BagReader, path: Path, topic: str | None) -> str:
    counts: dict[str, int] = {}
    for connection in reader.bag.connections:
        if connection.msgtype in (_RAW, _COMPRESSED):
            counts[connection.topic] = counts.get(connection.topic, 0) + connection.msgcount
    listed = ", ".join(sorted(counts)) or "none"
    if topic is not None:
        if topic not in counts:
            raise UsageError(f"bag {path} has no image topic {topic!r}; its image topics: {listed}")
        return topic
    drawn = counts.keys() & _drawn_topics(reader)
    if drawn and len(drawn) == len(counts):
        raise InputError(f"bag {path} has only pictures that MPMesh drew; use --topic: {listed}")
    counts = {name: count for name, count in counts.items() if name not in drawn}
    if not counts:
        others = ", ".join(sorted({connection.topic for connection in reader.bag.connections}))
        raise InputError(f"bag {path} has no image topic; its topics: {others or 'none'}")
    if len(counts) > 1:
        raise UsageError(f"bag {path} has several image topics, choose with --topic: {listed}")
    return next(iter(counts))


def _drawn_topics(reader: BagReader) -> set[str]:
    """Pictures that MPMesh itself has drawn: nobody is to be looked for in those unasked."""
    people = [c.topic for c in reader.bag.connections if c.msgtype == _PEOPLE]
    return {f"{topic.removesuffix('/people')}/overlay/compressed" for topic in people}


def _info_topic(topic: str) -> str:
    """The camera_info that image_transport pairs with an image topic: its sibling."""
    base = topic.removesuffix("/compressed")
    return f"{base.rsplit('/', 1)[0]}/camera_info"


def _rate(count: int, duration_ns: int) -> float | None:
    return 1e9 * (count - 1) / duration_ns if count > 1 and duration_ns > 0 else None


def _distinct(connections: list[Connection]) -> list[Connection]:
    return list({connection.id: connection for connection in connections}.values())
