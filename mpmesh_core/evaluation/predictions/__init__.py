"""Saved output of any method, read for the evaluation; see `reading.open_predictions`."""

from mpmesh_core.evaluation.predictions.found import Find, Found, frame_name
from mpmesh_core.evaluation.predictions.reading import Predictions, of_these, open_predictions

__all__ = ["Find", "Found", "Predictions", "frame_name", "of_these", "open_predictions"]
