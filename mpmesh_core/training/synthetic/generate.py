"""generate: endless scenes from a seed, and shards of them.

In   SyntheticConfig (where the data lies, what to make) and a seed
Out  Scenes with full 3D truth; `write_shards` stores them

Scene n of a seed is always the same, whichever process makes it: each has its own random generator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from mpmesh_core.processes import in_processes
from mpmesh_core.rasterizer import Array
from mpmesh_core.training.scene import (
    PersonTruth,
    Scene,
    count_scenes,
    decode_jpeg,
    encode_jpeg,
    write_shard,
)  # fmt: skip
from mpmesh_core.training.settings import check_same
from mpmesh_core.training.synthetic.backgrounds import (
    panorama_background,
    photo_background,
    random_room,
    room_background,
)  # fmt: skip
from mpmesh_core.training.synthetic.config import SynthesisConfig, SyntheticConfig
from mpmesh_core.training.synthetic.effects import camera_effects, jpeg_quality
from mpmesh_core.training.synthetic.interaction import REACH, bearings, turn_towards
from mpmesh_core.training.synthetic.layout import View, place_people, random_view, separate
from mpmesh_core.training.synthetic.library import Library
from mpmesh_core.training.synthetic.lighting import (
    Surroundings,
    panorama_surroundings,
    random_sun,
    random_surroundings,
)  # fmt: skip
from mpmesh_core.training.synthetic.people import Figure, Piece, Stance, make_stance, place
from mpmesh_core.training.synthetic.poses import turn
from mpmesh_core.training.synthetic.render import Rendering, render, visible_boxes
from mpmesh_core.training.synthetic.things import lay_over, obstacle, seat

Random = np.random.Generator

MIN_SEEN = 0.04  # a person of whom less can be seen is left out of the scene's people
MIN_PIXELS = 60  # nor somebody smaller than this
NEAREST = 0.25  # [m] no vertex of a person comes nearer to the camera
SHARD_SIZE = 200


def generate(config: SyntheticConfig, seed: int, start: int = 0) -> Iterator[Scene]:
    """Endless scenes; the same seed and number give the same scene.

    Args:
        config: data folders and options.
        seed: of the whole set.
        start: number of the first scene.
    """
    library = Library.load(config)
    while True:
        yield make_scene(library, config, np.random.default_rng([seed, start]))
        start += 1


def write_shards(
    config: SyntheticConfig, seed: int, folder: Path | str, count: int, processes: int = 1
) -> Iterator[int]:
    """Write `count` scenes in shards; yields the number of scenes written so far.

    Shards that exist are kept, so an interrupted run goes on where it stopped; one that holds
    fewer scenes than it should is made anew.

    Raises:
        UsageError: the folder holds scenes of another seed or configuration.
        DeviceError: a process was killed, most likely for its memory.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made_from = config.model_dump(mode="json") | {"seed": seed}
    check_same(folder / "made_from.json", made_from, "scenes made with")
    starts = range(0, count, SHARD_SIZE)
    tasks = [
        (config, seed, folder / f"shard-{number:05d}.npz", start, min(SHARD_SIZE, count - start))
        for number, start in enumerate(starts)
    ]
    done = 0
    if processes == 1:
        for task in tasks:
            done += _write_task(task)
            yield done
        return
    for written in in_processes(_write_task, tasks, processes):
        done += written
        yield done


def synthesize_shards(config: SynthesisConfig, say: Callable[[str], None]) -> None:
    """Write the shards that a configuration asks for and say how far it is."""
    start = time.perf_counter()
    plain = SyntheticConfig(**config.model_dump(include=set(SyntheticConfig.model_fields)))
    for done in write_shards(plain, config.seed, config.output, config.scenes, config.processes):
        rate = done / (time.perf_counter() - start)
        say(f"{done} of {config.scenes} scenes in {config.output} ({rate:.0f} a second)")


