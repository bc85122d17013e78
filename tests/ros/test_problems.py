"""problems: each cause is said once."""

import pytest

from mpmesh_ros.problems import LASTS_S, QUIET_S, Problems


class Log:
    def __init__(self):
        self.warnings, self.infos, self.now = [], [], 0.0
        self.problems = Problems(self.warnings.append, self.infos.append, lambda: self.now)


@pytest.fixture
def log():
    return Log()


class TestProblems:
    def test_once_per_cause_until_solved(self, log):
        for _ in range(5):
            log.problems.report("image", "no such encoding")
        assert log.warnings == ["no such encoding"]
        log.problems.solved("image")
        log.problems.solved("image")
        assert log.infos == ["image: well again"]
        assert log.problems.current == {}

    def test_numbers_do_not_make_a_cause(self, log):
        log.problems.report("image", "has 100 bytes, needs 200")
        log.problems.report("image", "has 99.5 bytes, needs 200")
        assert len(log.warnings) == 1
        assert log.problems.current == {"image": "has 99.5 bytes, needs 200"}

    def test_another_cause_is_said(self, log):
        log.problems.report("image", "no such encoding")
        log.problems.report("image", "too short")
        log.problems.report("camera_info", "too short")
        assert log.warnings == ["no such encoding", "too short", "too short"]

    def test_what_comes_and_goes_is_not_said_each_time(self, log):
        for log.now in range(10):
            log.problems.report("age", "too old")
            log.problems.solved("age")
        assert len(log.warnings) == len(log.infos) == 1
        log.now += QUIET_S
        log.problems.report("age", "too old")
        assert len(log.warnings) == 2

    def test_ends_with_the_pictures_that_had_it(self, log):
        log.problems.report("image", "no such encoding")
        log.now = LASTS_S - 1
        assert log.problems.current
        log.problems.report("image", "no such encoding")
        log.now += LASTS_S - 1
        assert log.problems.current
        log.now += 2
        assert log.problems.current == {}
        log.problems.solved("image")
        assert log.infos == []  # the camera has died: nothing is well again

    def test_what_ended_and_came_again_is_well_again(self, log):
        log.problems.report("image", "no such encoding")
        log.now = LASTS_S + 1
        assert log.problems.current == {} and log.infos == []
        log.problems.report("image", "no such encoding")
        log.problems.solved("image")
        assert len(log.warnings) == 1 and log.infos == ["image: well again"]

    def test_what_is_reported_once_lasts_as_long_as_it_does(self, log):
        wrong = [True]
        log.problems.report("qos", "doesn't fit", lambda: bool(wrong))
        log.now = 100 * LASTS_S
        log.problems.expire(after_s=0.0)
        assert log.problems.current == {"qos": "doesn't fit"}
        wrong.clear()
        assert log.problems.current == {}
        assert log.infos == ["qos: well again"]

    def test_forgotten(self, log):
        log.problems.report("image", "no such encoding")
        log.problems.report("qos", "doesn't fit", lambda: True)
        log.problems.expire(after_s=0.0)
        assert log.problems.current == {"qos": "doesn't fit"}
        log.problems.forget("qos")
        assert log.problems.current == {} and not log.infos
