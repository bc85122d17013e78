"""camera and lens: OpenCV agreement, round trips over the whole image, files, errors."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpmesh_core.camera import Camera
from mpmesh_core.errors import InputError, MissingFileError, MPMeshError, ShapeError

K = np.array([[520.0, 0, 331.0], [0, 515.0, 228.0], [0, 0, 1]])
LENSES = {
    "none": [],
    "plumb_bob": [-0.31, 0.12, 1e-3, -8e-4, -0.02],
    "rational_polynomial": [0.45, -0.02, 5e-4, -3e-4, 0.002, 0.8, 0.1, 0.006],
    "equidistant": [-0.02, 0.008, -0.004, 0.0007],
}


def camera_of(model: str) -> Camera:
    return Camera(K, np.array(LENSES[model]), model, 640, 480)


def grid(camera: Camera, n: int = 25) -> np.ndarray:
    u, v = np.meshgrid(np.linspace(0, camera.width - 1, n), np.linspace(0, camera.height - 1, n))
    return np.stack((u, v), -1).reshape(-1, 2)


def points_in_view(n: int = 300) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform((-2, -1.6, 2.5), (2, 1.6, 8), (n, 3))


class TestProject:
    @pytest.mark.parametrize("model", ["none", "plumb_bob", "rational_polynomial"])
    def test_agrees_with_opencv(self, model: str) -> None:
        points = points_in_view()
        D = np.array(LENSES[model] or [0.0] * 5)
        expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), K, D)
        np.testing.assert_allclose(camera_of(model).project(points), expected[:, 0], atol=1e-8)

    def test_agrees_with_opencv_fisheye(self) -> None:
        points = points_in_view()
        expected, _ = cv2.fisheye.projectPoints(
            points[:, None], np.zeros(3), np.zeros(3), K, np.array(LENSES["equidistant"])
        )
        np.testing.assert_allclose(
            camera_of("equidistant").project(points), expected[:, 0], atol=1e-8
        )

    def test_convention_first_pixel_centre_is_zero(self) -> None:
        camera = Camera.from_fov(640, 480, 90.0)
        np.testing.assert_allclose(camera.project(np.array([0, 0, 5.0])), [319.5, 239.5])
        edge = camera.project(np.array([-5.0, 0, 5.0]))  # 45 degrees left: the image's left edge
        np.testing.assert_allclose(edge, [-0.5, 239.5])

    @pytest.mark.parametrize("model", LENSES)
    @given(
        point=st.tuples(*[st.one_of(st.just(0.0), st.floats(-1e3, 1e3))] * 3),
    )
    @settings(max_examples=60, deadline=None)
    def test_any_finite_point_gives_a_finite_pixel(self, model: str, point: tuple) -> None:
        assert np.isfinite(camera_of(model).project(np.array(point))).all()

    @pytest.mark.parametrize("model", LENSES)
    def test_behind_never_lands_inside(self, model: str) -> None:
        camera = camera_of(model)
        points = points_in_view() * (1, 1, -1)
        px = camera.project(points)
        inside = ((px >= -0.5) & (px <= (639.5, 479.5))).all(-1)
        assert not inside.any()
        assert not camera.in_view(points).any() or model == "equidistant"

    def test_strong_barrel_does_not_fold_back(self) -> None:
        """Past the radius where k1 turns the image back, pixels keep moving outwards."""
        camera = Camera(K, np.array([-0.4, 0.0, 0.0, 0.0]), "plumb_bob", 640, 480)
        x = np.linspace(0, 20, 400)
        u = camera.project(np.stack((x, 0 * x, 1 + 0 * x), -1))[:, 0]
        assert (np.diff(u) > 0).all()

    @pytest.mark.parametrize("model", LENSES)
    def test_gradient(self, model: str) -> None:
        points = torch.tensor(points_in_view(4), requires_grad=True)
        assert torch.autograd.gradcheck(camera_of(model).project, points)
        axis = torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
        camera_of(model).project(axis).sum().backward()
        assert torch.isfinite(axis.grad).all()

    @pytest.mark.parametrize("model", LENSES)
    def test_batch_shapes_and_types(self, model: str) -> None:
        camera = camera_of(model)
        points = torch.tensor(points_in_view(6), dtype=torch.float32)
        px = camera.project(points.reshape(2, 3, 3))
        assert px.shape == (2, 3, 2) and px.dtype == torch.float32
        assert camera.project(points[:0]).shape == (0, 2)
        assert camera.unproject(px[0, 0]).shape == (3,)
        torch.testing.assert_close(camera.project(points[1]), px[0, 1], rtol=0, atol=1e-4)
        whole = torch.tensor([[0, 1, 2], [1, -1, 4]])
        torch.testing.assert_close(camera.project(whole), camera.project(whole.float()))
        with pytest.raises(ShapeError, match="points"):
            camera.project(np.zeros((3, 2)))


class TestUnproject:
    @pytest.mark.parametrize("model", LENSES)
    def test_round_trip_over_the_image(self, model: str) -> None:
        camera = camera_of(model)
        px = grid(camera)
        np.testing.assert_allclose(camera.project(camera.unproject(px)), px, atol=1e-6)
        np.testing.assert_allclose(camera.project(camera.directions(px)), px, atol=1e-6)
        px32 = torch.tensor(px, dtype=torch.float32)
        assert (camera.project(camera.unproject(px32)) - px32).abs().max() < 1e-3

    @given(
        fov=st.floats(40, 176),
        k=st.tuples(*[st.floats(-0.03, 0.03)] * 4),
        at=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    )
    @settings(max_examples=80, deadline=None)
    def test_round_trip_fisheye(self, fov: float, k: tuple, at: tuple) -> None:
        f = 400.0 / np.radians(fov / 2)  # the diagonal of an 640x480 image spans fov
        matrix = np.array([[f, 0, 319.5], [0, f, 239.5], [0, 0, 1]])
        camera = Camera(matrix, np.array(k), "equidistant", 640, 480)
        px = np.array(at) * (639, 479)
        np.testing.assert_allclose(camera.project(camera.directions(px)), px, atol=1e-3)
        if camera.directions(px)[2] > np.cos(np.radians(88.9)):
            np.testing.assert_allclose(camera.project(camera.unproject(px)), px, atol=1e-3)

    @given(
        k=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.3, 0.3)),
        p=st.tuples(*[st.floats(-5e-3, 5e-3)] * 2),
        k3=st.floats(-0.1, 0.1),
        at=st.tuples(st.floats(0, 1), st.floats(0, 1)),
        fov=st.floats(30, 110),
    )
    @settings(max_examples=80, deadline=None)
    def test_round_trip_plumb_bob(self, k, p, k3, at, fov) -> None:
        f = 320.0 / np.tan(np.radians(fov / 2))
        matrix = np.array([[f, 0, 300.0], [0, f, 250.0], [0, 0, 1]])
        camera = Camera(matrix, np.array([*k, *p, k3]), "plumb_bob", 640, 480)
        px = np.array(at) * (639, 479)
        np.testing.assert_allclose(camera.project(camera.directions(px)), px, atol=1e-3)

    def test_fisheye_past_180_degrees(self) -> None:
        matrix = np.array([[180.0, 0, 319.5], [0, 180.0, 239.5], [0, 0, 1]])
        camera = Camera(matrix, np.zeros(4), "equidistant", 640, 480)
        px = np.array([639.0, 239.5])  # 101.7 degrees to the right
        direction = camera.directions(px)
        assert np.degrees(np.arctan2(direction[0], direction[2])) == pytest.approx(101.7, abs=0.1)
        np.testing.assert_allclose(camera.project(direction), px, atol=1e-6)
        assert np.isfinite(camera.unproject(px)).all() and camera.unproject(px)[0] > 50

    @pytest.mark.parametrize("model", LENSES)
    def test_far_outside_is_finite(self, model: str) -> None:
        px = np.array([[1e6, -1e6], [-1e9, 0.0], [331.0, 228.0]])
        camera = camera_of(model)
        assert np.isfinite(camera.unproject(px)).all()
        np.testing.assert_allclose(np.linalg.norm(camera.directions(px), axis=-1), 1)


class TestScaledAndCropped:
    @pytest.mark.parametrize("model", LENSES)
    def test_scaled_moves_pixels_as_a_resize_does(self, model: str) -> None:
        camera = camera_of(model)
        points = points_in_view(50)
        px = camera.project(points)
        half = camera.scaled(320, 240).project(points)
        np.testing.assert_allclose(half, (px + 0.5) / 2 - 0.5, atol=1e-9)

    def test_cropped(self) -> None:
        camera = camera_of("plumb_bob")
        points = points_in_view(50)
        part = camera.cropped(40, 30, 200, 100)
        np.testing.assert_allclose(part.project(points), camera.project(points) - (40, 30))
        assert (part.width, part.height) == (200, 100)


CALIBRATION = """
image_width: 640
image_height: 480
camera_name: head
camera_matrix: {rows: 3, cols: 3, data: [520, 0, 331, 0, 515, 228, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [-0.31, 0.12, 0.001, -0.0008, -0.02]}
"""
MESSAGE = """
header: {frame_id: cam}
height: 480
width: 640
distortion_model: equidistant
d: [-0.02, 0.008, -0.004, 0.0007]
k: [520, 0, 331, 0, 515, 228, 0, 0, 1]
binning_x: 2
binning_y: 2
roi: {x_offset: 20, y_offset: 40, height: 400, width: 600, do_rectify: false}
---
height: 1
"""


class TestFromFile:
    def test_calibration_style(self, tmp_path) -> None:
        path = tmp_path / "camera.yaml"
        path.write_text(CALIBRATION)
        camera = Camera.from_file(path)
        np.testing.assert_array_equal(camera.K, K)
        assert camera.model == "plumb_bob" and len(camera.D) == 5
        assert (camera.width, camera.height) == (640, 480)

    def test_message_style_with_roi_and_binning(self, tmp_path) -> None:
        path = tmp_path / "camera.yaml"
        path.write_text(MESSAGE)
        camera = Camera.from_file(path)
        assert camera.model == "equidistant" and (camera.width, camera.height) == (300, 200)
        expected = (camera_of("equidistant").project(points_in_view()) - (20, 40) + 0.5) / 2 - 0.5
        np.testing.assert_allclose(camera.project(points_in_view()), expected)

    def test_ros1_message_without_distortion(self, tmp_path) -> None:
        path = tmp_path / "camera.yaml"
        path.write_text("width: 64\nheight: 48\nK: [50,0,31,0,50,23,0,0,1]\nD: [0,0,0,0,0]\n")
        assert Camera.from_file(path).model == "none"

    @pytest.mark.parametrize(
        "text, words",
        [
            ("", "holds no CameraInfo"),
            ("[1, 2]", "holds no CameraInfo"),
            ("a: [1, 2", "not valid YAML"),
            ("width: 640\nheight: 480", "needs image_width"),
            ("width: 640\nheight: 480\nk: [0,0,0,0,0,0,0,0,1]", "not calibrated"),
            ("width: 640\nheight: 480\nk: [1,0,0,0,1]", "9 numbers"),
            ("width: 640\nheight: 480\nk: [a,0,0,0,1,0,0,0,1]", "not numbers"),
            ("width: 640\nheight: 480\nk: [.nan,0,0,0,1,0,0,0,1]", "finite"),
            ("width: .inf\nheight: 480\nk: [1,0,0,0,1,0,0,0,1]", "not numbers"),
            ("width: 9\nheight: 9\nk: [1,0,0,0,1,0,0,0,1]\nd: {rows: 1}", "d has no `data`"),
            (CALIBRATION.replace("plumb_bob", "ftheta"), "must be one of"),
            (CALIBRATION.replace("-0.31, ", ""), None),
            (CALIBRATION.replace("[-0.31, 0.12, ", "["), "takes 4 or 5"),
        ],
    )
    def test_errors_are_one_line(self, tmp_path, text: str, words: str | None) -> None:
        path = tmp_path / "camera.yaml"
        path.write_text(text)
        if words is None:
            assert len(Camera.from_file(path).D) == 4
            return
        with pytest.raises(InputError, match=words) as caught:
            Camera.from_file(path)
        assert "\n" not in str(caught.value) and "camera.yaml" in str(caught.value)

    def test_missing_file(self, tmp_path) -> None:
        with pytest.raises(MissingFileError, match=r"none\.yaml does not exist"):
            Camera.from_file(tmp_path / "none.yaml")
        with pytest.raises(MissingFileError, match="is a folder"):
            Camera.from_file(tmp_path)


class TestChecks:
    @pytest.mark.parametrize(
        "matrix, D, model, size",
        [
            (np.diag([0.0, 500, 1]), [], "none", (640, 480)),
            (np.diag([500, -1.0, 1]), [], "none", (640, 480)),
            (np.diag([500, np.inf, 1]), [], "none", (640, 480)),
            (np.diag([500, 500, 2.0]), [], "none", (640, 480)),
            (np.eye(2), [], "none", (640, 480)),
            (np.diag([0.9, 1.2, 1]), [], "none", (640, 480)),  # as shares of the picture
            (np.diag([500, 4.0, 1]), [], "none", (640, 480)),  # [mm]
            (K, [np.nan, 0, 0, 0], "plumb_bob", (640, 480)),
            (K, [0.1], "equidistant", (640, 480)),
            (K, [], "pinhole?", (640, 480)),
            (K, [], "none", (0, 480)),
        ],
    )
    def test_wrong_values_raise(self, matrix, D, model, size) -> None:
        with pytest.raises(MPMeshError):
            Camera(matrix, np.array(D, dtype=float), model, *size)

    @pytest.mark.parametrize("model, count", [("plumb_bob", 5), ("rational_polynomial", 8)])
    def test_zeros_of_longer_models_are_dropped(self, model: str, count: int) -> None:
        """OpenCV gives 14 coefficients for the rational model, most drivers 5 or 8."""
        D = np.linspace(-0.1, 0.1, count)
        long = Camera(K, np.pad(D, (0, 14 - count)), model, 640, 480)
        np.testing.assert_array_equal(long.D, D)
        with pytest.raises(InputError, match=f"{model} takes"):
            Camera(K, np.pad(D, (0, 14 - count), constant_values=0.1), model, 640, 480)

    def test_matrix_cannot_change_afterwards(self) -> None:
        matrix = K.copy()
        camera = Camera(matrix, np.zeros(0), "none", 640, 480)
        matrix[0, 0] = 1.0
        assert camera.K[0, 0] == 520.0
        with pytest.raises(ValueError):
            camera.K[0, 0] = 1.0

    def test_from_fov(self) -> None:
        tall = Camera.from_fov(480, 640, 60.0)
        assert tall.K[0, 0] == pytest.approx(320 / np.tan(np.pi / 6))
        with pytest.raises(InputError, match="field of view"):
            Camera.from_fov(640, 480, 0.0)