_library: tuple[SyntheticConfig, Library] | None = None  # of this worker process


def _write_task(task: tuple[SyntheticConfig, int, Path, int, int]) -> int:
    global _library
    config, seed, path, start, count = task
    if path.is_file() and count_scenes(path) >= count:
        return count
    if _library is None or _library[0] != config:
        _library = (config, Library.load(config))
    library = _library[1]
    numbers = range(start, start + count)
    return write_shard(
        path, (make_scene(library, config, np.random.default_rng([seed, n])) for n in numbers)
    )


def make_scene(library: Library, config: SyntheticConfig, rng: Random) -> Scene:
    """One scene, with at least one person who can be seen."""
    while True:
        view, drawn, figures = _draw_people(library, config, rng)
        _hide(library, rng, drawn, len(figures))
        people = scene_people(figures, drawn)
        if people:
            break
    image = camera_effects(rng, drawn.image, library.grain)
    jpeg = encode_jpeg(image, jpeg_quality(rng))
    return Scene(decode_jpeg(jpeg), view.camera, people, jpeg)


def _draw_people(
    library: Library, config: SyntheticConfig, rng: Random
) -> tuple[View, Rendering, list[Figure]]:
    # No draw where nobody interacts: older seeds keep their scenes.
    interact = config.interacting > 0 and rng.random() < config.interacting
    if interact:
        stances, view, spots = _interacting(library, rng, config)
    else:
        count = _how_many(rng, config)
        stances = [_random_stance(library, rng, config.low) for _ in range(count)]
        view, spots = _arrange(rng, stances)
    figures = [place(library.wardrobe, s, spot, view) for s, spot in zip(stances, spots)]
    figures = [figure for figure in figures if _in_view(figure, view)]
    props = _props(library, rng, stances, spots, view)
    background, surroundings = _background(library, rng, view, spots)
    brightness = rng.uniform(0.55, 1.15) * _match(background)
    drawn = render(background, view, figures, props, library.textures, surroundings,
                   random_sun(rng), brightness)  # fmt: skip
    return view, drawn, figures


def _hide(library: Library, rng: Random, drawn: Rendering, count: int) -> None:
    """Lay photographed objects over some people of a part of the pictures."""
    if library.cut_outs and count and rng.random() < 0.3:
        for _ in range(rng.integers(1, 3)):
            cut = library.cut_outs[rng.integers(len(library.cut_outs))]
            lay_over(rng, drawn.image, drawn.owner, cut, drawn.boxes[rng.integers(count)])


def _how_many(rng: Random, config: SyntheticConfig, least: int = 1) -> int:
    """Number of people in a scene."""
    shares = np.array(config.people_shares)
    shares[: least - 1] = 0
    return int(rng.choice(len(shares), p=shares / shares.sum())) + 1


def _interacting(
    library: Library, rng: Random, config: SyntheticConfig
) -> tuple[list[Stance], View, Array]:
    """People in reach of one another, turned towards each other, and a view of them."""
    count = _how_many(rng, config, least=2)
    spots, distance = place_people(rng, count, random_view(rng, 3.0).camera, REACH)
    stances = [_random_stance(library, rng, config.low, bearing) for bearing in bearings(spots)]
    return stances, random_view(rng, distance), separate(_standing(stances), spots)


def _random_stance(
    library: Library, rng: Random, low: float, bearing: float | None = None
) -> Stance:
    """Somebody who looks anywhere, or along a bearing [degrees] at another.

    Args:
        library: what scenes are drawn from.
        rng: source of chance.
        low: probability that it must be somebody near the ground.
        bearing: of whom they look at.
    """
    near_ground = low > 0 and rng.random() < low  # no draw at 0, as above
    pose = library.poses.draw_low(rng) if near_ground else library.poses.draw(rng)
    if bearing is None:
        rotations = pose.rotations.copy()
        rotations[0] = turn("y", rng.uniform(0, 360)) @ rotations[0]
    else:
        rotations = turn_towards(rng, pose.rotations, bearing)
    raised = rng.uniform(0.1, 0.4) if "jump" in pose.source and rng.random() < 0.4 else 0.0
    betas = library.shapes.draw(rng)
    outfit = library.outfit(rng)
    return make_stance(library.wardrobe, rotations, betas, outfit, pose.source, raised)


