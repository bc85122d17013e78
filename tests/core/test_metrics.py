"""Metrics against known truths and laws; scipy as an independent reference."""

import doctest
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import procrustes as scipy_procrustes
from scipy.spatial.transform import Rotation

from mpmesh_core.errors import ShapeError
from mpmesh_core.evaluation.metrics import mpjpe, pa_mpjpe, pck, procrustes_align


def similar(points: np.ndarray, seed: int) -> np.ndarray:
    """The points after a random rotation, scale and shift."""
    rng = np.random.default_rng(seed)
    turned = points @ Rotation.random(random_state=seed).as_matrix().T
    return rng.uniform(0.2, 3) * turned + rng.normal(size=3)


class TestProcrustes:
    @given(seed=st.integers(0, 10_000))
    @settings(max_examples=30, deadline=None)
    def test_undoes_a_similarity(self, seed: int) -> None:
        truth = np.random.default_rng(seed).normal(size=(17, 3))
        assert pa_mpjpe(similar(truth, seed), truth) < 1e-9

    def test_never_reflects(self) -> None:
        truth = np.random.default_rng(0).normal(size=(17, 3))
        assert pa_mpjpe(truth * [-1, 1, 1], truth) > 0.1

    @given(seed=st.integers(0, 1000))
    @settings(max_examples=20, deadline=None)
    def test_agrees_with_scipy_on_the_residual(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=(17, 3))
        predicted = similar(truth + 0.1 * rng.normal(size=truth.shape), seed)
        aligned = procrustes_align(predicted, truth)
        _, _, disparity = scipy_procrustes(truth, predicted)
        variance = ((truth - truth.mean(0)) ** 2).sum()
        assert np.isclose(((aligned - truth) ** 2).sum() / variance, disparity, atol=1e-9)

    def test_one_bad_person_stays_alone(self) -> None:
        truth = np.random.default_rng(1).normal(size=(3, 17, 3))
        predicted = truth.copy()
        predicted[1, 4] = np.nan
        error = pa_mpjpe(predicted, truth)
        assert np.isnan(error[1])
        assert error[[0, 2]].max() < 1e-9

    def test_collapsed_prediction_is_not_perfect(self) -> None:
        truth = np.random.default_rng(2).normal(size=(17, 3))
        assert pa_mpjpe(np.zeros((17, 3)), truth) > 0.5

    def test_empty_batch(self) -> None:
        assert pa_mpjpe(np.zeros((0, 17, 3)), np.zeros((0, 17, 3))).shape == (0,)


class TestExamples:
    @pytest.mark.parametrize("module", ["metrics", "predictions.found"])
    def test_examples_in_docstrings_run(self, module: str) -> None:
        found = import_module(f"mpmesh_core.evaluation.{module}")
        failed, tried = doctest.testmod(found)
        assert tried and not failed


class TestMpjpe:
    def test_root_alignment_removes_a_shift(self) -> None:
        truth = np.random.default_rng(3).normal(size=(4, 24, 3))
        assert mpjpe(truth + 5.0, truth).max() < 1e-12
        assert np.allclose(mpjpe(truth + [3.0, 0, 4.0], truth, root=None), 5.0)

    def test_wrong_shape(self) -> None:
        with pytest.raises(ShapeError, match=r"truth must have shape \(\.\.\.P, J, 3\)"):
            mpjpe(np.zeros((2, 24, 3)), np.zeros((2, 17, 3)))

    @pytest.mark.parametrize("leading", [(2,), (), (1,), (3, 1)])
    def test_nothing_is_broadcast(self, leading: tuple[int, ...]) -> None:
        with pytest.raises(ShapeError, match="truth must have shape"):
            mpjpe(np.zeros((3, 14, 3)), np.zeros((*leading, 14, 3)))

    def test_small_numbers_and_whole_ones(self) -> None:
        """Unsigned bytes don't wrap; a tenth of a micrometre still has a scale."""
        low, high = np.zeros((14, 3), np.uint8), np.ones((14, 3), np.uint8)
        assert mpjpe(low, high, root=None) == pytest.approx(3**0.5)
        truth = np.random.default_rng(5).normal(size=(14, 3))
        assert pa_mpjpe(1e-7 * truth, truth) < 1e-6


class TestPck:
    def test_counts_only_labelled_keypoints(self) -> None:
        truth = np.zeros((1, 4, 2))
        predicted = np.array([[[0, 0], [9, 0], [11, 0], [500, 0]]], float)
        weight = np.array([[1, 1, 1, 0]], float)
        share = pck(predicted, truth, weight, np.array([50.0]), at=0.2)
        assert np.allclose(share, 2 / 3)

    def test_every_element_has_its_reference(self) -> None:
        points, weight = np.zeros((2, 4, 2)), np.ones((2, 4))
        for reference in (np.ones(1), np.ones(3), np.ones(())):
            with pytest.raises(ShapeError, match="reference"):
                pck(points, points, weight, reference, 0.2)

    def test_no_label_gives_nan(self) -> None:
        share = pck(np.zeros((1, 4, 2)), np.zeros((1, 4, 2)), np.zeros((1, 4)), np.ones(1), 0.2)
        assert np.isnan(share).all()
