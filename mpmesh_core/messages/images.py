"""messages.images: the drawn picture as a sensor_msgs/CompressedImage."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from mpmesh_core.messages.frame import MessageFrame
from mpmesh_core.messages.geometry import header_message
from mpmesh_core.messages.types import MessageTypes

JPEG_QUALITY = 85


def compressed_picture(types: MessageTypes, frame: MessageFrame) -> Any:
    """sensor_msgs/CompressedImage (JPEG) of the frame's picture; None where it has none."""
    if frame.picture is None:
        return None
    bgr = cv2.cvtColor(frame.picture, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return types["sensor_msgs/msg/CompressedImage"](
        header=header_message(types, frame.header),
        format="rgb8; jpeg compressed bgr8",
        data=types.sequence(np.asarray(data, np.uint8).reshape(-1)),
    )
