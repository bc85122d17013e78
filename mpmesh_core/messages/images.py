"""messages.images: drawn pictures as sensor_msgs/CompressedImage."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from mpmesh_core.messages.frame import MessageFrame
from mpmesh_core.messages.geometry import header_message
from mpmesh_core.messages.types import MessageTypes
from mpmesh_core.types import Array

JPEG_QUALITY = 85


def compressed_image(types: MessageTypes, frame: MessageFrame, picture: Array) -> Any:
    """sensor_msgs/CompressedImage (JPEG) of a picture (H, W, 3) uint8 RGB."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return types["sensor_msgs/msg/CompressedImage"](
        header=header_message(types, frame.header),
        format="rgb8; jpeg compressed bgr8",
        data=types.sequence(np.asarray(data, np.uint8).reshape(-1)),
    )
