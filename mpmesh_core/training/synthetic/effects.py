"""effects: what a real camera does to a picture: blur, noise, exposure, colour cast, JPEG."""

from __future__ import annotations

import cv2
import numpy as np

Array = np.ndarray
Random = np.random.Generator

NOISE_SIDE = 1024


def make_grain(rng: Random) -> Array:
    """A tile of camera noise (1024, 1024, 3) int8, deviation 16, that pictures share."""
    grain = rng.normal(0, 16, (NOISE_SIDE, NOISE_SIDE, 3))
    return np.clip(grain, -120, 120).astype(np.int8)


def camera_effects(rng: Random, image: Array, grain: Array) -> Array:
    """A worse picture (H, W, 3) uint8 RGB."""
    if rng.random() < 0.6:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.3))
    if rng.random() < 0.1:
        image = _motion_blur(rng, image)
    if rng.random() < 0.15:
        image = _low_resolution(rng, image)
    image = cv2.LUT(image, _tone(rng))
    strength = rng.choice([0.0, rng.uniform(0.5, 4), rng.uniform(4, 14)], p=[0.2, 0.65, 0.15])
    return _add_grain(rng, image, grain, strength)


def jpeg_quality(rng: Random) -> int:
    """Quality of the picture's file: mostly good, sometimes poor."""
    return int(rng.choice([rng.integers(35, 70), rng.integers(70, 96)], p=[0.25, 0.75]))


def _motion_blur(rng: Random, image: Array) -> Array:
    length = int(rng.integers(3, 9))
    kernel = np.zeros((length, length), np.float32)
    angle = rng.uniform(0, np.pi)
    middle = (length - 1) / 2
    reach = middle * np.array([np.cos(angle), np.sin(angle)])
    start, end = (middle - reach).round().astype(int), (middle + reach).round().astype(int)
    cv2.line(kernel, start.tolist(), end.tolist(), 1.0)
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def _low_resolution(rng: Random, image: Array) -> Array:
    height, width = image.shape[:2]
    share = rng.uniform(0.35, 0.8)
    small = cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _tone(rng: Random) -> Array:
    """Table (256, 1, 3): exposure, white balance, contrast and black level."""
    value = np.arange(256)[:, None] / 255
    gain = rng.uniform(0.75, 1.25) * np.exp(rng.normal(0, 0.04, 3))
    contrast = np.exp(rng.normal(0, 0.12))
    toned = 0.5 + (np.clip(value * gain, 0, 1) - 0.5) * contrast + rng.normal(0, 0.02)
    return (255 * np.clip(toned, 0, 1)).astype(np.uint8)[:, None, :]


def _add_grain(rng: Random, image: Array, grain: Array, strength: float) -> Array:
    if strength == 0:
        return image
    height, width = image.shape[:2]
    top, left = rng.integers(NOISE_SIDE - height + 1), rng.integers(NOISE_SIDE - width + 1)
    tile = grain[top : top + height, left : left + width]
    if rng.random() < 0.4:
        tile = np.repeat(tile[..., :1], 3, axis=2)
    return cv2.add(image, tile.astype(np.float32) * (strength / 16), dtype=cv2.CV_8U)
