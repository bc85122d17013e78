"""Shape checks: what fits, what does not, and what the message says."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpmesh_core.checks import check_shapes
from mpmesh_core.errors import MissingFileError, MPMeshError, ShapeError, UsageError


class TestCheckShapes:
    @given(st.lists(st.integers(0, 4), max_size=4))
    def test_ellipsis_takes_any_leading_dimensions(self, leading: list[int]) -> None:
        check_shapes(joints=(torch.zeros(*leading, 24, 3), (..., 24, 3)))

    def test_named_leading_dimensions_bind(self) -> None:
        points, of_people = ("...P", "J", 3), ("...P",)
        check_shapes(a=(np.zeros((5, 2, 24, 3)), points), b=(np.zeros((5, 2)), of_people))
        with pytest.raises(ShapeError, match=r"b must have shape \(\.\.\.P, J, 3\)"):
            check_shapes(a=(np.zeros((5, 24, 3)), points), b=(np.zeros((24, 3)), points))

    def test_names_bind_across_arguments(self) -> None:
        with pytest.raises(ShapeError, match=r"scores must have shape \(N,\), got \(3,\)"):
            check_shapes(boxes=(np.zeros((2, 4)), ("N", 4)), scores=(np.zeros(3), ("N",)))

    @pytest.mark.parametrize("shape", [(3,), (24,), (3, 24), (24, 4)])
    def test_wrong_shape_says_what_was_expected(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ShapeError, match=r"joints must have shape \(\.\.\., 24, 3\)"):
            check_shapes(joints=(np.zeros(shape), (..., 24, 3)))

    def test_a_list_is_no_array(self) -> None:
        with pytest.raises(ShapeError, match="got list"):
            check_shapes(K=([[1.0]], (3, 3)))


class TestErrors:
    def test_kinds_are_also_builtins(self) -> None:
        assert issubclass(ShapeError, ValueError)
        assert issubclass(MissingFileError, FileNotFoundError)
        assert issubclass(ShapeError, MPMeshError)

    def test_exit_codes(self) -> None:
        assert UsageError("x").exit_code == 2
        assert ShapeError("x").exit_code == 1

    def test_missing_file_prints_its_message(self) -> None:
        assert str(MissingFileError("no file a.npz")) == "no file a.npz"
