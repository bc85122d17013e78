"""Overlays and the view from above: who is drawn where, in which colour, before whom."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from people_samples import result_of, standing_person

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.camera import Camera
from mpmesh_core.canvas import blend, person_colour, pill_size
from mpmesh_core.drawing import DrawingStyle, OverlayDrawer, draw_overlay, person_vertices
from mpmesh_core.errors import ShapeError
from mpmesh_core.rasterizer import Meshes, rasterize
from mpmesh_core.shading import shaded_layer
from mpmesh_core.top_view import RANGES, Figures, draw_top_view, fitting_range
from mpmesh_core.types import Array

CAMERA = Camera.from_fov(320, 240, 70.0)
FISHEYE = Camera(
    np.array([[130.0, 0, 159.5], [0, 130.0, 119.5], [0, 0, 1]]),
    np.array([0.05, -0.02, 0.004, -0.001]),
    "equidistant",
    320,
    240,
)
BARE = DrawingStyle(labels=False, top_view=False, opacity=1.0)
GREY = 128


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("open")


def wall(camera: Camera = CAMERA) -> Array:
    return np.full((camera.height, camera.width, 3), GREY, np.uint8)


def drawn(picture: Array) -> Array:
    """(H, W) where a picture differs from the wall."""
    return (np.abs(picture.astype(int) - GREY) > 2).any(axis=-1)


def hue_share(picture: Array, track_id: int) -> float:
    """Share of the picture in the hue of an identity."""
    wanted = cv2.cvtColor(np.uint8([[person_colour(track_id)]]), cv2.COLOR_RGB2HSV)[0, 0, 0]
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV).astype(int)
    near = np.abs((hsv[..., 0] - int(wanted) + 90) % 180 - 90) < 8
    return float((near & (hsv[..., 1] > 40)).mean())


class TestDrawOverlay:
    @pytest.mark.parametrize("camera", [CAMERA, FISHEYE], ids=["pinhole", "fisheye"])
    def test_silhouette_is_where_the_lens_puts_it(self, body: BodyModel, camera: Camera) -> None:
        person = standing_person(body, camera, 0.9, 2.5)
        picture = draw_overlay(wall(camera), result_of(camera, [person]), body, camera, BARE)
        v, u = np.nonzero(drawn(picture))
        box = [u.min(), v.min(), u.max(), v.max()]
        np.testing.assert_allclose(box, person.bbox, atol=1.5)
        hips = person.joints_2d[1].round().astype(int)
        assert drawn(picture)[hips[1], hips[0]]

    def test_nearer_people_hide_those_behind(self, body: BodyModel) -> None:
        people = [standing_person(body, CAMERA, 0.0, z, i) for i, z in enumerate((2.0, 4.0))]
        for order in (people, people[::-1]):
            picture = draw_overlay(wall(), result_of(CAMERA, order), body, CAMERA, BARE)
            middle = picture[100:140, 150:170]
            assert hue_share(middle, 0) > 0.5 and hue_share(middle, 1) == 0

    def test_carried_vertices_win(self, body: BodyModel) -> None:
        person = standing_person(body, CAMERA, 0.0, 3.0)
        (posed,) = person_vertices(body, [person])
        moved = replace(person, vertices=posed + np.array([0.5, 0, 0]))
        mixed = person_vertices(body, [person, moved, person])
        np.testing.assert_allclose(mixed[1] - mixed[0], [[0.5, 0, 0]] * len(posed), atol=1e-6)
        np.testing.assert_array_equal(mixed[0], mixed[2])

    def test_states(self, body: BodyModel) -> None:
        def contrast(state: str) -> float:
            person = standing_person(body, CAMERA, 0.0, 2.5, state=state)
            style = replace(BARE, opacity=0.9)
            picture = draw_overlay(wall(), result_of(CAMERA, [person]), body, CAMERA, style)
            return float(np.abs(picture.astype(int) - GREY).mean())

        assert contrast("lost") == 0
        assert 0 < contrast("coasted") < 0.7 * contrast("tracked")

    @pytest.mark.parametrize("x, z", [(0.0, -3.0), (0.0, 0.05), (8.0, 2.0), (0.0, 400.0)])
    def test_behind_beside_around_and_far_off(self, body: BodyModel, x: float, z: float) -> None:
        person = standing_person(body, CAMERA, x, z)
        picture = draw_overlay(wall(), result_of(CAMERA, [person]), body, CAMERA)
        assert picture.shape == (240, 320 + 173, 3)

    def test_nobody_leaves_the_picture_alone(self, body: BodyModel) -> None:
        image = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
        before = image.copy()
        picture = draw_overlay(image, result_of(CAMERA, []), body, CAMERA)
        np.testing.assert_array_equal(picture[:, :320], before)
        np.testing.assert_array_equal(image, before)

    def test_the_given_picture_is_not_drawn_into(self, body: BodyModel) -> None:
        image = wall()
        draw_overlay(
            image, result_of(CAMERA, [standing_person(body, CAMERA, 0, 2.5)]), body, CAMERA
        )
        assert not drawn(image).any()

    @pytest.mark.parametrize("width, height", [(4000, 3000), (33, 21), (101, 400)])
    def test_sizes(self, body: BodyModel, width: int, height: int) -> None:
        camera = Camera.from_fov(width, height, 70.0)
        person = standing_person(body, camera, 0.0, 2.5)
        picture = draw_overlay(wall(camera), result_of(camera, [person]), body, camera)
        scale = min(1.0, 1920 / max(width, height))
        assert picture.shape[0] == round(height * scale) and picture.shape[1] > width * scale

    def test_labels_stay_inside_and_apart(self, body: BodyModel) -> None:
        people = [standing_person(body, CAMERA, 0.05 * i, 2.0 + i, i) for i in range(4)]
        style = DrawingStyle(top_view=False)
        with_labels = draw_overlay(wall(), result_of(CAMERA, people), body, CAMERA, style)
        without = replace(style, labels=False)
        bare = draw_overlay(wall(), result_of(CAMERA, people), body, CAMERA, without)
        label_pixels = (with_labels != bare).any(axis=-1).sum()
        one = np.prod(pill_size("0  2.0 m", 7))
        assert label_pixels > 3 * 0.7 * one

    def test_grey_picture_is_refused(self, body: BodyModel) -> None:
        with pytest.raises(ShapeError, match="image"):
            draw_overlay(wall()[..., 0], result_of(CAMERA, []), body, CAMERA)


class TestOverlayDrawer:
    def test_range_never_jumps_back(self, body: BodyModel) -> None:
        drawer = OverlayDrawer(body)
        near, far = (result_of(CAMERA, [standing_person(body, CAMERA, 0, z)]) for z in (2, 12))
        first = drawer.draw(wall(), near, CAMERA)
        drawer.draw(wall(), far, CAMERA)
        assert (drawer.draw(wall(), near, CAMERA) != first).any()
        drawer.reset()
        np.testing.assert_array_equal(drawer.draw(wall(), near, CAMERA), first)


class TestTopView:
    SIZE = (200, 300)

    def panel(self, body: BodyModel, x: float, z: float, depth: float = 8.0) -> Array:
        person = replace(standing_person(body, CAMERA, x, z, -1), velocity=None)
        people = [person] if z < 90 else []
        meshes = person_vertices(body, people)
        figures = Figures(people, meshes, body.faces.numpy(), [(255, 0, 0)] * len(people))
        return draw_top_view(figures, CAMERA, self.SIZE, depth)

    def where(self, body: BodyModel, x: float, z: float, depth: float = 8.0) -> Array:
        """Middle (u, v) [px] of the red person."""
        panel = self.panel(body, x, z, depth).astype(int)
        v, u = np.nonzero(panel[..., 0] - panel[..., 1] > 30)
        return np.array([u.min() + u.max(), v.min() + v.max()]) / 2

    def test_right_is_right_and_ahead_is_up(self, body: BodyModel) -> None:
        middle = self.where(body, 0.0, 4.0)
        assert middle[0] == pytest.approx(self.SIZE[0] / 2, abs=1.5)
        assert self.where(body, 1.0, 4.0)[0] > middle[0] + 10
        assert self.where(body, 0.0, 6.0)[1] < middle[1] - 10

    def test_one_metre_is_the_same_both_ways(self, body: BodyModel) -> None:
        origin, right, ahead = (self.where(body, *at) for at in ((0, 4), (1, 4), (0, 5)))
        metre = right[0] - origin[0]
        assert origin[1] - ahead[1] == pytest.approx(metre, abs=1.0)
        assert metre == pytest.approx((0.945 - 0.065) * self.SIZE[1] / 8.0, abs=1.0)

    def test_wide_scenes_shrink(self, body: BodyModel) -> None:
        u, _ = self.where(body, 6.0, 6.5)
        assert 0 < u < self.SIZE[0]

    @pytest.mark.parametrize("z, wanted", [(1.0, 4.0), (3.9, 6.0), (9.0, 10.0), (500.0, 100.0)])
    def test_fitting_range(self, body: BodyModel, z: float, wanted: float) -> None:
        assert fitting_range([standing_person(body, CAMERA, 0.0, z)]) == wanted

    def test_fitting_range_of_nobody(self) -> None:
        assert fitting_range([]) == RANGES[0]

    @pytest.mark.parametrize("x", [400.0, -5e3, 1e6])
    def test_somebody_very_far_aside_has_a_grid_too(self, body: BodyModel, x: float) -> None:
        person = standing_person(body, CAMERA, x, abs(x))
        picture = draw_overlay(wall(), result_of(CAMERA, [person]), body, CAMERA)
        assert picture.shape[0] == CAMERA.height

    def test_extreme_covariance(self, body: BodyModel) -> None:
        for scale in (0.0, 1e6):
            person = replace(
                standing_person(body, CAMERA, 0.0, 3.0), position_covariance=scale * np.eye(3)
            )
            meshes = person_vertices(body, [person])
            figures = Figures([person], meshes, body.faces.numpy(), [(255, 0, 0)])
            panel = draw_top_view(figures, CAMERA, self.SIZE)
            assert panel.shape == (300, 200, 3)


class TestShadedLayer:
    def test_the_part_equals_the_whole(self, body: BodyModel) -> None:
        """Only the part that people cover is rasterised; it must not move them."""
        (vertices,) = person_vertices(body, [standing_person(body, CAMERA, 0.4, 3.0)])
        meshes = Meshes.join([vertices], [body.faces.numpy()])
        pixels, depth = CAMERA.project(meshes.vertices), meshes.vertices[:, 2]
        colours, ones = np.array([[255, 255, 255]]), np.ones(1)
        layer, (u, v) = shaded_layer(meshes, pixels, depth, (320, 240), colours, ones)
        whole = rasterize(pixels, depth, meshes.faces, (320, 240)).face >= 0
        placed = np.zeros((240, 320), bool)
        placed[v : v + layer.shape[0], u : u + layer.shape[1]] = layer[..., 3] > 0
        np.testing.assert_array_equal(placed, whole)

    def test_light_comes_from_above(self) -> None:
        ball = _ball()
        meshes = Meshes.join([ball[0]], [ball[1]])
        pixels, depth = CAMERA.project(meshes.vertices), meshes.vertices[:, 2]
        layer, _ = shaded_layer(
            meshes, pixels, depth, (320, 240), np.array([[200, 200, 200]]), np.ones(1)
        )
        rows = layer.shape[0]
        bright = [
            part[..., 0][part[..., 3] > 0].mean()
            for part in (layer[: rows // 2], layer[rows // 2 :])
        ]
        assert bright[0] > bright[1] + 20


def _ball(segments: int = 24) -> tuple[Array, Array]:
    """A sphere of 0.3 m at 2 m."""
    polar, around = np.meshgrid(
        np.linspace(0, np.pi, segments), np.linspace(0, 2 * np.pi, segments), indexing="ij"
    )
    sphere = [np.sin(polar) * np.cos(around), -np.cos(polar), np.sin(polar) * np.sin(around)]
    vertices = 0.3 * np.stack(sphere, axis=-1).reshape(-1, 3) + np.array([0, 0, 2.0])
    i, j = np.meshgrid(np.arange(segments - 1), np.arange(segments - 1), indexing="ij")
    a = (i * segments + j).ravel()
    quads = np.stack([a, a + 1, a + segments, a + 1, a + segments + 1, a + segments], axis=1)
    faces = quads.reshape(-1, 3)
    normals = np.cross(
        vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]]
    )
    outward = vertices[faces].mean(axis=1) - np.array([0, 0, 2.0])
    flip = (normals * outward).sum(axis=1) < 0
    faces[flip] = faces[flip][:, ::-1]
    return vertices, faces


class TestCanvas:
    def test_blend_is_the_formula(self) -> None:
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        alpha = rng.uniform(size=(20, 30, 1))
        colour = rng.integers(0, 256, (20, 30, 3))
        layer = np.concatenate([colour * alpha, 255 * alpha], axis=-1).astype(np.uint8)
        expected = image * (1 - alpha) + colour * alpha
        assert np.abs(blend(image, layer) - expected).max() <= 3

    def test_identities_differ_in_colour(self) -> None:
        colours = np.array([person_colour(number) for number in range(10)], float)
        apart = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
        assert apart[~np.eye(10, dtype=bool)].min() > 40
        assert person_colour(1234) == person_colour(1234)
