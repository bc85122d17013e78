"""evaluation.bench: how exact the geometry is and how long it takes; no data needed.

Accuracy figures come from random truths with a fixed seed. The whole line is `latency`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import roma
import torch
from torch import Tensor

from mpmesh_core.body import BodyModel
from mpmesh_core.ik import solve_ik, twist_from_rotations
from mpmesh_core.placement import place

MAX_ANGLE = 2.5  # [rad] of a random joint rotation
CHI2_68 = 3.5267  # squared radius of the ellipsoid that holds 68.27 % of a 3D normal distribution


@dataclass(frozen=True)
class Timing:
    """Milliseconds of repeated calls."""

    p50: float
    p95: float
    runs: int


@dataclass(frozen=True)
class GeometryReport:
    """Accuracy of inverse kinematics and placement."""

    ik_exact_mm: float  # largest joint error from exact skeletons
    ik_exact_deg: float  # largest rotation error on determined bones
    ik_noisy_mm: float  # mean joint error from 25 mm noise a joint
    ik_worst_orthogonality: float  # of R R^T - I and det - 1, over degenerate skeletons too
    placement_exact_mm: float
    placement_coverage: dict[int, float]  # distance [m] -> share of truths in the 68 % ellipsoid


def time_calls(call: Callable[[], object], runs: int = 50, warm_up: int = 5) -> Timing:
    """Median and 95th percentile of `runs` calls after `warm_up` uncounted ones."""
    for _ in range(warm_up):
        call()
    samples = np.empty(runs)
    for index in range(runs):
        start = time.perf_counter()
        call()
        samples[index] = 1e3 * (time.perf_counter() - start)
    return Timing(float(np.median(samples)), float(np.percentile(samples, 95)), runs)


def bench_ik(body: BodyModel, people: int = 16, runs: int = 200) -> Timing:
    """Time of one batched IK call."""
    rotations, betas = random_poses(people, seed=0)
    rest = body.rest_points(betas)
    points = body(rotations, betas, torch.zeros(people, 3), vertices=False).points
    twist = twist_from_rotations(rotations, rest)
    with torch.inference_mode():
        return time_calls(lambda: solve_ik(points, rest, twist), runs)


def bench_body(body: BodyModel, people: int = 16, runs: int = 100) -> Timing:
    """Time of one batched forward with vertices."""
    rotations, betas = random_poses(people, seed=0)
    with torch.inference_mode():
        return time_calls(lambda: body(rotations, betas, torch.zeros(people, 3)), runs)


def measure_geometry(body: BodyModel, people: int = 2000, seed: int = 0) -> GeometryReport:
    """Errors of IK and placement on random people with known truth."""
    rotations, betas = random_poses(people, seed)
    rest = body.rest_points(betas)
    points = body(rotations, betas, torch.zeros(people, 3), vertices=False).points
    twist = twist_from_rotations(rotations, rest)
    generator = torch.Generator().manual_seed(seed)
    exact = solve_ik(points, rest, twist)
    angle = torch.rad2deg(
        roma.rotmat_geodesic_distance(exact.rotations.double(), rotations.double())
    )
    noise = 0.025 / 3**0.5 * torch.randn(points.shape, generator=generator)
    noisy = solve_ik(points + noise, rest, twist)
    broken = solve_ik(_degenerate(points, generator), rest, twist)
    return GeometryReport(
        ik_exact_mm=1e3 * float((exact.points - points).norm(dim=-1).max()),
        ik_exact_deg=float(angle[~exact.degenerate].max()),
        ik_noisy_mm=1e3 * float((noisy.points - points)[:, :24].norm(dim=-1).mean()),
        ik_worst_orthogonality=max(
            _orthogonality(result.rotations) for result in (exact, noisy, broken)
        ),
        placement_exact_mm=_placement_exact(points),
        placement_coverage={z: _placement_coverage(points, z, seed) for z in (2, 5, 10)},
    )


def random_poses(people: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rotations (people, 24, 3, 3) of up to 2.5 rad a joint, betas (people, 10) of N(0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.nn.functional.normalize(torch.randn(people, 24, 3, generator=generator), dim=-1)
    angle = MAX_ANGLE * torch.rand(people, 24, 1, generator=generator)
    return roma.rotvec_to_rotmat(axis * angle), torch.randn(people, 10, generator=generator)


def _degenerate(points: Tensor, generator: torch.Generator) -> Tensor:
    """Skeletons with collapsed, folded and collinear bones."""
    kind = torch.randint(0, 4, (len(points), 1, 1), generator=generator)
    folded = points.clone()
    folded[:, 20] = folded[:, 16]  # the wrist in the shoulder: the forearm folds back
    folded[:, 7] = 2 * folded[:, 4] - folded[:, 1]  # straight knee
    line = torch.arange(points.shape[1]).float()[:, None] * torch.tensor([0.0, 0.1, 0.0])
    flat = torch.where(kind == 1, torch.zeros_like(points), folded)
    return torch.where(kind == 2, line.expand_as(points), flat)


def _orthogonality(rotations: Tensor) -> float:
    """Largest entry of |R R^T - I| and |det R - 1|."""
    rotations = rotations.double()
    identity = torch.eye(3, dtype=torch.float64)
    product = (rotations @ rotations.transpose(-1, -2) - identity).abs().max()
    return float(torch.maximum(product, (torch.linalg.det(rotations) - 1).abs().max()))


_CROP_K = torch.tensor([[280.0, 0, 127.5], [0, 280.0, 127.5], [0, 0, 1]])


def _placed(points: Tensor, distance: float) -> tuple[Tensor, Tensor, Tensor]:
    """Relative points, true roots (N, 3) and K (N, 3, 3) of people in the middle of their crops."""
    relative = points - points[:, :1]
    root = torch.tensor([0.0, 0.0, distance]).expand(len(points), 3)
    K = _CROP_K.clone()
    K[0, 0] = K[1, 1] = 90.0 * distance  # the crop zooms so that a person fills it
    return relative, root, K.expand(len(points), 3, 3)


def _project(points: Tensor, K: Tensor) -> Tensor:
    pixels = points @ K.transpose(-1, -2)
    return pixels[..., :2] / pixels[..., 2:]


def _placement_exact(points: Tensor) -> float:
    """Largest error [mm] over 2, 5 and 10 m from exact input."""
    worst = 0.0
    for distance in (2.0, 5.0, 10.0):
        relative, root, K = _placed(points, distance)
        pixels = _project(relative + root[:, None], K)
        found = place(relative, pixels, torch.ones(relative.shape[:2]), K).root
        worst = max(worst, 1e3 * float((found - root).norm(dim=-1).max()))
    return worst


def _placement_coverage(points: Tensor, distance: int, seed: int) -> float:
    """Share of truths inside the claimed 68 % ellipsoid, with 1 px and 20 mm noise."""
    generator = torch.Generator().manual_seed(seed + distance)
    relative, root, K = _placed(points, float(distance))
    pixels = _project(relative + root[:, None], K)
    pixels = pixels + torch.randn(pixels.shape, generator=generator)
    noisy = relative + 0.02 * torch.randn(relative.shape, generator=generator)
    placement = place(noisy, pixels, torch.ones(relative.shape[:2]), K)
    error = (placement.root - root).double()
    solved = torch.linalg.solve(placement.covariance.double(), error)
    return float(((error * solved).sum(-1) <= CHI2_68).double().mean())
