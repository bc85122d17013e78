"""sources.messages: pictures and cameras from the fields of ROS messages, without ROS.

In   objects with the fields of sensor_msgs Image, CompressedImage and CameraInfo
Out  (H, W, 3) uint8 RGB; Camera
Any object with these fields will do, so that bags and live topics share this file.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from mpmesh_core.camera import Camera
from mpmesh_core.errors import InputError
from mpmesh_core.sources.decoding import decode_image

Array = np.ndarray

# encoding -> (channels, bytes a channel, OpenCV conversion to RGB or None)
_ENCODINGS: dict[str, tuple[int, int, int | None]] = {
    "rgb8": (3, 1, None),
    "8uc3": (3, 1, cv2.COLOR_BGR2RGB),
    "bgr8": (3, 1, cv2.COLOR_BGR2RGB),
    "rgba8": (4, 1, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, 1, cv2.COLOR_BGRA2RGB),
    "8uc4": (4, 1, cv2.COLOR_BGRA2RGB),
    "mono8": (1, 1, cv2.COLOR_GRAY2RGB),
    "8uc1": (1, 1, cv2.COLOR_GRAY2RGB),
    "mono16": (1, 2, cv2.COLOR_GRAY2RGB),
    "16uc1": (1, 2, cv2.COLOR_GRAY2RGB),
    "rgb16": (3, 2, None),
    "bgr16": (3, 2, cv2.COLOR_BGR2RGB),
    "rgba16": (4, 2, cv2.COLOR_RGBA2RGB),
    "bgra16": (4, 2, cv2.COLOR_BGRA2RGB),
    # OpenCV names a mosaic by its second row and column, ROS by the first
    "bayer_rggb8": (1, 1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (1, 1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, 1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (1, 1, cv2.COLOR_BayerGB2RGB),
    "bayer_rggb16": (1, 2, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr16": (1, 2, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg16": (1, 2, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg16": (1, 2, cv2.COLOR_BayerGB2RGB),
    "yuv422": (2, 1, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, 1, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, 1, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, 1, cv2.COLOR_YUV2RGB_YUY2),
    "nv12": (1, 1, cv2.COLOR_YUV2RGB_NV12),
    "nv21": (1, 1, cv2.COLOR_YUV2RGB_NV21),
}
_COLOUR_BELOW = {"nv12", "nv21"}  # rows of grey, then half as many of colour


def image_from_message(message: Any) -> Array:
    """Picture (H, W, 3) uint8 RGB of a sensor_msgs Image; row padding and byte order respected.

    Raises:
        InputError: an encoding without a rule, or data that doesn't fit the stated size.
    """
    encoding = str(message.encoding).lower()
    if encoding not in _ENCODINGS:
        raise InputError(
            f"image encoding {message.encoding!r} is not supported; choose one of "
            f"{', '.join(_ENCODINGS)}"
        )
    channels, depth, conversion = _ENCODINGS[encoding]
    height, width, step = int(message.height), int(message.width), int(message.step)
    row = width * channels * depth
    lines = height + height // 2 if encoding in _COLOUR_BELOW else height
    data = np.frombuffer(bytes(message.data), np.uint8)
    if height < 1 or width < 1 or step < row or data.size < lines * step:
        raise InputError(
            f"image message of {width}x{height} {encoding}, step {step}, has {data.size} bytes, "
            f"needs {lines * max(step, row)}, {row} or more a row"
        )
    rows = data[: lines * step].reshape(lines, step)[:, :row]
    if depth == 2:
        order = ">u2" if message.is_bigendian else "<u2"
        rows = (np.ascontiguousarray(rows).view(order) >> 8).astype(np.uint8)
    image = np.ascontiguousarray(rows).reshape(lines, width, channels)
    if conversion is None:
        return image
    try:
        return cv2.cvtColor(image, conversion)
    except cv2.error:  # odd sizes of subsampled or mosaic pictures
        raise InputError(f"image of {width}x{height} cannot be {encoding}") from None


def image_from_compressed(message: Any) -> Array:
    """Picture (H, W, 3) uint8 RGB of a sensor_msgs CompressedImage (JPEG, PNG, ...).

    Raises:
        InputError: empty, cut off, or no picture.
    """
    try:
        return decode_image(bytes(message.data), remedy="look at what sends it")
    except InputError as error:
        raise InputError(f"compressed image message {message.format!r}: {error}") from None


def depth_from_message(message: Any) -> Array:
    """Depth (H, W) float32 [m] of a sensor_msgs Image as REP 118 has it: 16UC1 [mm] or 32FC1 [m].

    Raises:
        InputError: another encoding, or data that doesn't fit the stated size.
    """
    encoding = str(message.encoding).lower()
    kinds = {"16uc1": ("u2", 1e-3), "mono16": ("u2", 1e-3), "32fc1": ("f4", 1.0)}
    if encoding not in kinds:
        raise InputError(f"depth encoding {message.encoding!r} is not supported; use 16UC1, 32FC1")
    kind, metres = kinds[encoding]
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.frombuffer(bytes(message.data), np.uint8)
    row = width * np.dtype(kind).itemsize
    if height < 1 or width < 1 or step < row or data.size < height * step:
        raise InputError(
            f"depth message of {width}x{height} {encoding}, step {step}, has {data.size} bytes, "
            f"needs {height * max(step, row)}, {row} or more a row"
        )
    rows = np.ascontiguousarray(data[: height * step].reshape(height, step)[:, :row])
    order = ">" if message.is_bigendian else "<"
    return rows.view(order + kind).astype(np.float32) * np.float32(metres)


def camera_from_message(info: Any, rectified: bool = False) -> Camera:
    """Camera of a sensor_msgs CameraInfo of ROS 1 (K, D, P) or ROS 2 (k, d, p).

    Args:
        info: the message.
        rectified: the pictures are rectified ones (`image_rect*`): P without distortion then.

    Raises:
        InputError: an uncalibrated camera (K[0] = 0) or unusable numbers.
    """
    k, d, p = (_field(info, name) for name in "kdp")
    if rectified:
        k, d = p.reshape(3, 4)[:, :3], np.zeros(0)
    roi = info.roi
    return Camera.from_info(
        {
            "width": info.width,
            "height": info.height,
            "k": k.reshape(-1).tolist(),
            "d": d.tolist(),
            "distortion_model": "none" if rectified else info.distortion_model,
            "binning_x": info.binning_x,
            "binning_y": info.binning_y,
            "roi": {n: getattr(roi, n) for n in ("x_offset", "y_offset", "width", "height")},
        }
    )


def _field(info: Any, name: str) -> Array:
    value = getattr(info, name) if hasattr(info, name) else getattr(info, name.upper())
    return np.asarray(value, np.float64)
