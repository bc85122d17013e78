"""effects: what a real camera does to a picture: blur, noise, exposure, colour cast, JPEG."""

from __future__ import annotations

import cv2
import numpy as np

Array = np.ndarray
Random = np.random.Generator

NOISE_SIDE = 768
GRAINS = (0.8, 1.6, 2.8, 4.5, 7.0, 11.0)  # standard deviations
GRAIN_SHARES = (0.24, 0.24, 0.2, 0.16, 0.1, 0.06)


def make_grain(rng: Random) -> Array:
    """Camera noise (L, 768, 768, 3) int16 of the strengths `GRAINS`; pictures share it."""
    grain = rng.normal(0, 1, (NOISE_SIDE, NOISE_SIDE, 3))
    grain[: NOISE_SIDE // 3] = grain[: NOISE_SIDE // 3, :, :1]  # grey here, coloured elsewhere
    return np.stack([np.rint(grain * strength).astype(np.int16) for strength in GRAINS])


def camera_effects(rng: Random, image: Array, grain: Array) -> Array:
    """A worse picture (H, W, 3) uint8 RGB."""
    if rng.random() < 0.6:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.3))
    if rng.random() < 0.1:
        image = _motion_blur(rng, image)
    if rng.random() < 0.15:
        image = _low_resolution(rng, image)
    image = cv2.LUT(image, _tone(rng))
    return _add_grain(rng, image, grain) if rng.random() < 0.8 else image


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


def _add_grain(rng: Random, image: Array, grain: Array) -> Array:
    height, width = image.shape[:2]
    level = rng.choice(len(GRAINS), p=GRAIN_SHARES)
    top, left = rng.integers(NOISE_SIDE - height + 1), rng.integers(NOISE_SIDE - width + 1)
    tile = grain[level, top : top + height, left : left + width]
    return cv2.add(image, tile, dtype=cv2.CV_8U)
