"""backgrounds: what stands behind the people.

Three kinds: photos, perspective views of HDR panoramas, and rooms or streets that are painted in
true perspective from the view's own camera (the only kind that needs no data).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numba import njit

from mpmesh_core.errors import InputError
from mpmesh_core.training.synthetic.layout import View
from mpmesh_core.training.synthetic.patterns import pattern_colour
from mpmesh_core.training.synthetic.shading import GAMMA, GAMMA_STEPS
from mpmesh_core.training.synthetic.textures import (
    BLUE,
    MOTTLE,
    PATTERN,
    RED,
    SCALE,
    SOLID,
    Textures,
)  # fmt: skip

Array = np.ndarray
Random = np.random.Generator


@dataclass(frozen=True)
class Room:
    """A box of painted surfaces, or with far walls and an open top, a street."""

    low: Array  # (3,) [m] world corner; y = 0 is the floor
    high: Array  # (3,)
    surfaces: Array  # (6, 24) materials: -x, +x, floor, ceiling, back, front
    brightness: Array  # (6,) light on each surface
    open_sky: bool
    sky: Array  # (2, 3) linear colours at the horizon and above
    lamp: Array  # (3,) [m] where the floor is brightest
    backdrop: Array  # (h, w, 3) uint8 photo on the far wall; (0, 0, 3) for none


def load_picture(path: Path, longest: int = 900) -> Array:
    """One photo as RGB, at most `longest` pixels long."""
    stored = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if stored is None:
        raise InputError(f"{path} is no readable picture: replace or remove it")
    picture = cv2.cvtColor(stored, cv2.COLOR_BGR2RGB)
    scale = min(1.0, longest / max(picture.shape[:2]))
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def photo_background(rng: Random, pictures: list[Array], width: int, height: int) -> Array:
    """A piece of a photo, mirrored, brightened or tinted at random (H, W, 3) uint8."""
    picture = pictures[rng.integers(len(pictures))]
    aspect = width / height
    tall, wide = picture.shape[:2]
    crop_wide = min(wide, tall * aspect) * rng.uniform(0.4, 1.0)
    crop_tall = crop_wide / aspect
    # Whole photos have their ground below: keep the piece low.
    top = int((tall - crop_tall) * rng.beta(2, 1))
    left = int((wide - crop_wide) * rng.random())
    piece = picture[top : top + int(crop_tall), left : left + int(crop_wide)]
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    picture = cv2.resize(piece, (width, height), interpolation=cv2.INTER_LINEAR)
    gain = rng.uniform(0.75, 1.2) * rng.uniform(0.94, 1.06, 3)
    table = np.clip(np.arange(256)[:, None] * gain, 0, 255).astype(np.uint8)
    return cv2.LUT(picture, table[:, None, :])


def panorama_background(panorama: Array, view: View, turn: float) -> Array:
    """The piece of an HDR panorama (H, 2H, 3) that a view sees, tone mapped (H, W, 3) uint8."""
    rays = _world_rays(view, 2)  # panoramas are coarser than pictures
    azimuth = np.arctan2(rays[..., 0], rays[..., 2]) - turn
    height, width = panorama.shape[:2]
    u = np.mod(azimuth / (2 * np.pi), 1) * width - 0.5
    v = (0.5 - np.arcsin(np.clip(rays[..., 1], -1, 1)) / np.pi) * height - 0.5
    seen = cv2.remap(panorama, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR,
                     borderMode=cv2.BORDER_WRAP)  # fmt: skip
    exposed = seen * (0.22 / max(float(np.median(seen)), 1e-4))
    level = np.clip(exposed / (1 + 0.25 * exposed), 0, 1)
    picture = GAMMA[(level * GAMMA_STEPS).astype(np.int32)]
    return cv2.resize(picture, (view.camera.width, view.camera.height))


def random_room(
    rng: Random, textures: Textures, spots: Array, pictures: list[Array] | None = None
) -> Room:
    """A room round the people at spots (N, 2) (x left, z forward), or a street.

    With pictures, half of the far walls show one, as if it were the view.
    """
    street = rng.random() < 0.4
    space = rng.uniform(2, 10) if street else rng.uniform(0.6, 3)
    side = np.maximum(np.abs(spots[:, 0]).max() + space, 2.0) * rng.uniform(1, 1.3, 2)
    reach = spots[:, 1].max()
    low = np.array([-side[0], 0, -3.0])
    high = np.array([side[1], rng.uniform(4.2, 6.0), reach + rng.uniform(0.7, 5)])
    if street:
        high[1:] = rng.uniform(5, 12), reach + rng.uniform(8, 40)
    surfaces = np.stack([_surface(rng, textures) for _ in range(6)])
    surfaces[1] = surfaces[0] if rng.random() < 0.7 else surfaces[1]
    surfaces[5] = surfaces[0] if rng.random() < 0.6 else surfaces[5]
    surfaces[3, RED : BLUE + 1] = rng.uniform(0.5, 0.9)
    surfaces[3, PATTERN] = SOLID
    sky = np.array([[0.7, 0.75, 0.8], [0.25, 0.42, 0.75]]) * rng.uniform(0.5, 1.2)
    if rng.random() < 0.4:
        sky[1] = sky[0]
    brightness = rng.uniform(0.45, 1.1, 6)
    backdrop = np.zeros((0, 0, 3), np.uint8)
    if pictures and rng.random() < 0.5:
        picture = pictures[rng.integers(len(pictures))]
        backdrop = picture[: int(len(picture) * rng.uniform(0.5, 0.9))]
    lamp = rng.uniform([-2, 0, 1], [2, 0, 6])
    return Room(low, high, surfaces, brightness, street, sky, lamp, backdrop)


def _surface(rng: Random, textures: Textures) -> Array:
    """A wall or floor: mostly plain, else a fabric's pattern in a wall's size and paler."""
    stock = textures.plain if rng.random() < 0.4 else textures.fancy
    row = stock[rng.integers(len(stock))].copy()
    row[SCALE] = np.exp(rng.uniform(np.log(0.15), np.log(2.5)))
    row[MOTTLE] = rng.uniform(0.05, 0.3)
    mean = max(float(row[RED : BLUE + 1].mean()), rng.uniform(0.03, 0.4))  # rarely black
    row[RED : BLUE + 1] = 0.4 * row[RED : BLUE + 1] + 0.6 * mean
    row[RED + 3 : BLUE + 4] = row[RED : BLUE + 1] * rng.uniform(0.6, 1.4) * rng.uniform(0.9, 1.1, 3)
    return row


def room_background(room: Room, view: View, textures: Textures, exposure: float = 1.0) -> Array:
    """The room as the view sees it (H, W, 3) uint8; traced at half size, as lenses blur anyway."""
    camera = view.camera
    picture = np.zeros((camera.height // 2, camera.width // 2, 3), np.uint8)
    lens = np.array([camera.K[0, 0], camera.K[1, 1], camera.K[0, 2] - 0.5, camera.K[1, 2] - 0.5])
    _trace(
        (room.low, room.high, room.surfaces, room.brightness * exposure, room.sky, room.lamp),
        room.open_sky,
        view.R_cam_world.T.copy(),
        np.array([0, view.height, 0]),
        lens / 2,
        textures.patches,
        textures.noise,
        room.backdrop,
        GAMMA,
        picture,
    )
    soft = cv2.GaussianBlur(picture, (0, 0), 0.6)
    return cv2.resize(soft, (camera.width, camera.height), interpolation=cv2.INTER_CUBIC)


def _world_rays(view: View, step: int) -> Array:
    """Unit directions (H / step, W / step, 3) in the world of every `step`-th pixel."""
    camera = view.camera
    u, v = np.meshgrid(np.arange(0, camera.width, step), np.arange(0, camera.height, step))
    rays = np.stack([(u - camera.K[0, 2]) / camera.K[0, 0], (v - camera.K[1, 2]) / camera.K[1, 1],
                     np.ones_like(u, float)], -1)  # fmt: skip
    rays = rays @ view.R_cam_world  # rows times R equals the transpose times columns
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


@njit(cache=True, fastmath=True, error_model="numpy")
def _trace(
    room: tuple[Array, Array, Array, Array, Array, Array], open_sky: bool, R: Array, origin: Array,
    lens: Array, patches: Array, noise: Array, backdrop: Array, gamma: Array, picture: Array,
) -> None:  # fmt: skip
    low, high, surfaces, brightness, sky, lamp = room
    colour = np.zeros(3, np.float32)
    for v in range(picture.shape[0]):
        for u in range(picture.shape[1]):
            a, b = (u - lens[2]) / lens[0], (v - lens[3]) / lens[1]
            ray = (
                R[0, 0] * a + R[0, 1] * b + R[0, 2],
                R[1, 0] * a + R[1, 1] * b + R[1, 2],
                R[2, 0] * a + R[2, 1] * b + R[2, 2],
            )
            best, side = 1e9, -1
            for axis in range(3):
                if abs(ray[axis]) > 1e-6:
                    wall = high[axis] if ray[axis] > 0 else low[axis]
                    t = (wall - origin[axis]) / ray[axis]
                    if 0 < t < best:
                        best, side = t, 2 * axis + (1 if ray[axis] > 0 else 0)
            if side == 5 and backdrop.shape[0] > 0:
                _look_up(backdrop, origin[0] + best * ray[0], origin[1] + best * ray[1], low, high,
                         picture[v, u])  # fmt: skip
                continue
            if open_sky and side == 3:
                up = ray[1] / np.sqrt(ray[0] ** 2 + ray[1] ** 2 + ray[2] ** 2)
                for d in range(3):
                    colour[d] = sky[0, d] + (sky[1, d] - sky[0, d]) * min(up * 1.5, 1.0)
            else:
                r, g, b = _wall(surfaces, side, best, ray, origin, patches, noise)
                x, z = origin[0] + best * ray[0] - lamp[0], origin[2] + best * ray[2] - lamp[2]
                level = brightness[side] * (0.55 + 0.6 / (1 + 0.08 * (x * x + z * z)))
                colour[0], colour[1], colour[2] = r * level, g * level, b * level
            for d in range(3):
                shown = min(max(colour[d], 0.0), 1.0)
                picture[v, u, d] = gamma[int(shown * GAMMA_STEPS)]


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _look_up(backdrop: Array, x: float, y: float, low: Array, high: Array, pixel: Array) -> None:
    """Colour of the photo that hangs over the whole far wall."""
    rows, columns = backdrop.shape[0], backdrop.shape[1]
    v = int((high[1] - y) / (high[1] - low[1]) * rows)
    u = int((high[0] - x) / (high[0] - low[0]) * columns)
    v, u = min(max(v, 0), rows - 1), min(max(u, 0), columns - 1)
    pixel[0], pixel[1], pixel[2] = backdrop[v, u, 0], backdrop[v, u, 1], backdrop[v, u, 2]


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _wall(
    surfaces: Array, side: int, t: float, ray: tuple[float, float, float], origin: Array,
    patches: Array, noise: Array,
) -> tuple[float, float, float]:  # fmt: skip
    """Colour of a point on a wall: patterns lie flat, in metres, and fade far away."""
    x, y, z = origin[0] + t * ray[0], origin[1] + t * ray[1], origin[2] + t * ray[2]
    axis = side // 2
    s, q = (z, y) if axis == 0 else ((x, z) if axis == 1 else (x, y))
    r, g, b = pattern_colour(surfaces, side, s, q, patches, noise)
    grain = noise[int(np.floor(q * 40)) & 255, int(np.floor(s * 40)) & 255, 1]
    coarse = noise[int(np.floor(q * 9)) & 255, int(np.floor(s * 9)) & 255, 2]
    level = 1 + surfaces[side, MOTTLE] * (0.5 * grain + coarse) / (1 + 0.02 * t * t)
    return r * level, g * level, b * level
