"""crop: the crop is a real camera, its picture agrees with it, and boxes of any kind are safe."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpmesh_core.camera import Camera
from mpmesh_core.crop import (
    CropCameras,
    camera_to_crop,
    covariance_to_camera,
    crop_images,
    crop_to_camera,
    crop_to_image,
    image_to_crop,
    look_at,
    project_to_crop,
)
from mpmesh_core.errors import ShapeError

K = np.array([[480.0, 0, 325.0], [0, 470.0, 236.0], [0, 0, 1]])
LENSES = {
    "none": [],
    "plumb_bob": [-0.28, 0.09, 1e-3, -8e-4, 0.0],
    "rational_polynomial": [0.45, -0.02, 5e-4, -3e-4, 0.002, 0.8, 0.1, 0.006],
    "equidistant": [-0.02, 0.008, -0.004, 0.0007],
}
BOXES = np.array([[50, 60, 180, 440], [250, 100, 420, 470], [450, 20, 630, 300]], np.float32)


def camera_of(model: str, scale: float = 1.0) -> Camera:
    camera = Camera(K, np.array(LENSES[model]), model, 640, 480)
    return camera.scaled(round(640 * scale), round(480 * scale))


def smooth_image(camera: Camera) -> np.ndarray:
    """A picture whose colour says where it was taken from: red = u, green = v."""
    v, u = np.mgrid[: camera.height, : camera.width].astype(float)
    blue = 128 + 100 * np.sin(u / 20) * np.sin(v / 20)
    return np.stack((u * 255 / camera.width, v * 255 / camera.height, blue), -1).astype(np.uint8)


class TestLookAt:
    @pytest.mark.parametrize("model", LENSES)
    def test_is_a_camera(self, model: str) -> None:
        crops = look_at(BOXES, camera_of(model))
        R = crops.R_crop_cam.double()
        torch.testing.assert_close(
            R @ R.mT, torch.eye(3).double().expand(3, 3, 3), atol=1e-6, rtol=0
        )
        torch.testing.assert_close(torch.linalg.det(R), torch.ones(3).double(), atol=1e-6, rtol=0)
        assert (crops.K[:, 0, 0] == crops.K[:, 1, 1]).all()
        assert (crops.K[:, :2, 2] == 127.5).all() and crops.ok.all()

    @pytest.mark.parametrize("model", LENSES)
    def test_looks_at_the_box_centre_and_holds_the_box(self, model: str) -> None:
        camera = camera_of(model)
        crops = look_at(BOXES, camera)
        boxes = torch.tensor(BOXES, dtype=torch.float64)
        centre = image_to_crop((boxes[:, None, :2] + boxes[:, None, 2:]) / 2, crops, camera)
        torch.testing.assert_close(centre, torch.full_like(centre, 127.5), atol=1e-3, rtol=0)
        corners = boxes[:, [[0, 1], [2, 1], [0, 3], [2, 3]]]
        spread = (image_to_crop(corners, crops, camera) - 127.5).abs().amax((-1, -2))
        assert (spread <= 128 / 1.25 + 1e-3).all()
        assert (spread >= 128 / 1.25 * 0.85).all()

    def test_box_in_the_middle_fills_the_crop(self) -> None:
        camera = Camera.from_fov(640, 480)
        crops = look_at(np.array([[269.5, 139.5, 369.5, 339.5]]), camera)  # 100 x 200 px
        assert crops.K[0, 0, 0].item() == pytest.approx(
            camera.K[0, 0] * 256 / (1.25 * 200), rel=1e-6
        )
        torch.testing.assert_close(crops.R_crop_cam[0], torch.eye(3))

    def test_upright_stays_upright(self) -> None:
        """A vertical line through the box centre is vertical in a level camera's crop."""
        camera = Camera.from_fov(640, 480, 90)
        crops = look_at(BOXES, camera)
        direction = torch.tensor(camera.directions((BOXES[:, :2] + BOXES[:, 2:]) / 2.0))
        above = direction - torch.tensor([0.0, 0.1, 0.0]).double()
        px = project_to_crop(torch.stack((direction, above), 1), crops)
        assert (px[:, 0, 0] - px[:, 1, 0]).abs().max() < 1e-3
        assert (px[:, 1, 1] < px[:, 0, 1]).all()

    @given(
        st.lists(
            st.tuples(*[st.one_of(st.floats(-3000, 3000), st.sampled_from([np.nan, np.inf]))] * 4),
            max_size=4,
        ),
        st.sampled_from(sorted(LENSES)),
    )
    @settings(max_examples=80, deadline=None)
    def test_any_box_gives_a_finite_camera(self, boxes: list, model: str) -> None:
        array = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        crops = look_at(array, camera_of(model))
        assert torch.isfinite(crops.K).all() and (crops.K[:, 0, 0] > 0).all()
        torch.testing.assert_close(
            torch.linalg.det(crops.R_crop_cam), torch.ones(len(array)), atol=1e-5, rtol=0
        )
        assert crops.ok.tolist() == np.isfinite(array).all(-1).tolist()

    def test_zero_size_box_is_taken_as_two_pixels(self) -> None:
        camera = Camera.from_fov(640, 480)
        point, small = look_at(np.array([[99.0, 99, 99, 99], [98, 98, 100, 100]]), camera).K
        torch.testing.assert_close(point, small)

    def test_empty_and_wrong_shape(self) -> None:
        assert len(look_at(np.zeros((0, 4)), camera_of("none"))) == 0
        with pytest.raises(ShapeError, match="boxes_px"):
            look_at(np.zeros((2, 5)), camera_of("none"))

    def test_batch_independence(self) -> None:
        camera = camera_of("plumb_bob")
        together = look_at(np.concatenate((BOXES, [[np.nan] * 4])), camera)
        for i in range(3):
            alone = look_at(BOXES[i : i + 1], camera)
            torch.testing.assert_close(together.K[i], alone.K[0], rtol=0, atol=0)
            torch.testing.assert_close(together.R_crop_cam[i], alone.R_crop_cam[0], rtol=0, atol=0)

    @pytest.mark.parametrize("model", LENSES)
    def test_far_box_is_masked(self, model: str) -> None:
        """Squares of its corners overflow; nobody else may notice."""
        camera = camera_of(model)
        boxes = np.array([BOXES[0], [1e200, 0, 1e201, 5], [-1e10, 0, 5, 5], [0, 0, 1e308, 1e308]])
        crops = look_at(boxes, camera)
        assert crops.ok.tolist() == [True, False, False, False]
        assert torch.isfinite(crops.K).all() and torch.isfinite(crops.R_crop_cam).all()
        pictures = crop_images(smooth_image(camera), camera, crops)
        assert pictures[0].any() and not pictures[1:].any()

    @pytest.mark.filterwarnings("error")
    def test_any_array_of_boxes(self) -> None:
        camera, boxes = camera_of("none"), np.array(BOXES, np.float32)
        wanted = look_at(boxes, camera).K
        fixed = boxes.copy()
        fixed.flags.writeable = False
        for same in (boxes[::-1][::-1], boxes.astype(">f4"), fixed, torch.from_numpy(boxes)):
            assert torch.equal(look_at(same, camera).K, wanted)
        assert torch.equal(look_at(boxes[::-1], camera).K, wanted.flip(0))


