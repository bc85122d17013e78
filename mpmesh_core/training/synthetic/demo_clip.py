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
from mpmesh_core.training.synthetic.people import Stance, make_stance, place
from mpmesh_core.training.synthetic.poses import turn
from mpmesh_core.training.synthetic.render import render
from mpmesh_core.training.synthetic.things import seat
from mpmesh_core.training.synthetic.walk import Gait, sitting, walking, waving

Array = np.ndarray
Random = np.random.Generator

FPS = 15.0  # frames a second
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
    rng = np.random.default_rng(seed)
    library = Library.load(SyntheticConfig(texture_seed=seed), outfits=12)
    view = look_at_height(Camera.from_fov(*size, 65.0), 1.25, 4.0, 0.95, 0.52)
    actors = _cast(rng, library)
    corners = np.concatenate([actor.path for actor in actors])
    room = _calm(random_room(rng, library.textures, corners))
    surroundings, sun = random_surroundings(rng), Sun(_sun_direction(rng), np.full(3, 0.55))
    background = room_background(room, view, library.textures)
    for number in range(frames):
        grain = np.random.default_rng([seed, number])
        yield _frame(library, actors, number / FPS, view, background, surroundings, sun, grain)


def _frame(
    library: Library, actors: list[Actor], time: float, view: View, background: Array,
    surroundings: Surroundings, sun: Sun, rng: Random,
) -> Scene:  # fmt: skip
    stances, spots = zip(*(_stance(library, actor, n, time) for n, actor in enumerate(actors)))
    figures = [place(library.wardrobe, s, spot, view) for s, spot in zip(stances, spots)]
    fixed = np.random.default_rng(7)  # the seat is the same in every frame
    props = [
        seat(fixed, stance.pelvis + np.array([spot[0], 0, spot[1]]), view, library.textures)
        for stance, spot, actor in zip(stances, spots, actors)
        if actor.seated
    ]
    drawn = render(background, view, figures, props, library.textures, surroundings, sun, 0.85)
    noisy = drawn.image + rng.normal(0, 2.0, drawn.image.shape)
    image = np.clip(noisy, 0, 255).astype(np.uint8)
    return Scene(image, view.camera, scene_people(figures, drawn, everybody=True))


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


def _calm(room: Room) -> Room:
    """Even light and pale walls, as in an ordinary room."""
    surfaces = room.surfaces.copy()
    surfaces[:, 1:7] = 0.25 + 0.5 * surfaces[:, 1:7]
    return replace(room, surfaces=surfaces, brightness=np.array([0.8, 0.9, 0.75, 1.0, 0.8, 0.85]))
