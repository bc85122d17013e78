"""parts: loose things on the skeleton, skirts, long hair, hats and bags, as small meshes.

In   the wardrobe's landmarks (rest pose) and a random generator
Out  `LoosePart`: a skinned mesh at rest with one material
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mpmesh_core.training.synthetic.skinning import SkinnedMesh, strongest

if TYPE_CHECKING:
    from mpmesh_core.training.synthetic.appearance import Wardrobe

Array = np.ndarray
Random = np.random.Generator


@dataclass(frozen=True)
class LoosePart:
    """A mesh with one material, following the joints; it grows with the body's shape."""

    mesh: SkinnedMesh
    slot: int  # row of the outfit's materials
    anchors: Array  # (V,) int32 body vertex whose change of shape each vertex follows


def blob(centre: Array, radii: Array, power: float = 1.0, rings: int = 14) -> tuple[Array, Array]:
    """A closed ellipsoid-like mesh; power below 1 makes it boxy. Returns vertices and faces."""
    columns = 2 * rings
    polar, azimuth = np.meshgrid(
        np.linspace(0, np.pi, rings + 1), np.arange(columns) * 2 * np.pi / columns, indexing="ij"
    )

    def bend(value: Array) -> Array:
        return np.sign(value) * np.abs(value) ** power

    unit = np.stack(
        [bend(np.sin(polar)) * bend(np.sin(azimuth)), bend(np.cos(polar)),
         bend(np.sin(polar)) * bend(np.cos(azimuth))], -1,
    )  # fmt: skip
    vertices = centre + unit.reshape(-1, 3) * radii
    return vertices.astype(np.float32), grid_faces(rings + 1, columns)


def grid_faces(rows: int, columns: int) -> Array:
    """Faces (F, 3) int32 of a grid whose columns close to a ring."""
    row, column = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    a = (row * columns + column).ravel()
    b = (row * columns + (column + 1) % columns).ravel()
    c, d = a + columns, b + columns
    return np.concatenate([np.stack([a, c, b], -1), np.stack([b, c, d], -1)]).astype(np.int32)


def skirt(rng: Random, wardrobe: Wardrobe, slot: int, end_y: float) -> LoosePart:
    """A skirt from the waist down to `end_y`, hung on pelvis and thighs."""
    rows, columns = 14, 40
    top = wardrobe.hip[1] + rng.uniform(0.08, 0.14)
    heights = np.linspace(top, end_y, rows)
    flare = rng.uniform(0.0, 0.18)
    angle = np.arange(columns) * 2 * np.pi / columns
    pleats = rng.uniform(0, 0.04) * np.sin(angle * rng.integers(6, 14) + rng.uniform(0, 6))
    torso = wardrobe.rest[wardrobe.arm < 0.2]
    rings = []
    for number, y in enumerate(heights):
        near = torso[np.abs(torso[:, 1] - max(y, wardrobe.hip[1] - 0.15)) < 0.03]
        low, high = near.min(0), near.max(0)
        down = number / (rows - 1)
        radii = (high - low)[[0, 2]] / 2 + 0.012 + flare * down
        wave = 1 + pleats * down
        ring = np.stack([np.sin(angle) * radii[0] * wave, np.full(columns, y),
                         np.cos(angle) * radii[1] * wave + (low[2] + high[2]) / 2], -1)  # fmt: skip
        rings.append(ring)
    vertices = np.concatenate(rings).astype(np.float32)
    weights = np.zeros((len(vertices), 24), np.float32)
    left = _step((vertices[:, 0] + 0.1) / 0.2)
    hung = 0.85 * _step((wardrobe.hip[1] + 0.06 - vertices[:, 1]) / 0.3)
    shin = 0.5 * _step((wardrobe.knee[1] + 0.05 - vertices[:, 1]) / 0.3) * hung
    weights[:, 0] = 1 - hung
    weights[:, 1], weights[:, 2] = (hung - shin) * left, (hung - shin) * (1 - left)
    weights[:, 4], weights[:, 5] = shin * left, shin * (1 - left)
    return _part(wardrobe, vertices, grid_faces(rows, columns), weights, slot)


