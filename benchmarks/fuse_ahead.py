"""Fused steps compiled side by side, each in a process, before a benchmark times them.

A step compiles on few cores and for up to a minute, and what it made is kept on disk. So many
processes fill that folder at once, and the one that measures finds everything there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

import torch

from mpmesh_core.ahead import cores
from mpmesh_core.fusing import Fuser, Options, Step, in_one_way
from mpmesh_core.pipeline import Pipeline

# The longest first.
STEPS = ("detect", "skeleton", "refine", "ik", "crop", "body", "place", "pack")
COMPILERS = 2  # processes that Inductor starts for each of ours

Size = tuple[str, int]  # variant and number of places
Job = tuple[str, int, str]  # and step
Frame = Callable[[str, int, Callable[[Pipeline], None]], None]


class OneStep:
    """A fuser of one step; the others run as they are."""

    full = False

    def __init__(self, name: str, options: Options) -> None:
        self.name, self.fuser = name, Fuser(options)

    def __call__(self, name: str, key: Hashable, step: Step, *inputs: Any) -> Any:
        """As `Fuser`."""
        if name == self.name:
            return self.fuser(name, key, step, *inputs)
        return in_one_way(step(*inputs))


def job_of(variant: str, places: int, step: str) -> Job:
    """What serves a step: most see nothing of the variant's networks."""
    if step == "detect":
        return "light", 1, step
    return (variant if step in ("skeleton", "refine") else "light"), places, step


def compile_ahead(
    run: Frame, sizes: Sequence[Size], seconds: float, options: Options
) -> list[Size]:
    """Fill Inductor's folder.

    Args:
        run: runs one frame of a variant with so many people, after it gave its pipeline to a
            function; of a module, since it goes to other processes.
        sizes: what is to be measured, the most important first.
        seconds: after these, nothing more is begun.
        options: of Inductor, that differ from ours.

    Returns:
        The sizes of which every step was compiled, or cannot be.
    """
    end = time.monotonic() + seconds
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(COMPILERS))
    workers = max(1, 3 * cores() // 4)  # they wait for one another's work too
    jobs = dict.fromkeys(job_of(*size, step) for size in sizes for step in STEPS)
    done: set[Job] = set()
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        running = {pool.submit(_compile, run, job, end, options): job for job in jobs}
        for future in as_completed(running):
            variant, places, step = running[future]
            try:
                took = future.result()
            except Exception as error:
                print(f"{variant} {places} {step}: {error}", flush=True)
                continue
            if took is not None:
                done.add(running[future])
                print(f"compiled {variant} {places} {step} in {took:.1f} s", flush=True)
    return [size for size in sizes if all(job_of(*size, step) in done for step in STEPS)]


def _compile(run: Frame, job: Job, end: float, options: Options) -> float | None:
    """Seconds that it took, also where it does not compile and will run as it is.

    None where there was no time left.
    """
    if time.monotonic() > end:
        return None
    torch.set_num_threads(1)
    variant, places, step = job
    fuser = OneStep(step, options)

    def give(pipeline: Pipeline) -> None:
        pipeline._fuser = fuser  # type: ignore[assignment]

    run(variant, places, give)
    if fuser.fuser.failed:
        print(f"{variant} {places} {step} does not compile: see the warning above", flush=True)
    return fuser.fuser.seconds[step]
