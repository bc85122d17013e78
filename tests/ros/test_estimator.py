"""estimator: a picture becomes a result, or a problem that is said once."""

from types import SimpleNamespace

import numpy as np
import pytest
from people_samples import result_of
from test_camera_cache import info

from mpmesh_core.camera import Camera
from mpmesh_core.errors import NumericalError
from mpmesh_ros.camera_cache import CameraCache
from mpmesh_ros.estimator import Estimator
from mpmesh_ros.pictures import Picture
from mpmesh_ros.problems import Problems


class FakePipeline:
    """Finds nobody, and remembers what it was asked."""

    def __init__(self):
        self.calls, self.starts, self.error = [], 0, None
        self.prepares, self.prepared = True, []

    def start(self):
        self.starts += 1

    def prepare(self, camera):
        self.prepared.append((camera.width, camera.height))

    def fail(self, camera):
        raise self.error

    def __call__(self, image, camera, stamp, frame, source, depth):
        if self.error is not None:
            raise self.error
        self.calls.append(SimpleNamespace(stamp=stamp, frame=frame, depth=depth, image=image))
        return result_of(Camera.from_fov(camera.width, camera.height), [])


@pytest.fixture
def line():
    said, told = [], []
    pipeline, cameras = FakePipeline(), CameraCache("/camera_info")
    problems = Problems(said.append, said.append)
    estimator = Estimator(pipeline, cameras, problems, told.append)
    return SimpleNamespace(
        pipeline=pipeline, cameras=cameras, estimator=estimator, said=said, problems=problems,
        told=told,
    )  # fmt: skip


def picture(encoding="rgb8", width=640, height=480, depth=None, stamped=True, arrived=0.0):
    stamp = SimpleNamespace(sec=12 * stamped, nanosec=500_000_000 * stamped)
    message = SimpleNamespace(
        header=SimpleNamespace(stamp=stamp, frame_id="camera"),
        encoding=encoding,
        width=width,
        height=height,
        step=3 * width,
        is_bigendian=0,
        data=bytes(3 * width * height),
    )
    return Picture(message, False, arrived, 0.0, depth)


class TestEstimator:
    def test_a_size_is_prepared_for_once_which_is_told(self, line):
        """Cameras that zoom give new intrinsics with every picture, which must not wait."""
        for i, (width, height) in enumerate([(640, 480), (640, 480), (320, 240), (640, 480)]):
            line.cameras.update(info(width=width, height=height, f=500.0 + i))
            assert line.estimator.estimate(picture(width=width, height=height)) is not None
        assert line.pipeline.prepared == [(640, 480), (320, 240)]
        assert len(line.told) == 4
        assert "preparing for pictures of 640x480" in line.told[0]

    def test_nothing_is_told_where_nothing_is_to_be_prepared(self, line):
        line.pipeline.prepares = False
        line.cameras.update(info())
        assert line.estimator.estimate(picture()) is not None
        assert line.pipeline.prepared == line.told == []

    def test_a_preparation_that_fails_is_tried_again(self, line):
        line.cameras.update(info())
        line.pipeline.error = NumericalError("no memory")
        prepare, line.pipeline.prepare = line.pipeline.prepare, line.pipeline.fail
        assert line.estimator.estimate(picture()) is None
        assert not line.estimator.preparing
        line.pipeline.prepare, line.pipeline.error = prepare, None
        assert line.estimator.estimate(picture()) is not None
        assert line.pipeline.prepared == [(640, 480)]

    def test_a_good_picture(self, line):
        line.cameras.update(info())
        estimate = line.estimator.estimate(picture())
        assert estimate.image.shape == (480, 640, 3)
        assert estimate.header.nanosec == 500_000_000
        assert line.pipeline.calls[0].stamp == 12.5
        assert not line.said

    def test_time_goes_on_without_stamps(self, line):
        line.cameras.update(info())
        for arrived in (7.0, 7.5):
            line.estimator.estimate(picture(stamped=False, arrived=arrived))
        assert [call.stamp for call in line.pipeline.calls] == [7.0, 7.5]

    @pytest.mark.parametrize("encoding", ["foo", "32FC1"])
    def test_bad_encoding_once_and_recovery(self, line, encoding):
        line.cameras.update(info())
        assert [line.estimator.estimate(picture(encoding)) for _ in range(3)] == [None] * 3
        assert len(line.said) == 1 and encoding in line.said[0]
        assert line.estimator.estimate(picture()) is not None
        assert line.said[1] == "image: well again"

    def test_late_camera_info(self, line):
        assert line.estimator.estimate(picture()) is None
        line.cameras.update(info())
        assert line.estimator.estimate(picture()) is not None
        assert ["no camera_info yet" in line.said[0], line.said[1]] == [
            True,
            "camera_info: well again",
        ]

    def test_k_of_zero_after_a_good_one_is_said_and_not_fatal(self, line):
        line.cameras.update(info())
        line.cameras.update(info(f=0.0))
        assert line.estimator.estimate(picture()) is not None
        assert "the last good one stays" in line.said[0]

    def test_size_change(self, line):
        line.cameras.update(info())
        assert line.estimator.estimate(picture(width=320, height=240)) is None
        line.cameras.update(info(320, 240))
        assert line.estimator.estimate(picture(width=320, height=240)) is not None

    def test_a_network_that_fails(self, line):
        line.cameras.update(info())
        line.pipeline.error = NumericalError("NaN")
        assert line.estimator.estimate(picture()) is None
        assert line.problems.current == {"pipeline": "NaN"}

    def test_frames_are_numbered_and_people_forgotten_on_demand(self, line):
        line.cameras.update(info())
        line.estimator.estimate(picture())
        line.estimator.forget_people()
        line.estimator.estimate(picture())
        assert [call.frame for call in line.pipeline.calls] == [0, 1]
        assert line.pipeline.starts == 1

    def test_depth_goes_along(self, line):
        line.cameras.update(info())
        values = np.full((480, 640), 2500, "<u2")
        depth = SimpleNamespace(
            encoding="16UC1", width=640, height=480, step=1280, is_bigendian=0,
            data=values.tobytes(),
        )  # fmt: skip
        line.estimator.estimate(picture(depth=depth))
        assert line.pipeline.calls[0].depth[5, 5] == np.float32(2.5)

    @pytest.mark.parametrize(("encoding", "width"), [("rgb8", 640), ("16UC1", 320)])
    def test_without_a_usable_depth_it_goes_on(self, line, encoding, width):
        line.cameras.update(info())
        depth = SimpleNamespace(
            encoding=encoding, width=width, height=480, step=2 * width, is_bigendian=0,
            data=bytes(2 * width * 480),
        )  # fmt: skip
        assert line.estimator.estimate(picture(depth=depth)) is not None
        assert line.pipeline.calls[0].depth is None
        assert "depth" in line.problems.current
