"""processes: jobs on several processes of this machine, of which nothing is heard after Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from types import FrameType
from typing import TypeVar

from mpmesh_core.ahead import cores
from mpmesh_core.errors import DeviceError
from mpmesh_core.stopping import StopRequest, deaf_children

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_processes(
    work: Callable[[Job], Result], jobs: Iterable[Job], processes: int
) -> Iterator[Result]:
    """What `work` returns for each job, in the order in which they are done.

    Ctrl-C interrupts the jobs in work, and no other is begun.

    Args:
        work: pickled, like the jobs.
        jobs: taken as processes become free.
        processes: they share the cores.

    Raises:
        DeviceError: a process was killed, most likely for its memory.
    """
    threads = max(1, cores() // processes)
    # a forked process waits for ever for the threads that OpenCV had before
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        processes, mp_context=context, initializer=_begin, initargs=(threads,)
    )
    coming = iter(jobs)
    try:
        with pool:  # holds no more jobs than processes, so that after Ctrl-C none is begun any more
            # A signal waits until all are there: in between it would leave half a process behind.
            with StopRequest(lambda _: None) as request, deaf_children():
                running = {pool.submit(_do, work, job) for job in islice(coming, processes)}
            request.obey()
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(_do, work, job) for job in islice(coming, len(done))}
                for future in done:
                    yield future.result()
    except BrokenProcessPool:
        raise DeviceError(
            "a process was killed, perhaps for its memory; go on with fewer of them, what is "
            "finished is kept"
        ) from None


_begun = _working = _stopped = False  # of this process


def _begin(threads: int) -> None:
    """What a process does before its first job."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _hear)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    import torch

    torch.set_num_threads(threads)


def _hear(number: int, frame: FrameType | None) -> None:
    """Ctrl-C ends who starts, interrupts a job, and is remembered by who waits for the next one."""
    global _stopped
    if not _begun:  # imports take seconds
        os._exit(1)
    _stopped = True
    if _working:
        raise KeyboardInterrupt


def _do(work: Callable[[Job], Result], job: Job) -> Result:
    """One job; after Ctrl-C none."""
    global _begun, _working
    _begun = _working = True
    try:
        if _stopped:
            raise KeyboardInterrupt
        return work(job)
    finally:
        _working = False
