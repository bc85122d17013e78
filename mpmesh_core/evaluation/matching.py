"""evaluation.matching: whom a found person is compared with."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from mpmesh_core.types import Array

MAX_DISTANCE = 1.0  # [m] between matched pelvises


def match_positions(found: Array, known: Array) -> list[tuple[int, int]]:
    """Pairs of nearest pelvises, at most `MAX_DISTANCE` apart, by the Hungarian method.

    Args:
        found: (P, 3) [m].
        known: (Q, 3) [m].

    Returns:
        Rows of both that belong together.
    """
    if not len(found) or not len(known):
        return []
    distance = np.linalg.norm(found[:, None] - known[None], axis=-1)
    rows, columns = linear_sum_assignment(np.minimum(distance, 10 * MAX_DISTANCE))
    return [(int(r), int(c)) for r, c in zip(rows, columns) if distance[r, c] <= MAX_DISTANCE]
