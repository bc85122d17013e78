"""canvas: the few things that overlay and top view draw with.

Colours of people, text, and laying a picture with transparency over another. All uint8 RGB.
"""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

Array = np.ndarray
Colour = tuple[int, int, int]

_PALETTE: tuple[Colour, ...] = (
    (86, 156, 240),
    (250, 164, 76),
    (104, 198, 124),
    (236, 100, 116),
    (170, 134, 232),
    (64, 196, 200),
    (244, 206, 84),
    (236, 132, 190),
    (170, 204, 90),
    (190, 150, 120),
)  # told apart by hue and lightness, next to each other too
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT = 22.0  # of capitals at scale 1 [px]


def person_colour(track_id: int) -> Colour:
    """RGB of an identity; the first ten are picked by hand, the others by the golden angle."""
    if 0 <= track_id < len(_PALETTE):
        return _PALETTE[track_id]
    red, green, blue = colorsys.hsv_to_rgb((0.618034 * track_id) % 1.0, 0.58, 0.92)
    return round(255 * red), round(255 * green), round(255 * blue)


def blend(image: Array, layer: Array) -> Array:
    """Lay `layer` (H, W, 4), RGB premultiplied by alpha, over `image` (H, W, 3)."""
    keep = cv2.cvtColor(255 - layer[..., 3], cv2.COLOR_GRAY2RGB)
    return cv2.add(cv2.multiply(image, keep, scale=1 / 255), layer[..., :3])


def blend_part(image: Array, layer: Array, corner: tuple[int, int]) -> None:
    """Lay `layer` over the part of `image` that begins at `corner` (u, v), in place."""
    u, v = corner
    height, width = layer.shape[:2]
    if height and width:
        part = image[v : v + height, u : u + width]
        part[:] = blend(part, layer)


def text_size(text: str, height: float) -> tuple[int, int]:
    """Width and height [px] of a text whose capitals are `height` px high."""
    (width, _), _ = cv2.getTextSize(text, _FONT, height / _FONT_HEIGHT, _thickness(height))
    return width, round(height)


def put_text(
    image: Array, text: str, left: float, bottom: float, height: float, colour: Colour
) -> None:
    """Write into `image`; (left, bottom) is where the text's base line begins [px]."""
    cv2.putText(
        image,
        text,
        (round(left), round(bottom)),
        _FONT,
        height / _FONT_HEIGHT,
        colour,
        _thickness(height),
        cv2.LINE_AA,
    )


def _thickness(height: float) -> int:
    return max(1, round(height / 9))


def pill_size(text: str, height: float) -> tuple[int, int]:
    """Width and height [px] of the label that `draw_pill` draws."""
    text_width, text_height = text_size(text, height)
    pad, chip = _pill_parts(height)
    return text_width + 2 * pad + 3 * chip, text_height + 2 * pad


def draw_pill(
    image: Array, text: str, corner: tuple[int, int], height: float, colour: Colour
) -> None:
    """Draw a dark rounded label with a colour chip; `corner` is its left top [px], inside."""
    width, tall = pill_size(text, height)
    pad, chip = _pill_parts(height)
    left, top = corner
    layer = np.zeros((tall, width, 4), np.uint8)
    radius = tall // 2
    ink = (15, 17, 21, 210)  # premultiplied
    ends = ((radius, radius), (max(radius, width - radius - 1), radius))
    cv2.line(layer, *ends, ink, tall - 2, cv2.LINE_AA)
    room = image[top : top + tall, left : left + width].shape
    blend_part(image, layer[: room[0], : room[1]], corner)
    middle = (left + pad + chip, top + radius)
    cv2.circle(image, middle, chip, colour, -1, cv2.LINE_AA)
    base = top + radius + 0.5 * height
    put_text(image, text, left + pad + 3 * chip, base, height, (245, 246, 248))


def _pill_parts(height: float) -> tuple[int, int]:
    """Padding and radius of the colour chip [px] of a label with capitals `height` px high."""
    return max(2, round(0.6 * height)), max(2, round(0.5 * height))
