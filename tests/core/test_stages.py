"""What the line keeps on its way, and the pictures of it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from people_samples import standing_person

from mpmesh_core.attention_picture import JOINTS, MOST_ROWS, PANEL, draw_attention
from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.camera import Camera
from mpmesh_core.canvas import person_colour
from mpmesh_core.drawing import person_vertices
from mpmesh_core.joints import SMPL_JOINTS
from mpmesh_core.networks.refiner import RefinerConfig, RefinerNetwork
from mpmesh_core.pipeline import Pipeline, PipelineConfig
from mpmesh_core.run_outputs import RunConfig
from mpmesh_core.runner import run_sources
from mpmesh_core.side_view import draw_side_view
from mpmesh_core.stage_strip import GAP, draw_stages, initial_vertices, tiled
from mpmesh_core.top_view import Figures
from mpmesh_core.training.synthetic.clip_source import ClipSource
from mpmesh_core.training.synthetic.demo_clip import demo_clip
from mpmesh_core.types import Array, FrameResult, Person, Stages

CAMERA = Camera.from_fov(320, 240)
SCENES = list(demo_clip(frames=2, size=(320, 240)))


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("open")


@pytest.fixture(scope="module")
def keeping() -> Pipeline:
    config = PipelineConfig(device="cpu", backend="onnxruntime")
    return Pipeline(config, keep_stages=True)


def seen(pipeline: Pipeline, number: int = 0) -> FrameResult:
    pipeline.start(sequence=False)
    return pipeline(SCENES[number].image, SCENES[number].camera)


def kept(person: Person) -> Stages:
    assert person.stages is not None
    return person.stages


class TestKeeping:
    def test_results_are_the_same_without(self, keeping: Pipeline) -> None:
        found = seen(keeping).people
        plain = seen(Pipeline(keeping.config)).people
        assert len(found) >= 2 and all(person.stages is None for person in plain)
        for with_stages, without in zip(found, plain):
            np.testing.assert_array_equal(with_stages.joints, without.joints)

    def test_context_and_attention(self, keeping: Pipeline) -> None:
        people = seen(keeping).people
        places = {kept(person).place for person in people}
        assert len(places) == len(people)
        for person in people:
            stages = kept(person)
            assert stages.context[0] == stages.place
            assert set(stages.context[stages.context >= 0]) <= places
            shares = stages.attention.sum((0, 2)) / 24
            assert shares.sum() == pytest.approx(1, abs=1e-5)
            assert (shares[stages.context < 0] == 0).all()

    def test_skeleton_stands_where_the_person_is(self, keeping: Pipeline) -> None:
        people = seen(keeping).people
        clear = [person.joint_confidence.mean() > 0.5 for person in people]
        assert sum(clear) >= 2  # somebody else is cut off at the picture's edge
        for person, sure in zip(people, clear):
            skeleton = kept(person).skeleton
            away = np.linalg.norm(person.position)
            apart = np.linalg.norm(skeleton[0] - person.position) / away
            assert apart < (0.02 if sure else 0.15)
            pixels = SCENES[0].camera.project(skeleton[:24])
            assert np.median(np.linalg.norm(pixels - person.joints_2d, axis=-1)) < 8

    def test_unrefined_is_inverse_kinematics(self) -> None:
        config = PipelineConfig(device="cpu", backend="onnxruntime", refine=False)
        pipeline = Pipeline(config, keep_stages=True)
        people = seen(pipeline).people
        meshes = initial_vertices(pipeline.body, [kept(person) for person in people])
        for mesh, final in zip(meshes, person_vertices(pipeline.body, people)):
            np.testing.assert_allclose(mesh, final, atol=1e-4)
        assert all(np.isnan(kept(person).attention).all() for person in people)
        assert draw_attention(SCENES[0].image, seen(pipeline)) is None


class TestAttention:
    def test_without_queries_everybody_counts_alike(self) -> None:
        network = RefinerNetwork(RefinerConfig(feature_channels=8, width=32, mlp=32)).eval()
        for layer in network.layers:
            torch.nn.init.zeros_(layer.queries_keys_values.weight)
            torch.nn.init.zeros_(layer.queries_keys_values.bias)
        inputs = network.example_inputs(2)  # of three places the last is nobody's
        with torch.inference_mode():
            attention = network.attention(*inputs.values())
        assert attention.shape == (2, 24, 3, 24)
        torch.testing.assert_close(attention[:, :, :2], torch.full((2, 24, 2, 24), 1 / 48))
        assert (attention[:, :, 2] == 0).all()

    def test_shares_are_what_forward_takes(self) -> None:
        """A token takes its share of each value: the first layer's output, worked out by hand."""
        torch.manual_seed(0)
        network = RefinerNetwork(RefinerConfig(feature_channels=8, width=32, mlp=32)).eval()
        layer, tokens = network.layers[0], torch.randn(1, 5, 32)
        with torch.inference_mode():
            values = layer.queries_keys_values(layer.attention_norm(tokens))[..., 512:]
            taken = layer.shares(tokens) @ values.unflatten(2, (4, 64)).transpose(1, 2)
            after = tokens + layer.attended(taken.transpose(1, 2).flatten(2))
            torch.testing.assert_close(layer(tokens), after + layer.mlp(after))


