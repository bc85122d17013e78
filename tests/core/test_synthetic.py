"""Tests of the synthetic pictures: truths that match the pixels, light, layout, repeatability."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.camera import Camera
from mpmesh_core.errors import UsageError
from mpmesh_core.training.mocap import Clip
from mpmesh_core.training.scene import Scene, ShardFolder
from mpmesh_core.training.synthetic.config import SyntheticConfig
from mpmesh_core.training.synthetic.demo_clip import demo_clip
from mpmesh_core.training.synthetic.generate import make_scene, write_shards
from mpmesh_core.training.synthetic.interaction import bearings, turn_towards
from mpmesh_core.training.synthetic.layout import MIN_GAP, look_at_height, separate
from mpmesh_core.training.synthetic.library import Library
from mpmesh_core.training.synthetic.lighting import (
    Sun,
    Surroundings,
    harmonics,
    make_light,
    random_surroundings,
    sphere_grid,
)
from mpmesh_core.training.synthetic.patterns import pattern_colour
from mpmesh_core.training.synthetic.people import make_stance, place
from mpmesh_core.training.synthetic.poses import PoseBank, compose, is_low, turn
from mpmesh_core.training.synthetic.render import render, visible_boxes
from mpmesh_core.training.synthetic.shading import lit_share
from mpmesh_core.training.synthetic.textures import STRIPES, material

CONFIG = SyntheticConfig()


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load(CONFIG, outfits=6)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("open")


def scene_number(library: Library, number: int) -> Scene:
    return make_scene(library, CONFIG, np.random.default_rng([4, number]))


def sky_on(h: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Light (3,) from all around on a surface, by the shading kernel's polynomial."""
    x, y, z = normal
    basis = [1, y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y]
    return np.array(basis) @ h


class TestTruth:
    def test_figure_is_the_body_model_posed(self, library: Library, body: BodyModel) -> None:
        rng = np.random.default_rng(0)
        rotations = library.poses.draw(rng).rotations
        betas = library.shapes.draw(rng)
        stance = make_stance(library.wardrobe, rotations, betas, library.outfit(rng), "test")
        view = look_at_height(Camera.from_fov(300, 200), 1.2, 3.0, 1.0, 0.5, roll=7.0)
        figure = place(library.wardrobe, stance, np.array([0.4, 3.0]), view)
        posed = body(
            torch.from_numpy(figure.rotations).float(),
            torch.from_numpy(figure.betas),
            torch.from_numpy(figure.transl),
        )
        np.testing.assert_allclose(posed.points.numpy(), figure.points, atol=2e-4)
        # Clothes lie on the outside of the body, at most a few centimetres off it.
        gap = np.linalg.norm(figure.pieces[0].vertices - posed.vertices.numpy(), axis=1)
        assert gap.max() < 0.15 and np.median(gap) < 0.03
        # The lowest point of the clothed person stands on the ground.
        up = view.R_cam_world[:, 1]
        heights = figure.pieces[0].vertices @ up + view.height
        assert abs(heights.min()) < 1e-3

    def test_boxes_hold_the_people(self, library: Library, body: BodyModel) -> None:
        for number in range(4):
            scene = scene_number(library, number)
            assert scene.people
            for person in scene.people:
                out = body(
                    torch.from_numpy(person.rotations),
                    torch.from_numpy(person.betas),
                    torch.from_numpy(person.transl),
                )
                pixels = scene.camera.project(out.vertices.numpy())
                size = person.box[2:] - person.box[:2]
                assert (np.abs(pixels.min(0) - person.box[:2]) < 0.12 * size.max() + 2).all()
                assert (np.abs(pixels.max(0) - person.box[2:]) < 0.12 * size.max() + 2).all()
                x1, y1, x2, y2 = person.visible_box
                assert 0 <= x1 <= x2 < scene.camera.width and 0 <= y1 <= y2 < scene.camera.height
                assert 0 < person.visibility <= 1

    def test_hidden_behind_somebody_counts(self, library: Library) -> None:
        rng = np.random.default_rng(1)
        outfit, betas = library.outfits[0], np.zeros(10, np.float32)
        rest = np.tile(np.eye(3, dtype=np.float32), (24, 1, 1))
        stance = make_stance(library.wardrobe, rest, betas, outfit, "test")
        view = look_at_height(Camera.from_fov(200, 200), 1.2, 3.0, 1.0, 0.5)
        spots = (np.array([0.0, 2.0]), np.array([0.0, 4.5]))
        figures = [place(library.wardrobe, stance, spot, view) for spot in spots]
        background = np.full((200, 200, 3), 128, np.uint8)
        sun = Sun(np.array([0, 1.0, 0]), np.ones(3))
        args = (library.textures, random_surroundings(rng), sun, 0.8)
        both = render(background, view, figures, [], *args)
        alone = render(background, view, figures[1:], [], *args)
        hidden = np.count_nonzero(both.owner == 1)
        assert hidden < 0.35 * np.count_nonzero(alone.owner == 0)
        # Silhouettes are counted whole, whoever stands in front and wherever the picture ends.
        np.testing.assert_allclose(both.areas[1], alone.areas[0], rtol=1e-6)
        np.testing.assert_allclose(np.count_nonzero(alone.owner == 0), alone.areas[0], rtol=0.12)


