"""Samples: exact while short, bounded and evenly spaced when long."""

from __future__ import annotations

import numpy as np

from mpmesh_core.errors import InputError
from mpmesh_core.runner import RunSummary
from mpmesh_core.samples import MOST, Samples
from mpmesh_core.sources import BadFrame
from mpmesh_core.types import FrameResult


def sampled(values: np.ndarray) -> Samples:
    samples = Samples()
    for value in values:
        samples.add(float(value))
    return samples


def test_a_short_series_is_kept_whole() -> None:
    values = np.random.default_rng(0).gamma(4, 10, MOST - 1)
    assert sampled(values).values == values.tolist()


def test_a_long_series_is_thinned_evenly() -> None:
    samples = sampled(np.arange(5 * MOST))
    assert samples.count == 5 * MOST
    assert MOST // 2 <= len(samples.values) < MOST
    np.testing.assert_array_equal(samples.values, np.arange(0, 5 * MOST, samples.step))


def test_percentiles_of_a_long_series() -> None:
    values = np.random.default_rng(1).gamma(4, 10, 20 * MOST)
    ranks = [(values < value).mean() for value in np.percentile(sampled(values).values, (50, 95))]
    np.testing.assert_allclose(ranks, (0.50, 0.95), atol=0.015)


def test_a_run_without_an_end_keeps_its_memory() -> None:
    """Ten hours of a camera at 30 Hz are as large as ten minutes."""
    summary = RunSummary()
    result = FrameResult(0, 0.0, "camera 0", 4, 4, np.eye(3), np.zeros(5), [], {"detect": 7.0})
    for _ in range(3 * MOST):
        summary.count(result)
    assert summary.frames == 3 * MOST
    for index in range(100):
        summary.count_bad(BadFrame(index, "camera 0", ""), InputError("another size"))
    assert summary.bad_frames == 100 and [bad.index for bad in summary.bad] == list(range(10))
    for times in (summary.latency, *summary.timings.values()):
        assert times.count == 3 * MOST and len(times.values) < MOST
