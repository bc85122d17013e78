"""mcap_output: MCAP files that ROS 2 plays, with embedded message definitions.

In   topics with their definitions, messages as CDR, times [ns]
Out  one .mcap file: the same bytes for the same messages, zstd inside

The file grows under another name and gets its own only when it is whole, so what a killed run
leaves never looks finished.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

from mpmesh_core import __version__
from mpmesh_core.errors import MissingPackageError, refusing
from mpmesh_core.outputs import prepare_folder, refuse_folder
from mpmesh_core.paths import expanded

# offered by a topic that is written once: keep last 1, reliable, transient local (as rosbag2 writes
# policies in its formats up to 8, which every ROS 2 reads)
LATCHED_QOS = """\
- history: 1
  depth: 1
  reliability: 1
  durability: 1
  deadline: {sec: 2147483647, nsec: 4294967295}
  lifespan: {sec: 2147483647, nsec: 4294967295}
  liveliness: 1
  liveliness_lease_duration: {sec: 2147483647, nsec: 4294967295}
  avoid_ros_namespace_conventions: false"""


class McapFile:
    """Writes one .mcap file; a context manager.

    Args:
        path: the file; its folder is made where missing, an old one is replaced at the end.
        salvage: finish the file also when an error or Ctrl-C ends the work.

    Raises:
        MissingPackageError: `mcap` isn't installed.
        InputError: it cannot be written.
    """

    def __init__(self, path: str | Path, salvage: bool = False) -> None:
        mcap = import_mcap()
        path = expanded(path)
        self.path = prepare_folder(path.parent, "file") / path.name
        refuse_folder(self.path)
        self.partial = self.path.with_name(f".{self.path.name}.part")
        self._salvage = salvage
        self._stream: IO[bytes] = open(self.partial, "wb")  # noqa: SIM115 closed by __exit__
        self._writer = mcap.Writer(self._stream)
        self._writer.start(profile="ros2", library=f"mpmesh {__version__}")
        self._schemas: dict[str, int] = {}
        self._channels: dict[tuple[str, str], int] = {}

    def add_topic(
        self, topic: str, kind: str, definition: str, encoding: str = "ros2msg", qos: str = ""
    ) -> int:
        """Announce a topic.

        Args:
            topic: its name.
            kind: type of its messages, such as `sensor_msgs/msg/Image`.
            definition: of the message and all that it is made of.
            encoding: of the definition: ros2msg or ros2idl.
            qos: offered profiles, as rosbag2 writes them.

        Returns:
            The number that `write` takes; the same again for a topic and type announced before.
        """
        if kind not in self._schemas:
            data = definition.encode()
            self._schemas[kind] = self._writer.register_schema(kind, encoding, data)
        if (topic, kind) not in self._channels:
            metadata = {"offered_qos_profiles": qos}
            schema = self._schemas[kind]
            channel = self._writer.register_channel(topic, "cdr", schema, metadata)
            self._channels[topic, kind] = channel
        return self._channels[topic, kind]

    def write(self, channel: int, data: bytes, time_ns: int) -> None:
        """Append a message (CDR); `time_ns` is when it was, or would have been, recorded."""
        with refusing(f"{self.path} cannot be written", "; make room, or give another file"):
            self._writer.add_message(channel, max(time_ns, 0), data, max(time_ns, 0))

    def note(self, name: str, values: dict[str, str]) -> None:
        """Append a metadata record."""
        self._writer.add_metadata(name, values)

    def __enter__(self) -> McapFile:
        return self

    def __exit__(self, *error: object) -> None:
        finished = error[0] is None or self._salvage
        advice = f"; make room; what there is of it is in {self.partial}, for `mcap recover`"
        with refusing(f"{self.path} cannot be finished", advice), self._stream:
            if finished:
                self._writer.finish()
        if finished:
            os.replace(self.partial, self.path)
        else:
            self.partial.unlink()


def read_note(path: Path, name: str) -> dict[str, str] | None:
    """A metadata record of a finished .mcap file; None where there is no such file or record."""
    import_mcap()
    from mcap.exceptions import McapError
    from mcap.reader import make_reader

    try:
        with path.open("rb") as stream:
            for record in make_reader(stream).iter_metadata():
                if record.name == name:
                    return record.metadata
    except (OSError, McapError, ValueError):
        return None
    return None


def import_mcap() -> Any:
    """The writer module of the mcap package.

    Raises:
        MissingPackageError: it isn't installed.
    """
    try:
        import mcap.writer
    except ImportError:
        raise MissingPackageError(
            "writing MCAP files needs the package mcap: pip install 'mpmesh[bag]'"
        ) from None
    return mcap.writer