def standing(body: BodyModel, place: int, x: float, z: float) -> Person:
    """Somebody whose body of inverse kinematics is the final one; nothing is looked at."""
    person = standing_person(body, CAMERA, x, z, track_id=place)
    rotations = np.tile(np.eye(3, dtype=np.float32), (24, 1, 1))
    rotations[0] = roma.rotvec_to_rotmat(torch.from_numpy(person.global_orient)).numpy()
    skeleton = np.concatenate([person.joints, person.joints[[15, 22, 23, 10, 11]]])
    stages = Stages(
        place, skeleton, rotations, person.betas, person.transl,
        np.array([place, 1 - place, -1]), np.full((24, 3, 24), 1e-6),
    )  # fmt: skip
    return replace(person, stages=stages)


def frame(people: list[Person]) -> FrameResult:
    return FrameResult(0, 0.0, "x.png", 320, 240, CAMERA.K, CAMERA.D, people)


GREY = np.full((240, 320, 3), 128, np.uint8)


def panels_of(sheet: Array, rows: int, columns: int) -> list[Array]:
    """Panels of a sheet without the rows of their titles."""
    height = (sheet.shape[0] + GAP) // rows - GAP
    width = (sheet.shape[1] + GAP) // columns - GAP
    return [
        sheet[r * (height + GAP) :][height // 8 : height, c * (width + GAP) :][:, :width]
        for r in range(rows)
        for c in range(columns)
    ]


class TestStrip:
    def test_same_bodies_same_panels(self, body: BodyModel) -> None:
        people = [standing(body, 0, -0.6, 3.0), standing(body, 1, 0.6, 4.0)]
        sheet = draw_stages(GREY, frame(people), body, CAMERA)
        picture, skeletons, initial, refined, above, side = panels_of(sheet, 2, 3)
        assert difference(initial, refined) < 0.1
        assert difference(picture, initial) > 4
        for panel in (skeletons, above, side):
            assert panel.std() > 5

    @pytest.mark.parametrize("people", [0, 1])
    def test_nobody_and_people_without_stages(self, body: BodyModel, people: int) -> None:
        found = [replace(standing(body, 0, 0, 3), stages=None)][:people]
        sheet = draw_stages(GREY, frame(found), body, CAMERA)
        assert sheet.shape[0] > 1000 and sheet.shape[1] > 2000

    def test_people_who_are_not_seen_are_left_out(self, body: BodyModel) -> None:
        gone = replace(standing(body, 0, 0, 3), state="coasted")
        empty = draw_stages(GREY, frame([]), body, CAMERA)
        np.testing.assert_array_equal(draw_stages(GREY, frame([gone]), body, CAMERA), empty)

    def test_the_given_picture_is_not_drawn_into(self, body: BodyModel) -> None:
        image = GREY.copy()
        draw_stages(image, frame([standing(body, 0, 0, 3)]), body, CAMERA)
        np.testing.assert_array_equal(image, GREY)

    def test_tiles(self) -> None:
        panels = [np.full((10, 20, 3), value, np.uint8) for value in (50, 100, 150, 200)]
        sheet = tiled(panels, columns=3)
        assert [sheet[5, 10, 0], sheet[5, 36, 0], sheet[5, 62, 0], sheet[21, 10, 0]] == [
            50, 100, 150, 200,
        ]  # fmt: skip


def difference(first: Array, second: Array) -> float:
    return float(np.abs(first.astype(int) - second).mean())


def tint(panel: Array, number: int) -> Array:
    """Columns in which a person's hue is seen."""
    colour = np.array(person_colour(number), float)
    unit = panel / np.maximum(np.linalg.norm(panel, axis=-1, keepdims=True), 1)
    alike = unit @ (colour / np.linalg.norm(colour)) > 0.99
    return np.flatnonzero((alike & (panel.max(-1) > 90)).any(0))


class TestSideView:
    def test_far_is_right(self, body: BodyModel) -> None:
        people = [standing(body, 0, 0.0, 3.0), standing(body, 1, 0.0, 5.0)]
        meshes = person_vertices(body, people)
        colours = [person_colour(0), person_colour(1)]
        panel = draw_side_view(Figures(people, meshes, body.faces.numpy(), colours), (480, 360))
        assert tint(panel, 0).max() < tint(panel, 1).min()
        assert tint(panel, 0).min() > 0.1 * 480 and tint(panel, 1).max() < 0.9 * 480

    def test_nobody(self, body: BodyModel) -> None:
        panel = draw_side_view(Figures([], [], body.faces.numpy(), []), (200, 150))
        assert panel.shape == (150, 200, 3)


class TestAttentionPicture:
    def pair(self, body: BodyModel) -> list[Person]:
        return [standing(body, 0, -0.6, 3.0), standing(body, 1, 0.6, 3.0)]

    def test_the_strongest_line_leads_to_the_joint(self, body: BodyModel) -> None:
        first, second = self.pair(body)
        head, ankle = SMPL_JOINTS.index("head"), SMPL_JOINTS.index("right_ankle")
        kept(first).attention[head, 1, ankle] = 0.9
        nothing = draw_attention(GREY, frame(self.pair(body)))
        picture = draw_attention(GREY, frame([first, second]))
        assert picture is not None and nothing is not None
        panel = picture[: PANEL[1], : PANEL[0]].astype(int)
        bright = np.argwhere((panel[..., 0] > 200) & (panel[..., 1] > 200) & (panel[..., 2] < 200))
        centred = bright - bright.mean(0)
        direction = np.linalg.svd(centred, full_matrices=False)[2][0]
        spread = np.linalg.svd(centred, compute_uv=False)
        assert spread[0] > 20 * spread[1]  # one straight line
        wanted = (second.joints_2d[ankle] - first.joints_2d[head])[::-1]
        assert abs(direction @ wanted) / np.linalg.norm(wanted) > 0.999

    def test_rows_and_columns(self, body: BodyModel) -> None:
        people = [standing(body, n, 0.3 * n - 1, 3 + 0.1 * n) for n in range(MOST_ROWS + 2)]
        picture = draw_attention(GREY, frame(people))
        assert picture is not None
        assert picture.shape[0] // PANEL[1] == MOST_ROWS
        assert picture.shape[1] // PANEL[0] == len(JOINTS)

    def test_people_read_who_are_gone(self, body: BodyModel) -> None:
        assert draw_attention(GREY, frame(self.pair(body)[:1])) is not None
        assert draw_attention(GREY, frame([])) is None

    def test_joints_far_outside_the_picture(self, body: BodyModel) -> None:
        first, second = self.pair(body)
        far = replace(second, joints_2d=second.joints_2d + 1e7)
        assert draw_attention(GREY, frame([first, far])) is not None


class TestRun:
    def test_pictures_of_a_clip_are_numbered(self, keeping: Pipeline, tmp_path: Path) -> None:
        config = RunConfig(tmp_path, overlay=False, stages=True, attention=True)
        run_sources([ClipSource(SCENES, 15)], keeping, config)
        names = ["demo clip_000000.jpg", "demo clip_000001.jpg"]
        assert sorted(os.listdir(tmp_path / "stages")) == names
        assert sorted(os.listdir(tmp_path / "attention")) == names
        assert '"stages"' not in (tmp_path / "results.jsonl").read_text()
