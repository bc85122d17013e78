"""sources.kept_topics: messages of a bag that go on unchanged, as ROS 2 has them.

In   connections of a bag and their raw messages, ROS 1 or ROS 2
Out  the same messages as CDR, with the definitions that a ROS 2 bag embeds
Messages of ROS 1 become those of the same name in ROS 2 (a header loses its `seq`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpmesh_core.errors import InputError, UsageError

if TYPE_CHECKING:
    from rosbags.interfaces import Connection

_RENAMED = {"tf/msg/tfMessage": "tf2_msgs/msg/TFMessage"}  # by ROS 2, like the rosbags package does


@dataclass(frozen=True)
class KeptTopic:
    """One topic of one type."""

    topic: str
    type: str
    definition: str  # of the message and all that it is made of
    encoding: str  # of the definition: ros2msg or ros2idl
    qos: str  # offered profiles, as bags write them; may be empty


@dataclass(frozen=True)
class RawMessage:
    """A message that goes on as it is."""

    topic: str
    type: str
    recorded_ns: int  # [ns]
    data: bytes  # CDR


class TopicKeeper:
    """Describes and converts the messages of some topics of a bag.

    Args:
        connections: of the opened bag.
        keep: the topics.
        path: of the bag, for errors.

    Raises:
        UsageError: a topic that the bag lacks.
        InputError: a topic whose messages nobody describes.
    """

    def __init__(
        self, connections: Collection[Connection], keep: Collection[str], path: Path
    ) -> None:
        self._path = path
        self.connections = [c for c in connections if c.topic in keep]
        missing = sorted(set(keep) - {connection.topic for connection in connections})
        if missing:
            known = ", ".join(sorted({connection.topic for connection in connections})) or "none"
            raise UsageError(f"bag {path} has no topic {missing[0]!r}; its topics: {known}")
        self._kept: dict[int, tuple[KeptTopic, Callable[[bytes], bytes]]] = {
            connection.id: self._described(connection) for connection in self.connections
        }

    @property
    def topics(self) -> list[KeptTopic]:
        """What is kept, one entry for each topic and type."""
        return list({(t.topic, t.type): t for t, _ in self._kept.values()}.values())

    def message(self, connection: Connection, time_ns: int, raw: bytes) -> RawMessage:
        """One message of a kept connection.

        Raises:
            InputError: bytes that are no such message.
        """
        topic, convert = self._kept[connection.id]
        return RawMessage(topic.topic, topic.type, time_ns, convert(raw))

    def _described(self, connection: Connection) -> tuple[KeptTopic, Callable[[bytes], bytes]]:
        from rosbags.interfaces import ConnectionExtRosbag1

        if isinstance(connection.ext, ConnectionExtRosbag1):
            return self._from_ros1(connection)
        return self._from_ros2(connection), bytes

    def _from_ros2(self, connection: Any) -> KeptTopic:
        from rosbags.interfaces import MessageDefinitionFormat
        from rosbags.rosbag2.metadata import dump_qos_v8

        formats = {MessageDefinitionFormat.MSG: "ros2msg", MessageDefinitionFormat.IDL: "ros2idl"}
        definition, encoding = connection.msgdef.data, formats.get(connection.msgdef.format)
        if encoding is None:
            definition, encoding = self._standard(connection), "ros2msg"
        qos = dump_qos_v8(connection.ext.offered_qos_profiles)
        return KeptTopic(connection.topic, connection.msgtype, definition, encoding, qos)

    def _standard(self, connection: Connection) -> str:
        """The definition of a message in a bag that embeds none."""
        from rosbags.typesys import Stores, get_typestore

        store = get_typestore(Stores.ROS2_HUMBLE)
        if connection.msgtype not in store.fielddefs:
            raise InputError(
                f"topic {connection.topic} in {self._path} is of type {connection.msgtype}, which "
                "neither the bag nor ROS defines; keep other topics"
            )
        return store.generate_msgdef(connection.msgtype, ros_version=2)[0]

    def _from_ros1(self, connection: Any) -> tuple[KeptTopic, Callable[[bytes], bytes]]:
        from rosbags.convert.converter import LATCH, migrate_bytes
        from rosbags.rosbag2.metadata import dump_qos_v8
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore

        source, target = get_typestore(Stores.EMPTY), get_typestore(Stores.ROS2_HUMBLE)
        source.register(get_types_from_msg(connection.msgdef.data, connection.msgtype))
        name = _RENAMED.get(connection.msgtype, connection.msgtype)
        if name not in target.fielddefs:
            text = source.generate_msgdef(connection.msgtype, ros_version=2)[0]
            types = get_types_from_msg(text, name)
            target.register({k: v for k, v in types.items() if k not in target.fielddefs})
        cache: dict[str, object] = {}

        def convert(raw: bytes) -> bytes:
            try:
                migrated = migrate_bytes(
                    source, target, connection.msgtype, name, cache, raw,
                    src_is2=False, dst_is2=True,
                )  # fmt: skip
            except Exception as error:  # of many kinds, on damaged bytes
                raise InputError(
                    f"message of {connection.topic} in {self._path} cannot be decoded: {error}"
                ) from None
            return bytes(migrated)

        definition = target.generate_msgdef(name, ros_version=2)[0]
        qos = dump_qos_v8(LATCH if connection.ext.latching else [])
        return KeptTopic(connection.topic, name, definition, "ros2msg", qos), convert
