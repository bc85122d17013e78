"""pictures and depth_matcher: ages, stamps and pairs."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mpmesh_core.errors import InputError
from mpmesh_core.sources.messages import depth_from_message, image_from_compressed
from mpmesh_ros.depth_matcher import DepthMatcher
from mpmesh_ros.pictures import (
    FOREIGN_CLOCK_S,
    STILL_S,
    Picture,
    StampWatch,
    age_by_stamp,
    foreign_stamp,
)

SECOND = 1_000_000_000


def message(seconds, **fields):
    sec, nanosec = divmod(round(seconds * SECOND), SECOND)
    header = SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id="camera")
    return SimpleNamespace(header=header, **fields)


def picture(seconds):
    return Picture(message(seconds), False, seconds, 0.0)


class TestAge:
    def test_counts_from_the_stamp(self):
        age = age_by_stamp(100 * SECOND, round(100.2 * SECOND))
        assert age == pytest.approx(0.2)
        assert Picture(message(100), False, 50.0, age).age(50.3) == pytest.approx(0.5)

    def test_a_stamp_a_little_ahead_is_new(self):
        assert age_by_stamp(100 * SECOND, round(99.9 * SECOND)) == 0.0

    @pytest.mark.parametrize("ahead", [-FOREIGN_CLOCK_S - 1, -1e6, 5.0, 1e6])
    def test_another_clock_counts_from_arrival(self, ahead):
        now = 2_000_000 * SECOND
        assert age_by_stamp(now + round(ahead * SECOND), now) is None
        assert Picture(message(0), False, 50.0, None).age(50.3) == pytest.approx(0.3)


class TestTime:
    def test_is_the_stamp(self):
        assert picture(12.5).time == 12.5

    def test_is_the_arrival_without_a_stamp(self):
        assert Picture(message(0), False, 50.0, None).time == 50.0


class TestStandstill:
    def times(self, *events):
        """Pictures' times, of (stamp, arrival) each."""
        watch, times = StampWatch(), []
        for stamp, arrived in events:
            made = message(stamp)
            stood = watch.standstill(round(stamp * SECOND), arrived)
            times.append(Picture(made, False, arrived, None, standstill=stood).time)
        return np.array(times)

    def test_time_goes_on_without_a_leap(self):
        arrivals = np.arange(0, 9, 0.25)
        times = self.times(*((12.5, arrived) for arrived in arrivals))
        assert np.diff(times).max() <= 0.25 + 1e-9
        assert times[-1] - times[0] == pytest.approx(arrivals[-1] - STILL_S)

    @pytest.mark.parametrize("step", [1 / 15, 1.0])
    def test_repeated_pictures_and_stamps_of_whole_seconds_tell_time(self, step):
        arrivals = np.arange(0, 9, 1 / 30) + np.random.default_rng(0).uniform(0, 0.03, 270)
        stamps = [100.0 + step * int(arrived / step) for arrived in arrivals]
        np.testing.assert_allclose(self.times(*zip(stamps, arrivals)), stamps)

    def test_a_pause_is_no_standstill(self):
        np.testing.assert_allclose(self.times((1.0, 1.0), (1.1, 60.0), (1.2, 60.1)), [1, 1.1, 1.2])

    def test_says_so(self):
        assert "stamps stand still" in foreign_stamp(1_000 * SECOND, 1_000 * SECOND, 0.1)


class TestForeignStamp:
    @pytest.mark.parametrize(
        ("stamp", "now", "said"),
        [
            (0, 2_000, "stamps are 0"),
            (1_000, 0, "no /clock"),
            (1_000, 2_000, "stamps are 1000 s behind the clock"),
            (2_000, 1_000, "stamps are 1000 s ahead of the clock"),
        ],
    )
    def test_says_what_is_wrong(self, stamp, now, said):
        assert said in foreign_stamp(stamp * SECOND, now * SECOND)