class TestVisibleBoxes:
    def test_counts_and_boxes(self) -> None:
        owner = np.full((6, 8), -1, np.int32)
        owner[1:3, 2:6], owner[5, 7] = 0, -2
        boxes, counts = visible_boxes(owner, 2)
        np.testing.assert_array_equal(boxes[0], [2, 1, 5, 2])
        np.testing.assert_array_equal(counts, [8, 0])


class TestGenerate:
    def test_same_seed_same_scene(self, library: Library) -> None:
        again = Library.load(CONFIG, outfits=6)
        first, second = scene_number(library, 3), scene_number(again, 3)
        assert first.jpeg == second.jpeg
        np.testing.assert_array_equal(first.people[0].rotations, second.people[0].rotations)
        assert scene_number(library, 2).jpeg != first.jpeg

    def test_shards_go_on_where_they_stopped(self, tmp_path: Path, library: Library) -> None:
        from mpmesh_core.training.synthetic import generate

        generate._library = (CONFIG, library)
        assert list(write_shards(CONFIG, 1, tmp_path, 3)) == [3]
        before = (tmp_path / "shard-00000.npz").stat().st_mtime_ns
        assert list(write_shards(CONFIG, 1, tmp_path, 3)) == [3]
        assert (tmp_path / "shard-00000.npz").stat().st_mtime_ns == before
        assert len(ShardFolder(tmp_path)) == 3

    def test_a_shard_that_is_too_short_is_made_anew(self, tmp_path: Path, library: Library) -> None:
        from mpmesh_core.training.synthetic import generate

        generate._library = (CONFIG, library)
        assert list(write_shards(CONFIG, 1, tmp_path, 1)) == [1]
        first = ShardFolder(tmp_path)[0].jpeg
        assert list(write_shards(CONFIG, 1, tmp_path, 2)) == [2]
        assert len(ShardFolder(tmp_path)) == 2
        assert ShardFolder(tmp_path)[0].jpeg == first

    def test_other_settings_in_the_same_folder_are_refused(
        self, tmp_path: Path, library: Library
    ) -> None:
        from mpmesh_core.training.synthetic import generate

        generate._library = (CONFIG, library)
        assert list(write_shards(CONFIG, 1, tmp_path, 1)) == [1]
        for seed, change in ((2, {}), (1, {"low": 0.5}), (1, {"held_out": True})):
            name = next(iter(change), "seed")
            with pytest.raises(UsageError, match=f"another {name}: give another output=FOLDER"):
                list(write_shards(CONFIG.model_copy(update=change), seed, tmp_path, 1))


