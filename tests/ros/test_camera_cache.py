"""camera_cache: the camera of a picture, whatever camera_info does."""

from types import SimpleNamespace

import numpy as np
import pytest

from mpmesh_core.camera import Camera
from mpmesh_core.errors import InputError
from mpmesh_ros.camera_cache import CameraCache, info_topic, is_rectified


def info(width=640, height=480, f=500.0, d=(), model="plumb_bob", p=None, binning=0, roi=None):
    x, y, w, h = roi or (0, 0, 0, 0)
    k = [f, 0.0, width / 2, 0.0, f, height / 2, 0.0, 0.0, 1.0]
    return SimpleNamespace(
        width=width,
        height=height,
        distortion_model=model,
        d=list(d),
        k=k,
        p=p or [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0],
        binning_x=binning,
        binning_y=binning,
        roi=SimpleNamespace(x_offset=x, y_offset=y, width=w, height=h),
    )


class TestCameraCache:
    def test_one_message_serves_all_pictures(self):
        cache = CameraCache("/camera_info")
        cache.update(info())
        assert cache.camera(640, 480) is cache.camera(640, 480)

    def test_an_equal_message_changes_nothing(self):
        cache = CameraCache("/camera_info")
        cache.update(info())
        first = cache.camera(640, 480)
        cache.update(info())
        assert cache.camera(640, 480) is first and cache.changes == 0
        cache.update(info(f=600.0))
        assert cache.camera(640, 480).K[0, 0] == 600.0 and cache.changes == 1

    def test_none_yet_says_what_to_do(self):
        with pytest.raises(InputError, match=r"/camera_info: no camera_info yet.*fov_degrees"):
            CameraCache("/camera_info").camera(640, 480)

    def test_fov_until_one_comes(self):
        cache = CameraCache("/camera_info", fov=60.0)
        assert cache.camera(320, 240).width == 320
        cache.update(info())
        assert cache.camera(640, 480).K[0, 0] == 500.0

    def test_a_fixed_camera_stays(self):
        camera = Camera.from_fov(640, 480)
        cache = CameraCache("/camera_info", fixed=camera)
        cache.update(info(f=123.0))
        assert cache.camera(640, 480) is camera

    def test_k_of_zero_is_named_and_forgiven(self):
        cache = CameraCache("/camera_info")
        cache.update(info(f=0.0))
        with pytest.raises(InputError, match=r"/camera_info: focal lengths.*not calibrated"):
            cache.camera(640, 480)
        cache.update(info())
        assert cache.camera(640, 480).K[0, 0] == 500.0

    def test_k_of_zero_later_leaves_the_good_one(self):
        cache = CameraCache("/camera_info")
        cache.update(info())
        cache.update(info(f=0.0))
        assert cache.camera(640, 480).K[0, 0] == 500.0
        assert "not calibrated" in cache.problem
        cache.update(info())
        assert cache.problem is None

    def test_another_size_waits_for_its_camera(self):
        cache = CameraCache("/camera_info")
        cache.update(info())
        with pytest.raises(InputError, match="640x480, they are 320x240"):
            cache.camera(320, 240)
        cache.update(info(320, 240))
        assert cache.camera(320, 240).width == 320

    def test_rectified_pictures_take_p(self):
        p = [450.0, 0.0, 321.0, 0.0, 0.0, 450.0, 241.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        message = info(d=(0.1, 0.0, 0.0, 0.0, 0.0), p=p)
        cache = CameraCache("/camera_info", rectified=True)
        cache.update(message)
        camera = cache.camera(640, 480)
        assert camera.model == "none" and camera.K[0, 2] == 321.0
        raw = CameraCache("/camera_info")
        raw.update(message)
        assert raw.camera(640, 480).model == "plumb_bob"

    def test_binning_and_region_describe_the_picture(self):
        cache = CameraCache("/camera_info")
        cache.update(info(binning=2, roi=(100, 80, 400, 200)))
        camera = cache.camera(200, 100)
        np.testing.assert_allclose(camera.K[0], [250.0, 0.0, (320 - 100) / 2 - 0.25])

    @pytest.mark.parametrize(
        ("model", "count"), [("plumb_bob", 5), ("rational_polynomial", 8), ("equidistant", 4)]
    )
    def test_lens_models(self, model, count):
        cache = CameraCache("/camera_info")
        cache.update(info(model=model, d=[0.01] * count))
        assert cache.camera(640, 480).model == model

    def test_unknown_lens_model(self):
        cache = CameraCache("/camera_info")
        cache.update(info(model="omni", d=[0.1]))
        with pytest.raises(InputError, match="omni"):
            cache.camera(640, 480)


def test_info_topic():
    assert info_topic("/camera/color/image_raw") == "/camera/color/camera_info"
    assert info_topic("/image") == "/camera_info"


def test_is_rectified():
    assert is_rectified("/camera/image_rect", "auto")
    assert is_rectified("/camera/image_rect_color", "auto")
    assert not is_rectified("/image_rect/image_raw", "auto")
    assert is_rectified("/camera/image_raw", "rectified")
    assert not is_rectified("/camera/image_rect", "raw")
