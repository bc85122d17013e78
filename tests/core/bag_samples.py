"""Pictures, cameras and bags that tests of sources and replays share, all made here."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from mpmesh_core.types import Array

RED, GREEN, BLUE, GREY = (220, 30, 40), (20, 200, 60), (30, 60, 210), (128, 128, 128)


def quadrants(height: int = 48, width: int = 64) -> Array:
    """RGB picture with red, green / blue, grey corners, so that every turn and flip shows."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = RED, GREEN
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = BLUE, GREY
    return image


def encode(image: Array, suffix: str) -> bytes:
    """RGB (or grey, or RGBA) picture to a file's bytes."""
    if image.ndim == 3:
        image = image[..., [2, 1, 0, 3][: image.shape[2]]]
    return cv2.imencode(suffix, image)[1].tobytes()


def image_message(image: Array, encoding: str, padding: int = 0, big: bool = False) -> Any:
    """What a driver publishes: rows with padding at their end."""
    rows = image.reshape(image.shape[0], -1)
    rows = rows.astype(rows.dtype.newbyteorder(">")) if big else rows
    raw = [row.tobytes() + b"\xee" * padding for row in rows]
    return SimpleNamespace(
        height=image.shape[0],
        width=image.shape[1],
        encoding=encoding,
        is_bigendian=int(big),
        step=len(raw[0]),
        data=np.frombuffer(b"".join(raw), np.uint8),
    )


def camera_info(**changes: Any) -> Any:
    K = np.array([500.0, 0, 320, 0, 510, 240, 0, 0, 1])
    P = np.array([480.0, 0, 300, 0, 0, 490, 230, 0, 0, 0, 1, 0])
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0, do_rectify=False)
    fields = {"width": 640, "height": 480, "distortion_model": "plumb_bob", "k": K, "p": P}
    fields |= {"d": np.array([0.1, -0.05, 0.0, 0.0, 0.0]), "roi": roi, "r": np.eye(3).ravel()}
    return SimpleNamespace(**{**fields, "binning_x": 0, "binning_y": 0, **changes})


class BagMaker:
    """Writes a bag message by message; a context manager.

    Args:
        folder: where to.
        kind: ros1, mcap or sqlite3.
        compression: zstd of the whole file or of each message (ROS 2): `file`, `message` or none.
    """

    def __init__(self, folder: Path, kind: str, name: str = "drive", compression: str = "") -> None:
        from rosbags.rosbag1 import Writer as Writer1
        from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
        from rosbags.rosbag2 import Writer as Writer2
        from rosbags.typesys import Stores, get_typestore

        self.ros1 = kind == "ros1"
        self.store = get_typestore(Stores.ROS1_NOETIC if self.ros1 else Stores.ROS2_HUMBLE)
        self.types = self.store.types
        self.path = folder / (f"{name}.bag" if self.ros1 else f"{name}_{kind}")
        if self.ros1:
            self._bag: Any = Writer1(self.path)
        else:
            plugin = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}[kind]
            self._bag = Writer2(self.path, version=9, storage_plugin=plugin)
            if compression:
                mode = CompressionMode[compression.upper()]
                self._bag.set_compression(mode, CompressionFormat.ZSTD)
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> BagMaker:
        self._bag.open()
        return self

    def __exit__(self, *error: object) -> None:
        self._bag.close()

    def header(self, stamp: float, frame_id: str = "camera") -> Any:
        time = self.types["builtin_interfaces/msg/Time"](int(stamp), round(stamp % 1 * 1e9))
        sequence = {"seq": 0} if self.ros1 else {}
        return self.types["std_msgs/msg/Header"](**sequence, stamp=time, frame_id=frame_id)

    def write(self, topic: str, kind: str, recorded: float, **fields: Any) -> None:
        """One message of a type, recorded at a time [s]."""
        if topic not in self._connections:
            connection = self._bag.add_connection(topic, kind, typestore=self.store)
            self._connections[topic] = connection
        serialize = self.store.serialize_ros1 if self.ros1 else self.store.serialize_cdr
        data = serialize(self.types[kind](**fields), kind)
        self._bag.write(self._connections[topic], round(recorded * 1e9), data)

    def image(self, topic: str, stamp: float, image: Array, recorded: float) -> None:
        fields = vars(image_message(image, "rgb8"))
        kind = "sensor_msgs/msg/Image"
        self.write(topic, kind, recorded, header=self.header(stamp), **fields)

    def compressed(self, topic: str, stamp: float, image: Array, recorded: float) -> None:
        data = np.frombuffer(encode(image, ".png"), np.uint8)
        kind, header = "sensor_msgs/msg/CompressedImage", self.header(stamp)
        self.write(topic, kind, recorded, header=header, format="png", data=data)

    def camera_info(self, topic: str, info: Any, recorded: float) -> None:
        """A message with the fields of `camera_info`, in the names of the bag's ROS."""
        roi = self.types["sensor_msgs/msg/RegionOfInterest"](**vars(info.roi))
        fields = {key: value for key, value in vars(info).items() if key != "roi"}
        if self.ros1:
            fields = {(k.upper() if len(k) == 1 else k): v for k, v in fields.items()}
        kind, header = "sensor_msgs/msg/CameraInfo", self.header(recorded)
        self.write(topic, kind, recorded, header=header, roi=roi, **fields)