class TestInteraction:
    def test_people_are_in_reach_and_face_each_other(self, library: Library) -> None:
        config = CONFIG.model_copy(update={"interacting": 1.0})
        nearest, facing = [], []
        for number in range(12):
            people = make_scene(library, config, np.random.default_rng([8, number])).people
            spots = np.stack([person.transl for person in people])
            apart = np.linalg.norm(spots[:, None] - spots[None], axis=-1)
            np.fill_diagonal(apart, np.inf)
            if len(people) > 1:  # others may be hidden
                nearest += apart.min(1).tolist()
                other = spots[apart.argmin(1)] - spots
                front = np.stack([person.rotations[0, :, 2] for person in people])
                facing += (np.sum(other * front, -1) > 0).tolist()
        assert len(nearest) > 15
        assert np.median(nearest) < 1.0
        assert np.mean(facing) > 0.7

    def test_bearings_are_those_of_the_nearest(self) -> None:
        spots = np.array([[0.0, 2.0], [1.0, 2.0], [0.0, 9.0]])
        np.testing.assert_allclose(bearings(spots)[:2], (90, -90))
        assert bearings(spots)[2] == pytest.approx(180)

    def test_turned_as_told(self) -> None:
        rng = np.random.default_rng(0)
        angles = []
        for _ in range(300):
            pose = compose(rng).rotations
            front = turn_towards(rng, pose, 40.0)[0, :, 2]
            angles.append((np.degrees(np.arctan2(front[0], front[2])) - 40 + 180) % 360 - 180)
        assert abs(np.median(angles)) < 6 and np.std(angles) < 45

    def test_nobody_to_interact_with(self) -> None:
        with pytest.raises(ValidationError, match="two people or more"):
            SyntheticConfig(interacting=0.5, people_shares=(1.0,))


class TestPoses:
    def test_composed_poses_are_rotations(self) -> None:
        bank, rng = PoseBank([]), np.random.default_rng(0)
        for _ in range(30):
            rotations = bank.draw(rng).rotations.astype(np.float64)
            np.testing.assert_allclose(
                rotations @ rotations.swapaxes(-1, -2), np.tile(np.eye(3), (24, 1, 1)), atol=1e-5
            )
            assert (np.linalg.det(rotations) > 0).all()

    def test_low_poses_are_rotations_near_the_ground(self) -> None:
        standing = Clip("cmu_mocap/walk/1", np.tile(np.eye(3, dtype=np.float32), (9, 24, 1, 1)), 1)
        bank, rng = PoseBank([standing]), np.random.default_rng(0)
        low = [bank.draw_low(rng).rotations for _ in range(200)]
        assert np.mean([is_low(pose) for pose in low]) > 0.5
        assert np.mean([is_low(bank.draw(rng).rotations) for _ in range(200)]) < 0.25
        np.testing.assert_allclose(np.linalg.det(low), 1, atol=1e-5)

    def test_a_pelvis_is_as_high_as_the_legs_hold_it(self) -> None:
        pose = np.tile(np.eye(3), (24, 1, 1))
        assert not is_low(pose)
        pose[[1, 2]] = turn("x", -90)  # thighs ahead, shins too: sitting on the ground
        assert is_low(pose)
        pose[[4, 5]] = turn("x", 90)  # shins down: on a chair
        assert is_low(pose)
        pose[2], pose[5] = np.eye(3), np.eye(3)  # one leg stands
        assert not is_low(pose)


class TestShapes:
    @pytest.mark.parametrize("scale", [0.65, 0.8])
    def test_children_are_as_tall_as_asked(self, library: Library, scale: float) -> None:
        body, rng = library.wardrobe.body, np.random.default_rng(0)
        tall = np.ptp(body.template[:, 1])
        heights = [np.ptp(body.shaped(library.shapes.child(rng, scale))[:, 1]) for _ in range(8)]
        assert abs(np.mean(heights) / tall - scale) < 0.06


