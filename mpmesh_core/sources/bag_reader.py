"""sources.bag_reader: ROS bags opened without ROS, through the `rosbags` package.

In   a ROS 1 .bag, a ROS 2 .mcap or .db3 file, or a ROS 2 bag folder
Out  BagReader: its connections, raw messages and a decoder; whatever is wrong is one line
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpmesh_core.errors import InputError, MissingFileError, MissingPackageError

if TYPE_CHECKING:
    from rosbags.interfaces import Connection

BAG_SUFFIXES = frozenset({".bag", ".mcap", ".db3"})


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


@dataclass(frozen=True)
class BagReader:
    """An opened bag and the decoder of its messages."""

    path: Path
    bag: Any  # rosbags Reader of ROS 1 or 2, which have the same methods
    decode: Callable[[bytes, str], Any]

    def messages(self, connections: list[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """Connection, time of recording [ns] and bytes of each message, in recorded order.

        Raises:
            InputError: the bag turns out to be damaged.
        """
        messages = self.bag.messages(connections)
        while True:
            try:
                message = next(messages, None)
            except Exception as error:  # of many kinds: rosbags, sqlite, struct, zstd, lz4, ...
                raise InputError(f"bag {self.path} is damaged: {_one_line(error)}") from None
            if message is None:
                return
            yield message

    def deserialize(self, raw: bytes, kind: str) -> Any:
        """One message; whatever damaged bytes make the decoder raise is an InputError."""
        try:
            return self.decode(raw, kind)
        except Exception as error:
            raise InputError(f"message cannot be decoded: {_one_line(error)}") from None


@contextmanager
def opened_bag(path: Path) -> Iterator[BagReader]:
    """Open a bag that `readable_bag` named.

    Raises:
        InputError: it cannot be read.
        MissingPackageError: `rosbags` isn't installed.
    """
    reader_type, typestore, decode = _rosbags(path)
    try:
        reader = reader_type(path)
        reader.open()
    except Exception as error:  # of many kinds: rosbags, yaml, sqlite, struct, lz4, ...
        reason = _one_line(error)
        advice = "; repair it with `mcap recover`" if "end magic" in reason else ""
        raise InputError(f"bag {path} cannot be read: {reason}{advice}") from None
    try:
        yield BagReader(path, reader, getattr(typestore, decode))
    finally:
        reader.close()


def readable_bag(path: Path) -> Path:
    """The bag, or the only file of a bag folder without metadata.

    Raises:
        MissingFileError: no such bag.
        InputError: a folder without a bag, or of several files without metadata.
    """
    if not path.exists():
        raise MissingFileError(f"bag {path} does not exist")
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        parts = _parts(path)
        if not parts:
            raise InputError(f"folder {path} holds no bag: no .mcap or .db3 file is in it")
        if len(parts) != 1:
            raise InputError(
                f"bag folder {path} has no metadata.yaml; give one of its files, or make it again "
                "with `ros2 bag reindex`"
            )
        return parts[0]
    return path


def _parts(folder: Path) -> list[Path]:
    return [*folder.glob("*.mcap"), *folder.glob("*.db3")]


def _rosbags(path: Path) -> tuple[Any, Any, str]:
    """Reader, message types and the name of their decoder, for a bag's ROS version.

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
        return rosbag1.Reader, noetic, "deserialize_ros1"
    humble = get_typestore(Stores.ROS2_HUMBLE)
    return rosbag2.Reader, humble, "deserialize_cdr"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
