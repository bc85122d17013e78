"""lighting: one sun and the light all around it, random or from a panorama.

World axes: x left, y up, z forward. `Light` is what the shading kernel reads, in the camera frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mpmesh_core.rasterizer import fill_buffers

Array = np.ndarray
Random = np.random.Generator

TINTS = np.array([[1.0, 0.95, 0.85], [0.9, 0.96, 1.0], [1.0, 1.0, 1.0]])
SHADOW_SIZE = 288  # [texels]
FAINT = 0.08  # colour of a sun whose shadows nobody would see
FAR = 40.0  # [m] shift that makes 1/depth nearly linear in the shadow map

# Constants of the real spherical harmonics, squared (projection and evaluation) and with the
# cosine lobe's weights 1, 2/3, 1/4 folded in: irradiance / pi.
_FOLD = (
    np.array([0.282095**2] + [0.488603**2 * 2 / 3] * 3
    + [1.092548**2 / 4] * 2 + [0.315392**2 / 4, 1.092548**2 / 4, 0.546274**2 / 4])
)  # fmt: skip


@dataclass(frozen=True)
class Surroundings:
    """Radiance from all sides."""

    directions: Array  # (N, 3) unit, world
    radiance: Array  # (N, 3) linear RGB
    weights: Array  # (N,) solid angles, sum 4 pi


@dataclass(frozen=True)
class Sun:
    """The one light that throws shadows; it may be weak."""

    direction: Array  # (3,) unit, world, towards the sun
    colour: Array  # (3,) linear RGB, irradiance / pi of a surface facing it


@dataclass(frozen=True)
class Light:
    """Light in the camera frame."""

    sun: Array  # (3,) float32 towards the sun
    sun_colour: Array  # (3,) float32
    harmonics: Array  # (9, 3) float32
    shadow: Array  # (S, S) float32 [m] along the light, +inf where nothing
    projection: Array  # (3, 4) float32, camera frame -> texel u, texel v, metres along the light


def sphere_grid(rows: int = 16) -> tuple[Array, Array]:
    """Directions (N, 3) and solid angles (N,) of a latitude-longitude grid, top row first."""
    polar = (np.arange(rows) + 0.5) * np.pi / rows
    azimuth = (np.arange(2 * rows) + 0.5) * np.pi / rows
    polar, azimuth = (grid.ravel() for grid in np.meshgrid(polar, azimuth, indexing="ij"))
    directions = np.stack(
        [np.sin(polar) * np.sin(azimuth), np.cos(polar), np.sin(polar) * np.cos(azimuth)], -1
    )
    weights = np.sin(polar)
    return directions, weights * (4 * np.pi / weights.sum())


def random_surroundings(rng: Random) -> Surroundings:
    """A sky, a ground and some soft lamps or windows."""
    directions, weights = sphere_grid()
    up = directions[:, 1:2]
    tint = rng.uniform(0.8, 1.0, 3) * rng.choice(TINTS)
    ground = rng.uniform(0.15, 0.6) * rng.uniform(0.7, 1.0, 3)
    radiance = np.where(up > 0, tint * (0.6 + 0.6 * up), ground)
    for _ in range(rng.integers(0, 4)):
        axis = rng.standard_normal(3) + np.array([0, 0.5, 0])
        axis /= np.linalg.norm(axis)
        lobe = np.exp(rng.uniform(4, 20) * (directions @ axis - 1))[:, None]
        radiance = radiance + lobe * rng.uniform(0.5, 6) * rng.uniform(0.7, 1.0, 3)
    return Surroundings(directions, radiance, weights)


def panorama_surroundings(panorama: Array, turn: float) -> Surroundings:
    """Surroundings of an HDR panorama (H, 2H, 3), turned about the vertical by `turn` [rad]."""
    rows = 16
    small = cv2.resize(panorama, (2 * rows, rows), interpolation=cv2.INTER_AREA).reshape(-1, 3)
    directions, weights = sphere_grid(rows)
    cosine, sine = np.cos(turn), np.sin(turn)
    about_y = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    return Surroundings(directions @ about_y.T, np.minimum(small, 40.0), weights)


def random_sun(rng: Random) -> Sun:
    """A sun or lamp, high or low, warm or cool; in a third of the cases too weak to notice."""
    elevation, azimuth = rng.uniform(0.3, 1.4), rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(elevation) * np.sin(azimuth), np.sin(elevation),
                          np.cos(elevation) * np.cos(azimuth)])  # fmt: skip
    strength = rng.choice([rng.uniform(0, 0.15), rng.uniform(0.2, 1.2)], p=[0.35, 0.65])
    warmth = rng.uniform(-0.12, 0.18)
    return Sun(direction, strength * np.array([1 + warmth, 1.0, 1 - warmth]))


def harmonics(surroundings: Surroundings, R_cam_world: Array) -> Array:
    """Irradiance / pi as harmonics (9, 3) in the camera frame, in the shading kernel's order."""
    x, y, z = R_cam_world @ surroundings.directions.T
    basis = np.stack(
        [np.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y]
    )  # (9, N)
    weighted = surroundings.radiance * surroundings.weights[:, None]
    return (_FOLD[:, None] * (basis @ weighted)).astype(np.float32)


def make_light(
    surroundings: Surroundings, sun: Sun, R_cam_world: Array, vertices: Array, faces: Array,
    brightness: float,
) -> Light:  # fmt: skip
    """Light for a scene: harmonics and shadow map, scaled to a wanted brightness.

    Args:
        surroundings, sun: in the world.
        R_cam_world: (3, 3).
        vertices: (V, 3) [m] of everything that throws shadows, camera frame.
        faces: (F, 3).
        brightness: light that a surface facing the camera's back gets, on average over the
            channels; 1 shows albedo as it is.
    """
    sky = harmonics(surroundings, R_cam_world)
    towards = R_cam_world @ sun.direction
    level = (sky[0] - sky[2] + 2 * sky[6]).mean() + max(-towards[2], 0.2) * sun.colour.mean()
    scale = brightness / max(float(level), 1e-3)
    strong = bool(sun.colour.mean() > FAINT)
    shadow, projection = _shadow_map(towards, vertices, faces, strong)
    return Light(
        towards.astype(np.float32),
        (sun.colour * scale).astype(np.float32),
        (sky * scale).astype(np.float32),
        shadow,
        projection,
    )


def _shadow_map(towards: Array, vertices: Array, faces: Array, strong: bool) -> tuple[Array, Array]:
    """What the sun sees: distances along its rays (S, S) and the projection onto them (3, 4).

    A faint sun throws no shadow.
    """
    helper = np.array([1.0, 0, 0]) if abs(towards[0]) < 0.8 else np.array([0, 0, 1.0])
    side = np.cross(towards, helper)
    side /= np.linalg.norm(side)
    axes = np.stack([side, np.cross(towards, side), -towards])
    seen = vertices @ axes.T
    if not len(vertices) or not strong:
        return np.full((2, 2), np.inf, np.float32), np.zeros((3, 4), np.float32)
    low, high = seen.min(0), seen.max(0)
    scale = (SHADOW_SIZE - 8) / max((high - low)[:2].max(), 0.1)
    shift = np.append(4 - low[:2] * scale, FAR - low[2])
    projection = np.column_stack([axes * np.array([scale, scale, 1])[:, None], shift])
    texels = vertices @ projection[:, :3].T + projection[:, 3]
    size = (SHADOW_SIZE, SHADOW_SIZE)
    inverse, _, _ = fill_buffers(texels[:, :2], texels[:, 2], faces, size)
    with np.errstate(divide="ignore"):
        return 1 / inverse, projection.astype(np.float32)
