"""demo_clip: a short film with known truth that needs no data: the input of `mpmesh demo`.

Three people in a painted room: one walks across, one comes closer and turns away, one sits or
waves. The camera stands still at a robot's height. The same seed gives the same film.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mpmesh_core.camera import Camera
from mpmesh_core.errors import UsageError
from mpmesh_core.training.scene import Scene
from mpmesh_core.training.synthetic.appearance import Outfit
from mpmesh_core.training.synthetic.backgrounds import Room, random_room, room_background
from mpmesh_core.training.synthetic.config import SyntheticConfig
from mpmesh_core.training.synthetic.generate import scene_people
from mpmesh_core.training.synthetic.layout import View, look_at_height
from mpmesh_core.training.synthetic.library import Library
from mpmesh_core.training.synthetic.lighting import Sun, Surroundings, random_surroundings
from mpmesh_core.training.synthetic.people import Piece, Stance, make_stance, place
from mpmesh_core.training.synthetic.poses import turn
from mpmesh_core.training.synthetic.render import render
from mpmesh_core.training.synthetic.textures import (
    BLUE,
    BUMP,
    MOTTLE,
    PATTERN,
    RED,
    SOLID,
    Textures,
)
from mpmesh_core.training.synthetic.things import box_piece, seat
from mpmesh_core.training.synthetic.walk import Gait, sitting, walking, waving

Array = np.ndarray
Random = np.random.Generator

FPS = 15.0  # frames a second
FLOOR = 2  # row of a room's surfaces
WALKING_SPEED = 1.1  # [m/s]


@dataclass(frozen=True)
class Actor:
    """A person of the film: looks, and a path over the ground."""

    outfit: Outfit
    betas: Array
    gait: Gait
    path: Array  # (P, 2) corners (x left, z forward) [m]; a single one stands or sits
    seated: bool = False

    def at(self, time: float) -> tuple[Array, Array]:
        """Rotations (24, 3, 3) in the world and spot (2,) on the ground at a time [s]."""
        if len(self.path) == 1:
            yaw = np.degrees(np.arctan2(-self.path[0, 0], -self.path[0, 1])) + 25
            rotations = sitting(time) if self.seated else waving(time)
            return _turned(rotations, yaw), self.path[0]
        spot, yaw, distance = _along(self.path, WALKING_SPEED * time)
        return _turned(walking(self.gait, distance), yaw), spot


@dataclass(frozen=True)
class Stage:
    """Everything in the film that stays as it is."""

    library: Library
    actors: list[Actor]
    view: View
    background: Array  # (H, W, 3) uint8
    furniture: list[Piece]
    surroundings: Surroundings
    sun: Sun


def demo_clip(
    frames: int = 120, seed: int = 0, size: tuple[int, int] = (640, 480)
) -> Iterator[Scene]:
    """Film frames as scenes, people always in the same order and all listed in every frame.

    Args:
        frames: how many, `FPS` a second.
        seed: of looks, room and paths.
        size: (width, height) [px].

    Yields:
        Scenes whose people carry `source` "actor0", "actor1", ... and their truth. Somebody who
        is hidden or out of the picture has `visible_box` None and visibility 0.
    """
    if frames < 1:
        raise UsageError(f"a clip has at least one frame, got {frames}")
    stage = _stage(np.random.default_rng(seed), seed, size)
    for number in range(frames):
        yield _frame(stage, number / FPS, np.random.default_rng([seed, number]))


def _stage(rng: Random, seed: int, size: tuple[int, int]) -> Stage:
    library = Library.load(SyntheticConfig(texture_seed=seed), outfits=12)
    view = look_at_height(Camera.from_fov(*size, 65.0), 1.25, 4.0, 0.95, 0.52)
    actors = _cast(rng, library)
    corners = np.concatenate([actor.path for actor in actors])
    room = _calm(random_room(rng, library.textures, corners), corners[:, 1].max())
    background = room_background(room, view, library.textures)
    furniture = _furniture(rng, room, view, library.textures)
    sun = Sun(_sun_direction(rng), np.full(3, 0.55))
    return Stage(library, actors, view, background, furniture, random_surroundings(rng), sun)


def _frame(stage: Stage, time: float, rng: Random) -> Scene:
    """The film at a time [s], with the camera's noise."""
    library, view = stage.library, stage.view
    acts = [_stance(library, actor, n, time) for n, actor in enumerate(stage.actors)]
    figures = [place(library.wardrobe, stance, spot, view) for stance, spot in acts]
    fixed = np.random.default_rng(7)  # the seat is the same in every frame
    seats = [
        seat(fixed, stance.pelvis + np.array([spot[0], 0, spot[1]]), stance.rotations[0, :, 2],
             view, library.textures)
        for (stance, spot), actor in zip(acts, stage.actors)
        if actor.seated
    ]  # fmt: skip
    drawn = render(stage.background, view, figures, stage.furniture + seats, library.textures,
                   stage.surroundings, stage.sun, 0.85)  # fmt: skip
    noisy = drawn.image + rng.normal(0, 2.0, drawn.image.shape)
    image = np.clip(noisy, 0, 255).astype(np.uint8)
    return Scene(image, view.camera, scene_people(figures, drawn, everybody=True))


