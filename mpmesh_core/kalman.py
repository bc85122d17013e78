"""kalman: constant-velocity filter over T tracks at once.

State mean (T, 6): position [m] and velocity [m/s] in the camera frame, covariance (T, 6, 6).
A measurement is a position (3,) [m] with its own covariance (3, 3) [m^2]. NumPy, no loops.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def initiate(positions: Array, R: Array, speed_sigma: float) -> tuple[Array, Array]:
    """Means and covariances of tracks that start at positions (T, 3) with covariance R (T, 3, 3).

    Nothing is known of the velocity but how fast people usually are: `speed_sigma` [m/s] an axis.
    """
    mean = np.concatenate((positions, np.zeros_like(positions)), axis=-1)
    covariance = np.zeros((len(positions), 6, 6))
    covariance[:, :3, :3] = R
    covariance[:, 3:, 3:] = speed_sigma**2 * np.eye(3)
    return mean, covariance


def predict(mean: Array, covariance: Array, dt: float, q: float) -> tuple[Array, Array]:
    """Means and covariances `dt` [s] later; `q` [m^2/s^3] is the density of the acceleration."""
    F = np.eye(6)
    F[:3, 3:] = dt * np.eye(3)
    Q = q * np.kron([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]], np.eye(3))
    return mean @ F.T, F @ covariance @ F.T + Q


def distances(mean: Array, covariance: Array, positions: Array, R: Array) -> tuple[Array, Array]:
    """How well T tracks explain D measurements.

    Returns:
        Squared Mahalanobis distance (T, D), and the log of how much larger the volume of the
        innovation's ellipsoid is than that of the measurement's own, squared (T, D), at least 0.
    """
    S = covariance[:, None, :3, :3] + R[None]  # (T, D, 3, 3)
    offset = positions[None] - mean[:, None, :3]
    squared = (offset * np.linalg.solve(S, offset[..., None])[..., 0]).sum(-1)
    return squared, np.linalg.slogdet(S)[1] - np.linalg.slogdet(R)[1]


def update(mean: Array, covariance: Array, positions: Array, R: Array) -> tuple[Array, Array]:
    """Means and covariances after one measurement each, positions (T, 3) and R (T, 3, 3)."""
    gain = np.linalg.solve(covariance[:, :3, :3] + R, covariance[:, :3]).swapaxes(-1, -2)
    mean = mean + (gain @ (positions - mean[:, :3])[..., None])[..., 0]
    keep = np.broadcast_to(np.eye(6), covariance.shape).copy()
    keep[..., :3] -= gain
    joseph = keep @ covariance @ keep.swapaxes(-1, -2) + gain @ R @ gain.swapaxes(-1, -2)
    return mean, (joseph + joseph.swapaxes(-1, -2)) / 2