class TestMappings:
    @pytest.mark.parametrize("model", LENSES)
    def test_there_and_back(self, model: str) -> None:
        camera = camera_of(model)
        crops = look_at(BOXES, camera)
        px = torch.rand(3, 40, 2, dtype=torch.float64) * 255
        back = image_to_crop(crop_to_image(px, crops, camera), crops, camera)
        torch.testing.assert_close(back, px, atol=1e-3, rtol=0)
        points = torch.randn(3, 7, 3, dtype=torch.float64)
        torch.testing.assert_close(
            camera_to_crop(crop_to_camera(points, crops), crops), points, atol=1e-5, rtol=0
        )

    @pytest.mark.parametrize("model", LENSES)
    def test_both_ways_to_the_pixel_agree(self, model: str) -> None:
        camera = camera_of(model)
        crops = look_at(BOXES, camera)
        in_crop = torch.randn(3, 20, 3, dtype=torch.float64) * 0.3 + torch.tensor([0, 0, 4.0])
        points = crop_to_camera(in_crop, crops)
        via_crop = crop_to_image(project_to_crop(points, crops), crops, camera)
        torch.testing.assert_close(via_crop, camera.project(points), atol=1e-4, rtol=0)

    def test_covariance_turns_with_the_points(self) -> None:
        crops = look_at(BOXES, camera_of("none"))
        samples = torch.randn(3, 5000, 3).double() * torch.tensor([1.0, 2.0, 5.0])
        covariance = samples.mT @ samples / 5000
        turned = crop_to_camera(samples, crops)
        torch.testing.assert_close(
            covariance_to_camera(covariance, crops), turned.mT @ turned / 5000
        )

    def test_empty(self) -> None:
        camera = camera_of("plumb_bob")
        crops = look_at(np.zeros((0, 4)), camera)
        assert crop_to_image(torch.zeros(0, 24, 2), crops, camera).shape == (0, 24, 2)
        assert crop_to_camera(torch.zeros(0, 24, 3), crops).shape == (0, 24, 3)


def reference_picture(image: np.ndarray, camera: Camera, crops: CropCameras) -> np.ndarray:
    """Crops (N, S, S, 3) by the mean of 4x4 exact bilinear samples a pixel: slow and plain."""
    n, S = 4, crops.size
    at = (np.arange(S * n) + 0.5) / n - 0.5
    u, v = np.meshgrid(at, at)
    px = torch.tensor(np.stack((u, v), -1).reshape(1, -1, 2)).expand(len(crops), -1, -1)
    where = crop_to_image(px, crops, camera).numpy()
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0))).astype(np.float32)
    where = (where + 1).clip(0, (padded.shape[1] - 1.001, padded.shape[0] - 1.001))
    low = where.astype(int)
    a, b = np.moveaxis(where - low, -1, 0)[..., None].astype(np.float32)
    x, y = np.moveaxis(low, -1, 0)
    top = padded[y, x] * (1 - a) + padded[y, x + 1] * a
    bottom = padded[y + 1, x] * (1 - a) + padded[y + 1, x + 1] * a
    fine = top * (1 - b) + bottom * b
    return fine.reshape(len(crops), S, n, S, n, 3).mean((2, 4))


