"""augment: what may happen to a person's picture between camera and network.

Views: the crop camera turned about its axis, zoomed, off centre, or aimed at a part of the person,
as a detector does with people who are cut off or half hidden. Pictures: occluders pasted from
other pictures, image borders, low resolution, blur, noise, exposure and colour. Everything draws
from one `numpy` generator, so a seed repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class AugmentConfig:
    """How much of each; probabilities in 0..1."""

    # Made from settings, it refuses unknown keys.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    roll_deg: float = 20.0  # standard deviation, clipped at twice
    strong_roll: float = 0.1  # probability of any roll up to 180 degrees
    zoom: tuple[float, float] = (0.8, 1.25)
    shift: float = 0.08  # standard deviation in box sides
    part: float = 0.3  # probability that the box covers a part of the person only
    border: float = 0.5  # ... and that the picture ends there
    occlude: float = 0.5
    low_resolution: float = 0.25
    blur: float = 0.15
    noise: float = 0.2
    colour: float = 0.8
    grey: float = 0.05
    mirror: float = 0.5


BLUR = 13  # side of blur kernels [px]
_SIDES = 8  # lower resolutions are multiples of it: few, so that a device does many at once
NO_AUGMENT = AugmentConfig(0.0, 0.0, (1.0, 1.0), 0.0, *(0.0,) * 9)


def jitter_box(box: Array, rng: np.random.Generator, config: AugmentConfig) -> Array:
    """A detector's box for a true one: shifted, scaled on each side.

    Args:
        box: (4,) x1, y1, x2, y2 [px].
    """
    centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    centre = centre + rng.normal(0, 1, 2) * config.shift * size
    size = size * np.exp(rng.uniform(*np.log(config.zoom)))
    return np.concatenate((centre - size / 2, centre + size / 2))


def part_of_box(box: Array, rng: np.random.Generator) -> Array:
    """The box of a person of whom one end is cut off: mostly the legs, sometimes a side."""
    box = box.copy()
    width, height = box[2] - box[0], box[3] - box[1]
    cut = rng.uniform(0.2, 0.65)
    side = rng.choice(4, p=(0.15, 0.1, 0.15, 0.6))  # left, top, right, bottom
    box[side] += (width, height)[side % 2] * (cut if side < 2 else -cut)
    return box


def draw_cover(size: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Where another picture covers a crop.

    Returns:
        mask (size, size) bool of a few smooth-edged pieces; shift (2,), down and to the right, of
        the picture that covers.
    """
    mask = np.zeros((size, size), np.uint8)
    for _ in range(rng.integers(1, 4)):
        cv2.fillPoly(mask, [_blob(size, rng)], 1)
    return mask > 0, rng.integers(-size // 3, size // 3, 2)


def _blob(size: int, rng: np.random.Generator) -> Array:
    """A closed polygon (K, 2) around a random place: box-like, round or jagged."""
    corners = int(rng.choice((4, 7, 12)))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = size * rng.uniform(0.06, 0.28) * rng.uniform(0.7, 1.3, (corners, 1))
    stretch = np.exp(rng.normal(0, 0.5)) ** np.array([1, -1])
    ring = np.stack((np.cos(angles), np.sin(angles)), 1) * radius * stretch
    return np.round(rng.uniform(0, size, 2) + ring).astype(np.int32)


@dataclass(frozen=True)
class Degrading:
    """How a worse camera sees one picture; drawn once, applied here or on a device."""

    small: int  # side at its lower resolution [px]; 0: as it is
    kernel: Array  # (BLUR, BLUR) float32, sums to 1
    table: Array  # (256, 3) uint8: brightness of each channel
    saturation: float  # 0: grey, 1: as it is
    noise: float  # standard deviation in cells of two pixels
    seed: int  # of the noise

    @property
    def blurs(self) -> bool:
        """Whether the kernel does anything."""
        return bool(self.kernel[BLUR // 2, BLUR // 2] < 1)


def draw_degrading(size: int, rng: np.random.Generator, config: AugmentConfig) -> Degrading:
    """Resolution, blur, noise and colour of worse cameras, for a picture `size` px wide."""
    small, kernel, noise, saturation = 0, _no_blur(), 0.0, 1.0
    table = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
    if rng.random() < config.low_resolution:
        small = int(size * np.exp(rng.uniform(np.log(0.2), np.log(0.7))))
        small = max(small // _SIDES * _SIDES, _SIDES)
    if rng.random() < config.blur:
        kernel = _draw_blur(rng)
    if rng.random() < config.colour:
        table, saturation = _draw_colour(rng)
    if rng.random() < config.grey:
        saturation = 0.0
    if rng.random() < config.noise:
        noise = float(rng.uniform(2, 12))
    return Degrading(small, kernel, table, saturation, noise, int(rng.integers(1 << 31)))


def degrade(picture: Array, degrading: Degrading) -> Array:
    """A picture as that camera sees it.

    Args:
        picture: (S, S, 3) uint8 RGB.

    Returns:
        Same shape and type.
    """
    size = picture.shape[0]
    if degrading.small:
        small = (degrading.small,) * 2
        shrunk = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
        picture = cv2.resize(shrunk, (size, size), interpolation=cv2.INTER_LINEAR)
    if degrading.blurs:
        picture = cv2.filter2D(picture, -1, degrading.kernel)
    picture = cv2.LUT(picture, degrading.table.reshape(1, 256, 3))
    if degrading.saturation != 1:
        grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        amount = degrading.saturation
        picture = cv2.addWeighted(picture, amount, grey, 1 - amount, 0)
    if degrading.noise:
        rng = np.random.default_rng(degrading.seed)
        coarse = rng.normal(0, degrading.noise, (size // 2, size // 2, 3)).astype(np.float32)
        noise = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_NEAREST)
        picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    return picture


def _no_blur() -> Array:
    kernel = np.zeros((BLUR, BLUR), np.float32)
    kernel[BLUR // 2, BLUR // 2] = 1
    return kernel


def _draw_blur(rng: np.random.Generator) -> Array:
    if rng.random() < 0.5:
        bell = cv2.getGaussianKernel(BLUR, rng.uniform(0.5, 2.0), cv2.CV_32F)
        return bell @ bell.T
    length = int(rng.integers(3, 10))  # motion along one line
    kernel = np.zeros((BLUR, BLUR), np.float32)
    angle = rng.uniform(0, np.pi)
    tip = np.array([np.cos(angle), np.sin(angle)]) * (length - 1) / 2
    ends = np.round([BLUR // 2 - tip, BLUR // 2 + tip]).astype(int)
    cv2.line(kernel, tuple(map(int, ends[0])), tuple(map(int, ends[1])), 1.0)
    return kernel / kernel.sum()


def _draw_colour(rng: np.random.Generator) -> tuple[Array, float]:
    """Gamma, contrast, brightness and white balance as a table per channel, and saturation."""
    ramp = np.linspace(0, 1, 256, dtype=np.float32)
    curve = ramp ** np.exp(rng.normal(0, 0.25))
    curve = (curve - 0.5) * np.exp(rng.normal(0, 0.2)) + 0.5 + rng.normal(0, 0.07)
    gains = np.exp(rng.normal(0, 0.07, 3))
    table = np.clip(curve[:, None] * gains * 255, 0, 255).astype(np.uint8)
    return table, float(np.exp(rng.normal(0, 0.25)))