def _furniture(rng: Random, room: Room, view: View, textures: Textures) -> list[Piece]:
    """Cupboards and pictures along the far wall, out of everybody's way."""
    wall = room.high[2]
    pieces = []
    for x in (-2.4, -0.7, 1.9):
        size = rng.uniform([0.6, 0.5, 0.35], [1.3, 1.9, 0.5])
        centre = np.array([x + rng.normal(0, 0.2), size[1] / 2, wall - size[2] / 2 - 0.02])
        wood = textures.plain[0].copy()
        wood[RED : BLUE + 1] = rng.uniform(0.1, 0.5) * np.array([1.0, 0.72, 0.5])
        wood[[BUMP, MOTTLE]] = 0.02, 0.05
        pieces.append(box_piece(centre, size, 0.0, view, wood))
    for x in (-1.6, 0.7, 2.9):
        size = np.array([rng.uniform(0.5, 1.1), rng.uniform(0.4, 0.6), 0.04])
        centre = np.array([x, rng.uniform(1.95, 2.2), wall - 0.04])
        look = textures.fancy[rng.integers(len(textures.fancy))]
        pieces.append(box_piece(centre, size, 0.0, view, look))
    return pieces


def _stance(library: Library, actor: Actor, number: int, time: float) -> tuple[Stance, Array]:
    rotations, spot = actor.at(time)
    name = f"actor{number}"
    return make_stance(library.wardrobe, rotations, actor.betas, actor.outfit, name), spot


def _cast(rng: Random, library: Library) -> list[Actor]:
    """Somebody who crosses, somebody who comes and goes, somebody who stays."""
    crossing = np.array([[2.6, 3.4], [-2.2, 3.9], [-1.2, 2.9], [2.4, 3.0]])
    coming = np.array([[-1.3, 6.2], [-0.5, 2.7], [0.9, 4.6], [1.4, 6.0]])
    staying = np.array([[0.55, 4.4]])
    actors = []
    for path in (crossing, coming, staying):
        shift = rng.normal(0, 0.12, 2)
        betas = np.clip(rng.standard_normal(10), -1.6, 1.6).astype(np.float32)
        gait = Gait(rng.uniform(24, 31), rng.uniform(18, 32), rng.uniform(0, 5), rng.uniform(0, 6))
        seated = len(path) == 1 and rng.random() < 0.5
        actors.append(Actor(library.outfit(rng), betas, gait, path + shift, seated))
    return actors


def _along(path: Array, distance: float) -> tuple[Array, float, float]:
    """Spot, heading [degrees] and distance walked on a path; who arrives turns round.

    The corners are cut, so nobody turns on the spot.
    """
    there = np.concatenate([path, path[-2::-1]])
    lengths = np.linalg.norm(np.diff(there, axis=0), axis=1)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    around = np.linspace(-0.45, 0.45, 9) + min(distance, starts[-1] - 1e-3)
    reached = np.clip(around, 0, starts[-1])
    spots = np.stack([np.interp(reached, starts, there[:, axis]) for axis in range(2)], -1)
    heading = spots[-1] - spots[0]
    yaw = np.degrees(np.arctan2(heading[0], heading[1]))
    return spots.mean(0), float(yaw), distance


def _turned(rotations: Array, yaw: float) -> Array:
    turned = rotations.copy()
    turned[0] = turn("y", yaw) @ rotations[0]
    return turned


def _sun_direction(rng: Random) -> Array:
    direction = np.array([rng.uniform(-0.8, 0.8), 1.2, rng.uniform(-0.9, 0.1)])
    return direction / np.linalg.norm(direction)


def _calm(room: Room, reach: float) -> Room:
    """An ordinary room: plain pale walls, a ceiling, the far wall behind everybody."""
    surfaces = room.surfaces.copy()
    surfaces[:, PATTERN] = SOLID
    surfaces[:, RED : BLUE + 1] = 0.3 + 0.4 * surfaces[:, RED : BLUE + 1]
    surfaces[FLOOR, RED : BLUE + 1] *= np.array([0.6, 0.45, 0.33])  # wood
    high = np.array([room.high[0], 3.1, reach + 1.6])
    brightness = np.array([0.8, 0.9, 0.75, 1.0, 0.8, 0.85])
    return replace(room, surfaces=surfaces, high=high, brightness=brightness, open_sky=False)