def long_hair(rng: Random, wardrobe: Wardrobe, slot: int) -> LoosePart:
    """Hair that falls behind the head, or a bun or tail."""
    head = 0.5 * (wardrobe.head + wardrobe.top)
    if rng.random() < 0.3:  # a bun
        centre = head + np.array([0, rng.uniform(-0.05, 0.08), -0.12])
        vertices, faces = blob(centre, np.full(3, rng.uniform(0.03, 0.055)), 1.0, 8)
    else:
        length, width = rng.uniform(0.1, 0.24), rng.choice([rng.uniform(0.03, 0.05), 0.1])
        centre = head + np.array([0, 0.05 - length, -0.055])
        vertices, faces = blob(centre, np.array([width, length, 0.06]), 0.8, 12)
        vertices[:, 0] *= 1 + 0.1 * np.sin(vertices[:, 1] * 60)
    weights = np.zeros((len(vertices), 24), np.float32)
    free = _step((wardrobe.neck[1] + 0.05 - vertices[:, 1]) / 0.2)
    weights[:, 15], weights[:, 12], weights[:, 9] = 1 - 0.8 * free, 0.4 * free, 0.4 * free
    return _part(wardrobe, vertices, faces, weights, slot)


def hat(rng: Random, wardrobe: Wardrobe, slot: int) -> list[LoosePart]:
    """A cap, a beanie or a hat with a brim."""
    head = wardrobe.top - [0, 0.09, 0]
    kind = rng.integers(3)
    crown_radii = np.array([0.088, rng.uniform(0.09, 0.14), 0.108])
    centre = np.array([0, head[1] + 0.02, 0.5 * (wardrobe.top + wardrobe.head)[2]])
    shapes = [blob(centre, crown_radii, 0.85, 12)]
    if kind == 1:
        ahead = centre + np.array([0, -0.01, 0.09])
        shapes.append(blob(ahead, np.array([0.075, 0.008, 0.09]), 0.9, 8))
    elif kind == 2:
        brim = rng.uniform(0.13, 0.2)
        low = centre - np.array([0, 0.01, 0])
        shapes.append(blob(low, np.array([brim, 0.008, brim]), 1.0, 10))
    found = []
    for vertices, faces in shapes:
        vertices[:, 1] = np.maximum(vertices[:, 1], centre[1] - 0.02)  # no lower than the brow
        weights = np.zeros((len(vertices), 24), np.float32)
        weights[:, 15] = 1
        found.append(_part(wardrobe, vertices, faces, weights, slot))
    return found


def backpack(rng: Random, wardrobe: Wardrobe, slot: int) -> LoosePart:
    """A bag on the back."""
    size = rng.uniform([0.11, 0.15, 0.06], [0.17, 0.25, 0.13])
    torso = wardrobe.rest[(wardrobe.arm < 0.2) & (np.abs(wardrobe.rest[:, 0]) < 0.1)]
    y = wardrobe.neck[1] - 0.1 - size[1]
    back = torso[np.abs(torso[:, 1] - y) < 0.15][:, 2].min()
    vertices, faces = blob(np.array([0, y, back - size[2] + 0.015]), size, 0.5, 10)
    weights = np.zeros((len(vertices), 24), np.float32)
    weights[:, 9], weights[:, 6] = 0.6, 0.4
    return _part(wardrobe, vertices, faces, weights, slot)


def _step(value: Array) -> Array:
    value = np.clip(value, 0, 1)
    return value * value * (3 - 2 * value)


def _part(
    wardrobe: Wardrobe, vertices: Array, faces: Array, weights: Array, slot: int
) -> LoosePart:
    bones, top = strongest(weights)
    mesh = SkinnedMesh(vertices.astype(np.float32), faces, bones, top)
    return LoosePart(mesh, slot, wardrobe.nearest(vertices))