class TestLayout:
    @settings(max_examples=40, deadline=None)
    @given(
        st.floats(0.3, 2.6), st.floats(2.5, 9.0), st.floats(0.3, 1.5), st.floats(0.3, 0.7),
    )  # fmt: skip
    def test_target_lies_in_the_row_asked_for(
        self, height: float, distance: float, target: float, row: float
    ) -> None:
        view = look_at_height(Camera.from_fov(320, 240, 60), height, distance, target, row)
        pixel = view.camera.project(view.to_camera(np.array([0, target, distance])))
        np.testing.assert_allclose(pixel, [159.5, row * 239], atol=1e-6)

    def test_world_left_is_image_left_and_up_is_up(self) -> None:
        view = look_at_height(Camera.from_fov(320, 240, 60), 1.2, 3.0, 1.0, 0.5)
        points = view.to_camera(np.array([[0.5, 1, 3], [0, 1, 3], [0, 1.5, 3]]))
        left, middle, above = view.camera.project(points)
        assert left[0] < middle[0] and above[1] < middle[1]
        assert np.linalg.det(view.R_cam_world) == pytest.approx(1)

    def test_people_are_moved_apart(self) -> None:
        points = [np.random.default_rng(n).normal(0, 0.2, (29, 3)) for n in range(3)]
        spots = separate(points, np.array([[0.0, 3.0], [0.05, 3.0], [0.0, 3.1]]))
        np.testing.assert_array_equal(spots[0], [0.0, 3.0])
        for later in range(1, 3):
            for earlier in range(later):
                shift = np.insert(spots[later] - spots[earlier], 1, 0)
                gaps = points[later][:, None] + shift - points[earlier]
                assert np.linalg.norm(gaps, axis=-1).min() >= MIN_GAP


class TestLighting:
    def test_even_surroundings_light_evenly(self) -> None:
        directions, weights = sphere_grid()
        even = Surroundings(directions, np.full_like(directions, 0.7), weights)
        h = harmonics(even, turn("x", 33))
        for normal in np.eye(3):
            np.testing.assert_allclose(sky_on(h, normal), 0.7, rtol=0.02)

    def test_light_turns_with_the_camera(self) -> None:
        around = random_surroundings(np.random.default_rng(2))
        R = turn("y", 40) @ turn("z", 25)
        normal = np.array([0.6, 0.0, 0.8])
        np.testing.assert_allclose(
            sky_on(harmonics(around, R), R @ normal), sky_on(harmonics(around, np.eye(3)), normal),
            rtol=1e-3,
        )  # fmt: skip

    def test_a_plate_shades_what_lies_behind_it(self) -> None:
        plate = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32) + [0, 0, 3]
        faces = np.array([[0, 1, 2], [0, 2, 3]])
        sun = Sun(np.array([0, 0, -1.0]), np.ones(3))  # from the camera's side
        around = random_surroundings(np.random.default_rng(0))
        light = make_light(around, sun, np.eye(3), plate, faces, 1.0)
        assert lit_share(light.shadow, light.projection, 0.0, 0.0, 4.0) == 0
        assert lit_share(light.shadow, light.projection, 0.0, 0.0, 2.0) == 1
        assert lit_share(light.shadow, light.projection, 1.5, 0.0, 4.0) == 1


class TestPatterns:
    def test_stripes_alternate(self, library: Library) -> None:
        row = material(pattern=STRIPES, colour=(1, 0, 0), second=(0, 0, 1), scale=0.1, duty=0.5)
        patches, noise = library.textures.patches, library.textures.noise
        colours = [pattern_colour(row[None], 0, 0.3, t, patches, noise) for t in (0.02, 0.07, 0.12)]
        assert colours == [(0, 0, 1), (1, 0, 0), (0, 0, 1)]


class TestDemoClip:
    def test_three_people_move_smoothly_and_repeatably(self) -> None:
        film, again = list(demo_clip(frames=4, size=(160, 120))), demo_clip(1, size=(160, 120))
        np.testing.assert_array_equal(next(again).image, film[0].image)
        assert [[p.source for p in scene.people] for scene in film] == [
            ["actor0", "actor1", "actor2"]
        ] * 4
        places = np.array([[p.transl for p in scene.people] for scene in film])
        steps = np.linalg.norm(np.diff(places, axis=0), axis=-1)
        assert steps.max() < 0.2 and steps[:, :2].min() > 0.03
        assert film[0].image.shape == (120, 160, 3)

    def test_needs_a_frame(self) -> None:
        with pytest.raises(UsageError, match="at least one frame, got 0"):
            next(demo_clip(frames=0))
