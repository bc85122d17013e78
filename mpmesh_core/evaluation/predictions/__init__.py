"""Saved output of any method, read for the evaluation; see `reading.open_predictions`."""

from mpmesh_core.evaluation.predictions.found import Find, Found, frame_name
from mpmesh_core.evaluation.predictions.reading import open_predictions

__all__ = ["Find", "Found", "frame_name", "open_predictions"]
