"""statistics: rates and quantiles of the last seconds."""

import pytest

from mpmesh_ros.statistics import WINDOW_S, Series, Statistics


class TestSeries:
    def test_rate(self):
        series = Series()
        for i in range(31):
            series.add(i / 10)
        assert series.rate(3.0) == pytest.approx(10.0)

    def test_old_ones_are_forgotten(self):
        series = Series()
        series.add(0.0, 100.0)
        series.add(WINDOW_S, 1.0)
        series.add(WINDOW_S + 0.1, 3.0)
        assert series.quantiles(WINDOW_S + 0.1, 0.5) == [2.0]
        assert series.rate(1e6) == 0.0


class TestStatistics:
    def test_values(self):
        statistics = Statistics()
        for i in range(21):
            statistics.received(i / 10)
            statistics.published(i / 10, 0.05, 2, {"detect": 12.0})
        statistics.dropped("newer")
        values = statistics.values(2.0)
        assert values["camera rate [Hz]"] == "10.0"
        assert values["age of results p50 [ms]"] == "50"
        assert values["detect p50, p95 [ms]"] == "12.0, 12.0"
        assert values["dropped for a newer one"] == "1"
        assert not statistics.silent(2.0)
        assert statistics.silent(2.0 + 2 * WINDOW_S)

    def test_nothing_yet(self):
        values = Statistics().values(0.0)
        assert values["age of results p50 [ms]"] == "nan"
