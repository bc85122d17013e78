"""textures: what surfaces look like close up, as rows of numbers that the shading kernel reads.

A material is a row of `COLUMNS` float32; patterns are drawn in the rest pose's metres, so they
stick to the body. `Textures` holds the picture patches and the smooth noise that materials refer
to. Colours are linear RGB in 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

Array = np.ndarray
Random = np.random.Generator

SOLID, STRIPES, CHECKS, DOTS, BLOTCHES, PICTURE, GRAPHIC, SKIN = range(8)
PATCH = 128  # [px] side of a picture patch
NOISE = 256  # [px] side of the noise tile
FABRICS = 600

(
    PATTERN, RED, GREEN, BLUE, RED2, GREEN2, BLUE2, SCALE, COSINE, PATCH_INDEX, DUTY, BUMP, SHINE,
    GLOSS, MOTTLE, BUMP_SCALE, CENTRE_Y, EYE_X, EYE_Y, EYE_Z, MOUTH_Y, IRIS, SHADE, SINE,
) = range(24)  # fmt: skip
COLUMNS = 24

SKIN_TONES = np.array(
    [[244, 210, 190], [232, 190, 160], [216, 168, 133], [190, 138, 100], [150, 102, 72],
     [110, 72, 50], [75, 48, 36]], np.float32
) / 255  # fmt: skip
HAIR_TONES = np.array(
    [[18, 15, 13], [35, 25, 20], [62, 42, 28], [95, 66, 42], [150, 115, 70], [196, 160, 105],
     [120, 60, 35], [150, 148, 145], [205, 203, 200]], np.float32
) / 255  # fmt: skip


@dataclass(frozen=True)
class Textures:
    """Shared read-only looks: pictures for the shading kernel, and fabrics ready to be worn."""

    patches: Array  # (T, 128, 128, 3) float32 linear RGB
    noise: Array  # (256, 256, 3) float32, smooth, tiling, zero mean and unit deviation
    plain: Array  # (600, 24) materials of one colour
    fancy: Array  # (600, 24) materials, most of them with a pattern


def to_linear(srgb: Array) -> Array:
    """Linear light of display values in 0..1; a plain power law is near enough here."""
    return np.power(np.clip(srgb, 0, 1), 2.2).astype(np.float32)


def make_textures(rng: Random, pictures: list[Array], count: int = 160) -> Textures:
    """Cut patches out of pictures (H, W, 3) uint8 RGB and paint the other half of them.

    Without pictures all patches are painted.
    """
    patches = []
    for number in range(count):
        if pictures and number % 2:
            patches.append(_cut(rng, pictures[rng.integers(len(pictures))]))
        else:
            patches.append(_paint(rng))
    return Textures(
        to_linear(np.stack(patches)),
        smooth_noise(rng, NOISE),
        np.stack([plain_fabric(rng) for _ in range(FABRICS)]),
        np.stack([random_fabric(rng, count) for _ in range(FABRICS)]),
    )


def smooth_noise(rng: Random, side: int, channels: int = 3) -> Array:
    """Tiling noise (side, side, channels): sum of octaves, zero mean, unit deviation."""
    frequency = np.fft.fftfreq(side) * side
    radius = np.hypot(frequency[:, None], frequency[None])
    radius[0, 0] = 1
    spectrum = radius**-1.6 * (radius > 2) * (radius < side / 6)
    planes = []
    for _ in range(channels):
        phase = np.fft.fft2(rng.standard_normal((side, side)))
        plane = np.fft.ifft2(phase * spectrum).real
        planes.append(plane / plane.std())
    return np.stack(planes, -1).astype(np.float32)


def material(**values: Any) -> Array:
    """A material row from columns by name, e.g. `material(pattern=SOLID, colour=(r, g, b))`."""
    row = np.zeros(COLUMNS, np.float32)
    row[[SCALE, BUMP_SCALE, DUTY, SHADE]] = 0.1, 0.5, 0.5, 1.0
    angle = values.pop("angle", 0.0)
    row[COSINE], row[SINE] = np.cos(angle), np.sin(angle)
    row[RED : BLUE + 1] = values.pop("colour", (0.5, 0.5, 0.5))
    row[RED2 : BLUE2 + 1] = values.pop("second", (0.5, 0.5, 0.5))
    for name, value in values.items():
        row[globals()[name.upper()]] = value
    return row


def random_colour(rng: Random) -> Array:
    """A colour that clothes have: mostly muted, often dark, white or blue, sometimes loud."""
    kind = rng.random()
    if kind < 0.3:
        value = rng.choice([0.03, 0.06, 0.12, 0.3, 0.6, 0.8, 0.9]) * rng.uniform(0.8, 1.1)
        return to_linear(np.clip(value + rng.normal(0, 0.02, 3), 0.02, 0.95))
    hue = rng.uniform(0, 180) if kind < 0.8 else rng.normal(110, 8)
    saturation = rng.uniform(30, 140) if kind < 0.85 else rng.uniform(120, 240)
    pixel = np.array([[[hue % 180, saturation, rng.uniform(30, 230)]]], np.uint8)
    return to_linear(cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0] / 255)


def random_fabric(rng: Random, patches: int) -> Array:
    """A material for a garment; `patches` is the number of picture patches to choose from."""
    pattern = rng.choice(
        [SOLID, STRIPES, CHECKS, DOTS, BLOTCHES, PICTURE], p=[0.42, 0.12, 0.1, 0.06, 0.08, 0.22]
    )
    return material(
        pattern=pattern,
        colour=random_colour(rng),
        second=random_colour(rng),
        scale=np.exp(rng.uniform(np.log(0.015), np.log(0.16)))
        if pattern != PICTURE
        else rng.uniform(0.2, 0.9),
        angle=rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)], p=[0.4, 0.3, 0.3]),
        patch_index=rng.integers(patches),
        duty=rng.uniform(0.15, 0.6),
        bump=rng.uniform(0.08, 0.4),
        bump_scale=np.exp(rng.uniform(np.log(0.25), np.log(1.2))),
        shine=rng.choice([0.0, 0.03, 0.15], p=[0.6, 0.3, 0.1]),
        gloss=rng.uniform(5, 30),
        mottle=rng.uniform(0.03, 0.15),
    )


def plain_fabric(rng: Random) -> Array:
    """A material of one colour: shoes, hats, skirts of a suit."""
    return material(
        colour=random_colour(rng),
        bump=rng.uniform(0.05, 0.3),
        bump_scale=rng.uniform(0.3, 1.0),
        shine=rng.uniform(0.0, 0.15),
        gloss=rng.uniform(5, 40),
        mottle=rng.uniform(0.03, 0.12),
    )


def skin_tone(rng: Random) -> Array:
    """A linear RGB skin colour from light to dark."""
    position = rng.uniform(0, len(SKIN_TONES) - 1)
    low = min(int(position), len(SKIN_TONES) - 2)
    share = position - low
    tone = SKIN_TONES[low] * (1 - share) + SKIN_TONES[low + 1] * share
    return to_linear(np.clip(tone * rng.uniform(0.92, 1.06) + rng.normal(0, 0.012, 3), 0.05, 0.97))


def hair_tone(rng: Random) -> Array:
    """A linear RGB hair colour; dark ones are the most common."""
    share = np.array([5, 5, 5, 3, 1.5, 1.2, 1, 1, 0.7])
    tone = HAIR_TONES[rng.choice(len(HAIR_TONES), p=share / share.sum())]
    return to_linear(np.clip(tone * rng.uniform(0.8, 1.2), 0.02, 0.95))


def _cut(rng: Random, picture: Array) -> Array:
    """A square piece of a picture, mirrored at random, 0..1."""
    height, width = picture.shape[:2]
    side = int(min(height, width) * rng.uniform(0.2, 0.8))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    piece = picture[top : top + side, left : left + side]
    return cv2.resize(piece, (PATCH, PATCH), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _paint(rng: Random) -> Array:
    """A painted patch, 0..1: coloured noise, sometimes cut into flat areas, or shapes."""
    noise = smooth_noise(rng, PATCH)
    colours = rng.uniform(0.05, 0.95, (3, 3)).astype(np.float32)
    share = np.exp(noise * rng.uniform(0.5, 3))
    picture = (share / share.sum(-1, keepdims=True)) @ colours
    if rng.random() < 0.5:
        for _ in range(rng.integers(2, 14)):
            colour = [float(value) for value in rng.uniform(0, 1, 3)]
            start, end = rng.integers(0, PATCH, 2), rng.integers(0, PATCH, 2)
            if rng.random() < 0.5:
                cv2.rectangle(picture, start.tolist(), end.tolist(), colour, -1)
            else:
                cv2.circle(picture, start.tolist(), int(rng.integers(4, 40)), colour, -1)
    grain = rng.normal(0, 0.02, picture.shape)
    return np.clip(picture + grain, 0, 1).astype(np.float32)
