"""augment: what may happen to a person's picture between camera and network.

Views: the crop camera turned about its axis, zoomed, off centre, or aimed at a part of the person,
as a detector does with people who are cut off or half hidden. Pictures: occluders pasted from
other pictures, image borders, low resolution, blur, noise, exposure and colour. Everything draws
from one `numpy` generator, so a seed repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class AugmentConfig:
    """How much of each; probabilities in 0..1."""

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


def blacken_outside(picture: Array, box: Array) -> Array:
    """Let the picture end at a box (4,) [px]."""
    x1, y1, x2, y2 = np.round(box).astype(int)
    kept = np.zeros_like(picture)
    window = np.s_[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
    kept[window] = picture[window]
    return kept


def paste_occluders(picture: Array, donor: Array, rng: np.random.Generator) -> Array:
    """Cover parts of a picture with smooth-edged pieces of another one.

    Args:
        picture: (S, S, 3) uint8.
        donor: (H, W, 3) uint8, any size.
    """
    size = picture.shape[0]
    donor = cv2.resize(donor, (size, size))
    mask = np.zeros((size, size), np.uint8)
    for _ in range(rng.integers(1, 4)):
        cv2.fillPoly(mask, [_blob(size, rng)], 255)
    shift = rng.integers(-size // 3, size // 3, 2)
    donor = np.roll(donor, shift, (0, 1))
    return np.where(mask[..., None] > 0, donor, picture)


def _blob(size: int, rng: np.random.Generator) -> Array:
    """A closed polygon (K, 2) around a random place: box-like, round or jagged."""
    corners = int(rng.choice((4, 7, 12)))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = size * rng.uniform(0.06, 0.28) * rng.uniform(0.7, 1.3, (corners, 1))
    stretch = np.exp(rng.normal(0, 0.5)) ** np.array([1, -1])
    ring = np.stack((np.cos(angles), np.sin(angles)), 1) * radius * stretch
    return np.round(rng.uniform(0, size, 2) + ring).astype(np.int32)


def degrade(picture: Array, rng: np.random.Generator, config: AugmentConfig) -> Array:
    """Resolution, blur, noise and colour of worse cameras.

    Args:
        picture: (S, S, 3) uint8 RGB.

    Returns:
        Same shape and type.
    """
    size = picture.shape[0]
    if rng.random() < config.low_resolution:
        small = int(size * np.exp(rng.uniform(np.log(0.2), np.log(0.7))))
        shrunk = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
        picture = cv2.resize(shrunk, (size, size), interpolation=cv2.INTER_LINEAR)
    if rng.random() < config.blur:
        picture = _blur(picture, rng)
    if rng.random() < config.colour:
        picture = _recolour(picture, rng)
    if rng.random() < config.grey:
        picture = np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    if rng.random() < config.noise:
        coarse = rng.normal(0, rng.uniform(2, 12), (size // 2, size // 2, 3)).astype(np.float32)
        noise = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_NEAREST)
        picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    return picture


def _blur(picture: Array, rng: np.random.Generator) -> Array:
    if rng.random() < 0.5:
        return cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 2.0))
    length = int(rng.integers(3, 10))  # motion along one line
    kernel = np.zeros((length, length), np.float32)
    angle = rng.uniform(0, np.pi)
    tip = np.array([np.cos(angle), np.sin(angle)]) * (length - 1) / 2
    middle = (length - 1) / 2
    ends = np.round([middle - tip, middle + tip]).astype(int)
    cv2.line(kernel, tuple(map(int, ends[0])), tuple(map(int, ends[1])), 1.0)
    return cv2.filter2D(picture, -1, kernel / kernel.sum())


def _recolour(picture: Array, rng: np.random.Generator) -> Array:
    """Gamma, contrast, brightness and white balance in one table per channel, then saturation."""
    ramp = np.linspace(0, 1, 256, dtype=np.float32)
    curve = ramp ** np.exp(rng.normal(0, 0.25))
    curve = (curve - 0.5) * np.exp(rng.normal(0, 0.2)) + 0.5 + rng.normal(0, 0.07)
    gains = np.exp(rng.normal(0, 0.07, 3))
    table = np.clip(curve[:, None] * gains * 255, 0, 255).astype(np.uint8)
    picture = cv2.LUT(picture, table.reshape(1, 256, 3))
    amount = np.exp(rng.normal(0, 0.25))
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(picture, amount, grey, 1 - amount, 0)
