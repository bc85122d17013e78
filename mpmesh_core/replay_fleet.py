"""replay_fleet: many bags, one after the other, on several processes, or on a Ray cluster.

In   ReplayJobs and how to work on them
Out  ReplayReports as they come in; what fails doesn't stop the others
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mpmesh_core.errors import DeviceError, MissingPackageError, UsageError
from mpmesh_core.processes import in_processes
from mpmesh_core.replay import ReplayConfig, ReplayJob, ReplayReport, replay_or_report


def plan_jobs(bags: Sequence[Path], output: Path) -> list[ReplayJob]:
    """Where each bag goes: to `output` if that is an .mcap file, else to a file of its name in it.

    The name of a file loses its ending, that of a folder has none.

    Raises:
        UsageError: several bags for one file, two bags of one name, or a bag written over itself.
    """
    if output.suffix.lower() == ".mcap":
        if len(bags) > 1:
            raise UsageError(f"--output {output} is one file for {len(bags)} bags; give a folder")
        jobs = [ReplayJob(bags[0], output)]
    else:
        names = [bag.absolute().name if bag.is_dir() else bag.stem for bag in bags]
        jobs = [ReplayJob(bag, output / f"{name}.mcap") for bag, name in zip(bags, names)]
    taken: dict[Path, Path] = {}
    for job in jobs:
        other = taken.setdefault(job.output, job.bag)
        if other is not job.bag:
            raise UsageError(f"bags {other} and {job.bag} would both become {job.output}")
        if job.output.resolve() in (job.bag.resolve(), *job.bag.resolve().glob("*")):
            raise UsageError(f"bag {job.bag} would be written over; give another --output")
    return jobs


def replay_jobs(
    jobs: Sequence[ReplayJob], config: ReplayConfig, processes: int
) -> Iterator[ReplayReport]:
    """Replay on several processes of this machine, which share its cores.

    Raises:
        DeviceError: a process was killed, most likely for its memory.
    """
    return in_processes(partial(replay_or_report, config=config), jobs, processes)


def replay_on_ray(
    jobs: Sequence[ReplayJob], config: ReplayConfig, address: str
) -> Iterator[ReplayReport]:
    """Replay on a Ray cluster whose machines see the same files.

    Args:
        jobs: the bags.
        config: how.
        address: of the cluster; `auto` takes the running one, `local` starts one here.

    Raises:
        MissingPackageError: `ray` isn't installed.
        DeviceError: no cluster answers at this address.
    """
    ray = _import_ray()
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DeviceError(f"no Ray cluster at {address!r}: {reason}") from None
    try:
        remote = ray.remote(_replay_from)
        waiting = [remote.remote(Path.cwd(), job, config) for job in jobs]
        while waiting:
            done, waiting = ray.wait(waiting)
            yield ray.get(done[0])
    finally:
        ray.shutdown()


def _replay_from(folder: Path, job: ReplayJob, config: ReplayConfig) -> ReplayReport:
    """`replay_or_report` where the relative paths of job and settings begin."""
    try:
        os.chdir(folder)
    except OSError as error:
        text = f"a machine of the cluster does not see {folder}: {error.strerror}"
        return ReplayReport(job, error=text, exit_code=1)
    return replay_or_report(job, config)


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise MissingPackageError(
            "replay on a cluster needs the package ray: pip install 'mpmesh[cluster]'"
        ) from None
    return ray
