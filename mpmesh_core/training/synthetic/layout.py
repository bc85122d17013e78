"""layout: where the camera is and where people stand.

World: x left, y up, z forward from the camera's foot point; the ground is y = 0 and the camera sits
at (0, height, 0). People stand on the ground at sane distances; in part of the scenes they stand so
close to each other that they hide one another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpmesh_core.camera import Camera
from mpmesh_core.training.synthetic.poses import turn

Array = np.ndarray
Random = np.random.Generator

SIZES = ((512, 512), (512, 384), (384, 512))  # (width, height) [px]
NEARBY = (0.45, 1.6)  # [m] from one person to the next where they gather
MIN_GAP = 0.14  # [m] between joints of two people


@dataclass(frozen=True)
class View:
    """A camera over the ground."""

    camera: Camera
    R_cam_world: Array  # (3, 3)
    height: float  # [m] above the ground

    def to_camera(self, world: Array) -> Array:
        """Points (..., 3) of the world in the camera frame."""
        return (world - [0, self.height, 0]) @ self.R_cam_world.T


def random_view(rng: Random, distance: float) -> View:
    """A robot's, a phone's or a high camera that has people at `distance` [m] in view."""
    width, height_px = SIZES[rng.choice(3, p=[0.4, 0.35, 0.25])]
    camera = Camera.from_fov(width, height_px, rng.uniform(40, 90))
    kind = rng.choice(3, p=[0.5, 0.35, 0.15])
    height = (rng.uniform(0.4, 1.8), rng.uniform(1.2, 1.9), rng.uniform(2.2, 4.0))[kind]
    roll = rng.normal(0, (1.5, 4, 2)[kind])
    return look_at_height(
        camera, height, distance, rng.uniform(0.4, 1.3), rng.uniform(0.3, 0.7), roll
    )


def look_at_height(
    camera: Camera, height: float, distance: float, target: float, row: float, roll: float = 0.0
) -> View:
    """A view that shows the point `target` [m] above the ground at a share `row` of its rows.

    Args:
        camera: intrinsics.
        height: of the camera [m].
        distance: of the target along the ground [m].
        target: height of the target [m].
        row: 0 top row, 1 bottom row.
        roll: about the optical axis [degrees].
    """
    level = np.diag([-1.0, -1.0, 1.0])  # world to a camera that looks along the ground
    below = np.degrees(np.arctan2(height - target, distance))
    in_image = np.degrees(np.arctan2(row * (camera.height - 1) - camera.K[1, 2], camera.K[1, 1]))
    pitch = np.clip(below - in_image, -35, 75)  # looking down
    R_cam_world = turn("z", roll) @ turn("x", pitch) @ level
    return View(camera, R_cam_world, float(height))


def place_people(
    rng: Random, count: int, camera: Camera, gaps: tuple[float, float] | None = None
) -> tuple[Array, float]:
    """Ground positions (count, 2) as (x left, z forward) [m] and the anchor's distance [m].

    The first person is the anchor, of a random size in the picture; in part of the scenes the
    others gather round somebody who is there, and in all of them where `gaps` says how near [m].
    """
    half = 0.5 * (camera.width - 1) / camera.K[0, 0]
    size_px = np.exp(rng.uniform(np.log(90), np.log(640)))
    distance = float(np.clip(1.6 * camera.K[1, 1] / size_px, 1.1, 10.0))
    aside = rng.normal(0, 0.35)
    spots = [np.array([-distance * half * np.clip(aside, -0.9, 0.9), distance])]
    together = gaps is not None or rng.random() < 0.55
    while len(spots) < count:
        near = spots[rng.integers(len(spots))]
        if together:
            direction = rng.uniform(0, 2 * np.pi)
            gap = rng.uniform(*(gaps or NEARBY))
            spot = near + gap * np.array([np.sin(direction), np.cos(direction)])
        else:
            z = float(np.clip(distance * np.exp(rng.normal(0.15, 0.45)), 1.2, 10.0))
            spot = np.array([-z * half * rng.uniform(-0.85, 0.85), z])
        spot[1] = max(spot[1], 0.9)
        spots.append(spot)
    return np.stack(spots), distance


def separate(points: list[Array], spots: Array) -> Array:
    """Move people apart who would stand inside one another.

    Args:
        points: for each person (29, 3) joints and tips relative to their spot, world axes [m].
        spots: (N, 2) ground positions, moved in order: later ones give way.

    Returns:
        (N, 2) ground positions.
    """
    spots = spots.copy()
    for later in range(1, len(spots)):
        for _ in range(12):
            push = np.zeros(2)
            for earlier in range(later):
                apart = spots[later] - spots[earlier]
                shift = np.array([apart[0], 0, apart[1]])
                gaps = points[later][:, None] + shift - points[earlier][None]
                if np.linalg.norm(gaps, axis=-1).min() < MIN_GAP:
                    push += apart / max(float(np.linalg.norm(apart)), 1e-3)
            if not push.any():
                break
            spots[later] += 0.12 * push / max(float(np.linalg.norm(push)), 1e-3)
    return spots
