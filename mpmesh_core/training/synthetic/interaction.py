"""interaction: people who deal with one another.

In   ground spots (N, 2) as (x left, z forward) [m]; poses (24, 3, 3) in a y-up world
Out  poses turned towards somebody near, most of them with an arm stretched out to them

What it makes are the pictures for which the refiner reads more than one person: bodies in reach of
each other, which hide and touch one another.
"""

from __future__ import annotations

import numpy as np

from mpmesh_core.training.synthetic.poses import hold_arm, turn

Array = np.ndarray
Random = np.random.Generator

REACH = (0.3, 0.75)  # [m] from pelvis to pelvis along the ground, before people give way
ASIDE_DEG = 30.0  # standard deviation of how far somebody looks past the other
ARM_OUT = 0.55  # share of arms that are stretched out


def bearings(spots: Array) -> Array:
    """(N,) direction from each spot to the nearest other one [degrees from z towards x]."""
    apart = spots[None] - spots[:, None]  # (N, N, 2)
    distance = np.linalg.norm(apart, axis=-1)
    np.fill_diagonal(distance, np.inf)
    nearest = apart[np.arange(len(spots)), distance.argmin(1)]
    return np.degrees(np.arctan2(nearest[:, 0], nearest[:, 1]))


def turn_towards(rng: Random, rotations: Array, bearing: float) -> Array:
    """A pose (24, 3, 3) turned about the vertical to look along `bearing` [degrees], or nearly so.

    Some arms are stretched out to whoever stands there.
    """
    turned = rotations.copy()
    front = turned[0, :, 2]
    now = np.degrees(np.arctan2(front[0], front[2]))
    turned[0] = turn("y", bearing - now + rng.normal(0, ASIDE_DEG)) @ turned[0]
    for side in (1, -1):
        if rng.random() < ARM_OUT:
            hold_arm(rng, turned, side, "reach")
    return turned
