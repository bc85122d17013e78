"""Backends whose package may be missing, as parameters of tests."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

needs_openvino = pytest.mark.skipif(
    find_spec("openvino") is None, reason="the optional package openvino isn't installed"
)
OPENVINO = pytest.param("openvino", marks=needs_openvino)
