"""Speed and accuracy of inverse kinematics: `python benchmarks/ik.py [--threads 2] [--people 16]`.

Times `solve_ik` with torch.utils.benchmark (median and spread, after warm-up, inference mode), and
tabulates the mean joint error for noisy targets and for bones 5 % too long. Published solvers take
5..17 ms for 1..16 people on a CPU when adaptive, 2..4 ms when not.
"""

from __future__ import annotations

import argparse

import torch
from torch.utils.benchmark import Timer

from mpmesh_core.body import load_body
from mpmesh_core.evaluation.bench import random_poses
from mpmesh_core.ik import solve_ik, twist_from_rotations

NOISES = (0, 6, 25, 40, 50)  # mean length [mm]
WAYS: dict[str, dict[str, bool | int]] = {
    "adaptive": {},
    "adaptive, not relaxed": {"relaxation_passes": 0},
    "not adaptive": {"adaptive": False},
}


def targets(people: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points (people, 29, 3), rest points and true twist of random poses and shapes."""
    body = load_body("open")
    rotations, betas = random_poses(people, seed=0)
    rest = body.rest_points(betas)
    points = body(rotations, betas, torch.zeros(people, 3), vertices=False).points
    return points, rest, twist_from_rotations(rotations, rest)


def print_speed(people: int, threads: int) -> None:
    """Median and interquartile range of one call [ms]."""
    inputs = targets(people)
    for name, options in WAYS.items():
        timer = Timer(
            "with torch.inference_mode(): solve_ik(*inputs, **options)",
            globals={"torch": torch, "solve_ik": solve_ik, "inputs": inputs, "options": options},
            num_threads=threads,
        )
        run = timer.blocked_autorange(min_run_time=2.0)
        print(f"{name:24} {1e3 * run.median:6.2f} ms  (spread {1e3 * run.iqr:.2f} ms)")


def print_accuracy(people: int) -> None:
    """Mean error of the 24 joints [mm] by the mean size of the noise [mm]."""
    points, rest, twist = targets(people)
    direction = torch.randn(points.shape, generator=torch.Generator().manual_seed(0))
    direction = direction / direction[:, :24].norm(dim=-1).mean()
    print(f"{'joint error [mm] by noise [mm]':36}" + "".join(f"{noise:8}" for noise in NOISES))
    for scale in (1.0, 1.05):
        for name, options in WAYS.items():
            errors = []
            for noise in NOISES:
                target = scale * points
                solved = solve_ik(target + 1e-3 * noise * direction, rest, twist, **options)
                errors.append(1e3 * float((solved.points - target)[:, :24].norm(dim=-1).mean()))
            row = name if scale == 1 else f"{name}, bones x {scale}"
            print(f"{row:36}" + "".join(f"{error:8.2f}" for error in errors))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    print(f"{options.people} people, {options.threads} threads, torch {torch.__version__}")
    print_speed(options.people, options.threads)
    print_accuracy(2000)


if __name__ == "__main__":
    main()
