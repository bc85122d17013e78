"""Jobs on several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpmesh_core.errors import DeviceError
from mpmesh_core.processes import in_processes


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """It is heard, also where a shell has it ignored, as in what runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def squared(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def last_is_killed(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def meets_or_sleeps(folder: Path | None) -> None:
    """Wait until another process is there too, or longer than the test."""
    if folder is None:
        time.sleep(60)
        return
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.01)


def test_every_job_once_on_several_processes() -> None:
    made = list(in_processes(squared, range(7), 2))
    assert sorted(square for square, _ in made) == [0, 1, 4, 9, 16, 25, 36]
    assert os.getpid() not in {process for _, process in made}


def test_no_more_jobs_are_taken_than_processes_are_free() -> None:
    taken: list[int] = []

    def jobs() -> Iterator[int]:
        for number in range(6):
            taken.append(number)
            yield number

    results = in_processes(squared, jobs(), 2)
    next(results)
    assert len(taken) <= 4
    results.close()


def test_killed_process_is_one_line() -> None:
    with pytest.raises(DeviceError, match="was killed"):
        list(in_processes(last_is_killed, range(3), 2))


def test_ctrl_c_is_not_heard_where_it_is_ignored() -> None:
    """As by what a shell runs in the background."""

    def jobs() -> Iterator[int]:
        yield 2
        for process in multiprocessing.active_children():  # begun with the first job
            os.kill(process.pid, signal.SIGINT)
        yield 3

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        made = list(in_processes(squared, jobs(), 2))
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(square for square, _ in made) == [4, 9]


@pytest.mark.usefixtures("ctrl_c")
def test_who_waits_for_a_job_is_stopped_without_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    results = in_processes(meets_or_sleeps, [tmp_path, tmp_path, None], 2)
    next(results), next(results)
    for process in multiprocessing.active_children():
        os.kill(process.pid, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert capfd.readouterr().err == ""