class TestCropImages:
    @pytest.mark.parametrize("model", LENSES)
    def test_shows_what_the_camera_sees(self, model: str) -> None:
        """Red and green of the picture name the image pixel; compare with the mapping."""
        camera = camera_of(model)
        crops = look_at(BOXES, camera)
        pictures = crop_images(smooth_image(camera), camera, crops)
        assert pictures.shape == (3, 3, 256, 256) and pictures.dtype == torch.uint8
        v, u = np.mgrid[8:250:11, 8:250:11]
        px = torch.tensor(np.stack((u, v), -1).reshape(1, -1, 2)).double().expand(3, -1, -1)
        at = crop_to_image(px, crops, camera).numpy()
        size = np.array([640, 480])
        inside = ((at > 4) & (at < size - 5)).all(-1)
        found = pictures.numpy()[:, :2, v, u].reshape(3, 2, -1).transpose(0, 2, 1)
        error = np.abs((found + 0.5) * size / 255 - at)[inside]  # the image is floored
        assert error.max() < 3.0 and np.abs(error.mean(0)).max() < 1.0

    @pytest.mark.parametrize("model", LENSES)
    @pytest.mark.parametrize("scale", [0.6, 1.0, 3.0])
    def test_does_not_alias(self, model: str, scale: float) -> None:
        camera = camera_of(model, scale)
        rng = np.random.default_rng(0)
        noise = rng.integers(0, 2, (camera.height, camera.width, 1), dtype=np.uint8) * 255
        image = np.repeat(noise, 3, axis=2)
        crops = look_at(BOXES[:1] * scale, camera, size=128)
        exact = reference_picture(image, camera, crops)[0]
        found = crop_images(image, camera, crops)[0].permute(1, 2, 0).numpy()
        difference = np.sqrt(np.mean((found - exact) ** 2)) / exact.std()
        assert difference < 0.75  # of white noise, the hardest picture; nearest pixel gives > 1.5
        assert found.std() < 1.3 * exact.std()

    @pytest.mark.parametrize("model", LENSES)
    def test_real_pictures_agree_with_the_slow_reference(self, model: str) -> None:
        camera = camera_of(model)
        image = smooth_image(camera)
        crops = look_at(BOXES[:1], camera, size=128)
        exact = reference_picture(image, camera, crops)
        found = crop_images(image, camera, crops).permute(0, 2, 3, 1).numpy()
        assert np.abs(found - exact).mean() < 1.0

    @pytest.mark.parametrize("model", LENSES)
    def test_outside_is_black_and_neighbours_untouched(self, model: str) -> None:
        camera = camera_of(model)
        image = np.full((480, 640, 3), 200, np.uint8)
        odd = [[np.nan] * 4, [-9000, -9000, -8900, -8800], [5, 5, 5, 5], [-300, -200, 900, 700]]
        boxes = np.concatenate((BOXES, odd)).astype(np.float32)
        pictures = crop_images(image, camera, look_at(boxes, camera))
        alone = crop_images(image, camera, look_at(BOXES, camera))
        assert torch.equal(pictures[:3], alone)
        assert (pictures[3] == 0).all() and (pictures[4] == 0).all()
        assert (pictures[5] == 200).all()
        assert (pictures[6] == 200).any()

    def test_fisheye_shows_no_ghosts_behind(self) -> None:
        """A crop that looks 80 degrees aside sees black where the lens model ends."""
        matrix = np.array([[300.0, 0, 319.5], [0, 300.0, 239.5], [0, 0, 1]])
        camera = Camera(matrix, np.array([-0.5, 0.0, 0.0, 0.0]), "plumb_bob", 640, 480)
        crops = look_at(np.array([[560.0, 100, 900, 400]]), camera)
        picture = crop_images(np.full((480, 640, 3), 255, np.uint8), camera, crops)[0, 0]
        assert (picture[:, -20:] == 0).all()

    def test_empty_and_errors(self) -> None:
        camera = camera_of("none")
        image = smooth_image(camera)
        none = look_at(np.zeros((0, 4)), camera)
        assert crop_images(image, camera, none).shape == (0, 3, 256, 256)
        with pytest.raises(ShapeError, match="image must have shape"):
            crop_images(image[:100], camera, none)
        with pytest.raises(ShapeError, match="uint8"):
            crop_images(image.astype(np.float32), camera, none)

    def test_any_memory_layout(self) -> None:
        camera = camera_of("plumb_bob")
        image = smooth_image(camera)
        crops = look_at(BOXES, camera)
        flipped = np.ascontiguousarray(image[:, :, ::-1])[
            :, :, ::-1
        ]  # as a BGR frame viewed as RGB
        assert torch.equal(crop_images(flipped, camera, crops), crop_images(image, camera, crops))
