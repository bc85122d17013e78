"""walk: procedural motion, as functions of time, for the demo clip.

In   time [s] and a style
Out  local rotations (24, 3, 3) of a person who faces +z of a y-up world
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpmesh_core.training.synthetic.poses import turn

Array = np.ndarray

STRIDE = 1.35  # [m] of a walk cycle (two steps)


@dataclass(frozen=True)
class Gait:
    """How somebody walks."""

    swing: float = 28.0  # [degrees] of the thighs
    arms: float = 26.0  # [degrees]
    lean: float = 3.0  # [degrees] forward
    phase: float = 0.0  # [rad]


def walking(gait: Gait, distance: float) -> Array:
    """A walk cycle after `distance` [m] along the way, so that the feet hardly slide."""
    phase = gait.phase + 2 * np.pi * distance / STRIDE
    rotations = _upright(gait.lean)
    for hip, knee, ankle, shoulder, elbow, side in (
        (1, 4, 7, 16, 18, 1.0), (2, 5, 8, 17, 19, -1.0),
    ):  # fmt: skip
        own = phase if side > 0 else phase + np.pi
        thigh = gait.swing * np.sin(own) + 4
        # The knee gives a little under load and bends as the leg swings through.
        knee_bend = 6 + 52 * np.clip(np.cos(own), 0, 1) ** 2 + 8 * np.clip(np.sin(own), 0, 1)
        rotations[hip] = turn("x", -thigh)
        rotations[knee] = turn("x", knee_bend)
        rotations[ankle] = turn("x", np.clip(thigh - knee_bend, -35, 20) * 0.45)
        forward = -gait.arms * np.sin(own)
        rotations[shoulder] = turn("x", -forward) @ turn("z", -side * 58)
        rotations[elbow] = turn("y", -side * (18 + 0.5 * max(forward, 0)))
    rotations[0] = turn("y", 5 * np.sin(phase)) @ rotations[0]
    rotations[6] = turn("y", -8 * np.sin(phase))
    return rotations.astype(np.float32)


def waving(time: float) -> Array:
    """Standing, the right arm waves."""
    rotations = _upright(0.0)
    _arms_down(rotations)
    rotations[17] = turn("z", -18 - 4 * np.sin(2 * time)) @ turn("x", -70)
    rotations[19] = turn("y", 75 + 25 * np.sin(7 * time))
    rotations[15] = turn("y", 12 * np.sin(0.9 * time))
    rotations[6] = turn("z", 3 * np.sin(1.1 * time))
    return rotations.astype(np.float32)


def sitting(time: float) -> Array:
    """Sitting on something knee-high, hands on the thighs, looking about."""
    rotations = _upright(-6.0)
    _arms_down(rotations)
    for hip, knee, shoulder, elbow, side in ((1, 4, 16, 18, 1.0), (2, 5, 17, 19, -1.0)):
        rotations[hip] = turn("y", side * 9) @ turn("x", -80)
        rotations[knee] = turn("x", 84)
        rotations[shoulder] = turn("x", -28) @ turn("z", -side * 56)
        rotations[elbow] = turn("y", -side * (48 + 5 * np.sin(0.8 * time)))
    rotations[15] = turn("y", 25 * np.sin(0.7 * time)) @ turn("x", 6)
    return rotations.astype(np.float32)


def _upright(lean: float) -> Array:
    rotations = np.tile(np.eye(3), (24, 1, 1))
    rotations[0] = turn("x", lean)
    rotations[13], rotations[14] = turn("z", -14), turn("z", 14)
    return rotations


def _arms_down(rotations: Array) -> None:
    rotations[16], rotations[17] = turn("z", -58), turn("z", 58)
    rotations[18], rotations[19] = turn("y", -15), turn("y", 15)
