"""messages.rosbags_types: message classes of the rosbags package, so that ROS isn't needed.

Standard messages are those of a ROS distribution; those of this project come from msg/, those of
vision_msgs and people_msgs from `definitions/`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mpmesh_core.errors import MissingFileError, MissingPackageError, UsageError
from mpmesh_core.types import Array

DISTRIBUTIONS = ("humble", "jazzy")
_DEFINITIONS = Path(__file__).parent / "definitions"
_OWN = (_DEFINITIONS / "mpmesh_ros", Path(__file__).parents[2] / "msg")  # installed, or a checkout


class RosbagsTypes:
    """`MessageTypes` of the rosbags package.

    Args:
        distribution: ROS distribution whose definitions count: humble or jazzy.

    Raises:
        MissingPackageError: rosbags isn't installed.
        UsageError: another distribution.
    """

    def __init__(self, distribution: str = "humble") -> None:
        try:
            from rosbags.typesys import Stores, get_types_from_msg, get_typestore
        except ImportError:
            raise MissingPackageError(
                "ROS messages need the package rosbags: pip install 'mpmesh[bag]'"
            ) from None
        if distribution not in DISTRIBUTIONS:
            raise UsageError(
                f"ROS distribution must be one of {', '.join(DISTRIBUTIONS)}, got {distribution!r}"
            )
        self.store = get_typestore(Stores[f"ROS2_{distribution.upper()}"])
        types: dict[str, Any] = {}
        for name, text in definitions():
            types.update(get_types_from_msg(text, name))
        self.store.register(types)

    def __getitem__(self, name: str) -> Any:
        """The dataclass of a message."""
        return self.store.types[name]

    def sequence(self, values: Array) -> Array:
        """Numpy arrays stay what they are."""
        return np.ascontiguousarray(values)

    def serialize(self, message: Any) -> bytes:
        """Little-endian CDR."""
        data = self.store.serialize_cdr(message, message.__msgtype__, little_endian=True)
        return bytes(data)

    def definition(self, name: str) -> str:
        """The full text of a message and of all that it is made of, as bags embed it."""
        return self.store.generate_msgdef(name, ros_version=2)[0]


def definitions() -> Iterator[tuple[str, str]]:
    """Name and text of every message that no ROS distribution brings along.

    Raises:
        MissingFileError: an incomplete installation.
    """
    own = next((folder for folder in _OWN if any(folder.glob("*.msg"))), None)
    if own is None:
        raise MissingFileError(f"message definitions {_OWN[0]} are missing; install mpmesh again")
    folders = [("mpmesh_ros", own)]
    folders += [(path.name, path) for path in sorted(_DEFINITIONS.iterdir()) if path != own]
    for package, folder in folders:
        for path in sorted(folder.glob("*.msg")):
            yield f"{package}/msg/{path.stem}", path.read_text(encoding="utf-8")