class TestDepthMatcher:
    def match(self, *events, slop=0.02):
        delivered = []
        matcher = DepthMatcher(slop, delivered.append)
        for kind, time in events:
            if kind == "image":
                matcher.add_picture(picture(time))
            else:
                matcher.add_depth(message(time))
        return [
            (stamp(p.message), None if p.depth is None else stamp(p.depth)) for p in delivered
        ], matcher

    def test_depth_before_the_picture(self):
        pairs, _ = self.match(("depth", 1.0), ("image", 1.01))
        assert pairs == [(1.01, 1.0)]

    def test_depth_after_the_picture(self):
        pairs, _ = self.match(("image", 1.0), ("depth", 1.0))
        assert pairs == [(1.0, 1.0)]

    def test_the_nearest_one(self):
        pairs, _ = self.match(("depth", 1.0), ("depth", 1.03), ("image", 1.025), slop=0.1)
        assert pairs == [(1.025, 1.03)]

    def test_without_depth_it_goes_on_with_the_next_picture(self):
        pairs, _ = self.match(("image", 1.0), ("image", 1.1), ("depth", 1.1))
        assert pairs == [(1.0, None), (1.1, 1.1)]

    def test_no_depth_at_all_delays_nothing(self):
        pairs, matcher = self.match(*(("image", 0.1 * i) for i in range(20)))
        assert matcher.missing and pairs[-1][0] == pytest.approx(1.9)

    @pytest.mark.parametrize("without", [3, 5, 30])
    def test_depth_that_comes_late_or_again_is_joined(self, without):
        """A camera driver starts its depth stream seconds after the pictures."""
        alone = [("image", 0.1 * i) for i in range(without)]
        both = [(kind, 0.1 * i) for i in range(without, without + 9) for kind in ("image", "depth")]
        pairs, matcher = self.match(*alone, *both)
        assert len(pairs) == without + 9
        assert not matcher.missing
        assert [depth for _, depth in pairs[without + 1 :]] == [i for i, _ in pairs[without + 1 :]]

    @pytest.mark.parametrize("rate", [5, 15, 30, 60])
    @pytest.mark.parametrize("order", [("image", "depth"), ("depth", "image")])
    def test_depth_is_of_the_same_moment(self, rate, order):
        """Also where the depth of the picture before is within the slop."""
        pairs, _ = self.match(*((kind, i / rate) for i in range(20) for kind in order), slop=0.04)
        assert len(pairs) == 20
        # the second picture comes before the rate of the depth is known
        assert [depth for _, depth in pairs[2:]] == [image for image, _ in pairs[2:]]

    def test_depth_a_little_before_its_picture_delays_nothing(self):
        events = [e for i in range(9) for e in (("depth", i / 30), ("image", i / 30 + 0.01))]
        for count in range(2, len(events) + 1, 2):
            pairs, _ = self.match(*events[:count], slop=0.04)
            assert pairs[-1] == pytest.approx((events[count - 1][1], events[count - 2][1]))

    def test_the_next_picture_ends_the_waiting(self):
        """With what is there: depth that stopped, or that comes later than the next picture."""
        events = [e for i in range(5) for e in (("depth", i / 30), ("image", i / 30))]
        pairs, _ = self.match(*events, ("image", 5 / 30), ("image", 6 / 30), slop=0.04)
        assert pairs[5] == pytest.approx((5 / 30, 4 / 30))

    def test_depth_that_is_always_too_late_is_not_waited_for(self):
        pairs, matcher = self.match(
            *(event for i in range(30) for event in (("image", 0.1 * i), ("depth", 0.1 * i - 0.15)))
        )
        assert matcher.missing and len(pairs) == 30

    def test_without_stamps_the_newest_one(self):
        _, matcher = self.match()
        depths = [message(0) for _ in range(3)]
        for depth in depths:
            matcher.add_depth(depth)
        assert matcher._nearest(picture(0)) is depths[-1]

    def test_time_going_back(self):
        pairs, _ = self.match(("depth", 9.0), ("depth", 1.0), ("image", 1.0))
        assert pairs == [(1.0, 1.0)]


class TestCompressed:
    @pytest.mark.parametrize(("size", "fault"), [(0, "empty"), (40, "cut off"), (-9, "cut off")])
    def test_an_error_names_the_message(self, size, fault):
        _, data = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))
        broken = SimpleNamespace(format="jpeg", data=data.tobytes()[:size])
        with pytest.raises(InputError, match=f"^compressed image message 'jpeg': {fault}") as error:
            image_from_compressed(broken)
        assert "file" not in str(error.value)


class TestDepthFromMessage:
    def test_millimetres(self):
        values = np.array([[0, 1500], [2000, 65535]], "<u2")
        depth = depth_from_message(image("16UC1", values))
        np.testing.assert_allclose(depth, values / 1000.0)

    def test_metres_big_endian_with_padding(self):
        values = np.array([[1.5, np.nan], [2.0, 3.0]], ">f4")
        padded = np.pad(values.view(np.uint8), ((0, 0), (0, 4)))
        made = image("32FC1", values, is_bigendian=1, step=12, data=padded.tobytes())
        np.testing.assert_array_equal(depth_from_message(made), values.astype("<f4"))

    def test_others_are_refused(self):
        with pytest.raises(InputError, match="rgb8"):
            depth_from_message(image("rgb8", np.zeros((2, 2), "<u2")))
        with pytest.raises(InputError, match="needs"):
            depth_from_message(image("16UC1", np.zeros((2, 2), "<u2"), data=b"1"))


def image(encoding, values, **fields):
    height, width = values.shape
    made = {
        "encoding": encoding,
        "height": height,
        "width": width,
        "step": values.itemsize * width,
        "is_bigendian": 0,
        "data": values.tobytes(),
    }
    return SimpleNamespace(**{**made, **fields})


def stamp(made):
    return made.header.stamp.sec + 1e-9 * made.header.stamp.nanosec