def _arrange(rng: Random, stances: list[Stance]) -> tuple[View, Array]:
    """A view and ground spots such that nobody stands in the lens or in somebody else."""
    view = random_view(rng, 3.0)
    spots, distance = place_people(rng, len(stances), view.camera)
    view = random_view(rng, distance)
    return view, separate(_standing(stances), spots)


def _standing(stances: list[Stance]) -> list[Array]:
    """Points (29, 3) [m] of each person over their spot."""
    return [stance.skeleton.points + stance.pelvis for stance in stances]


def _in_view(figure: Figure, view: View) -> bool:
    """Far enough from the lens, and at least partly in the picture."""
    if figure.pieces[0].vertices[:, 2].min() < NEAREST:
        return False
    pixels = view.camera.project(figure.points)
    inside = (pixels > 0) & (pixels < [view.camera.width, view.camera.height])
    return bool(inside.all(-1).sum() >= 4)


def _props(
    library: Library, rng: Random, stances: list[Stance], spots: Array, view: View
) -> list[Piece]:
    """Seats under those who sit, and in part of the scenes something to look over."""
    pieces = []
    for stance, spot in zip(stances, spots):
        if stance.source == "composed/sit":
            under = stance.pelvis + np.array([spot[0], 0, spot[1]])
            forward = stance.rotations[0, :, 2]
            pieces.append(seat(rng, under, forward, view, library.textures))
    if rng.random() < 0.18:
        for _ in range(rng.integers(1, 3)):
            spot = spots[rng.integers(len(spots))]
            pieces.append(obstacle(rng, spot, view, library.textures))
    return [piece for piece in pieces if piece.vertices[:, 2].min() > NEAREST]


def _background(
    library: Library, rng: Random, view: View, spots: Array
) -> tuple[Array, Surroundings]:
    kind = rng.choice(["photo", "panorama", "room"], p=library.background_shares)
    camera = view.camera
    if kind == "panorama":
        panorama = library.panoramas[rng.integers(len(library.panoramas))]
        angle = rng.uniform(0, 2 * np.pi)
        return panorama_background(panorama, view, angle), panorama_surroundings(panorama, angle)
    surroundings = random_surroundings(rng)
    if kind == "photo":
        picture = photo_background(rng, library.pictures, camera.width, camera.height)
        return picture, surroundings
    room = random_room(rng, library.textures, spots, library.pictures)
    return room_background(room, view, library.textures, rng.uniform(0.7, 1.2)), surroundings


def _match(background: Array) -> float:
    """Dark places have dark people: brightness of the people relative to their surroundings."""
    level = (background[::8, ::8].mean() / 255) ** 2.2
    return float(np.clip(level / 0.2, 0.35, 1.4) ** 0.5)


def scene_people(
    figures: list[Figure], drawn: Rendering, everybody: bool = False
) -> list[PersonTruth]:
    """The truth of a drawn scene; who can hardly be seen is listed only with `everybody`."""
    boxes, counts = visible_boxes(drawn.owner, len(figures))
    shares = np.minimum(counts / np.maximum(drawn.areas, 1), 1)
    return [
        PersonTruth(
            rotations=figure.rotations,
            betas=figure.betas,
            transl=figure.transl,
            box=drawn.boxes[n],
            visible_box=boxes[n] if counts[n] else None,
            visibility=float(shares[n]),
            source=figure.source,
        )
        for n, figure in enumerate(figures)
        if everybody or (shares[n] >= MIN_SEEN and counts[n] >= MIN_PIXELS)
    ]
