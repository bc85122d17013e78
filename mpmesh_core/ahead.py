"""ahead: several frames in the line at once, on a CPU.

In   items one after the other, and what to do with each
Out  each item with what gives its result, in the same order

Networks of a few people use two cores little better than one. So where frames wait (files, not
cameras), every core takes a frame of its own: half as many frames again a second on two cores. A
single frame then takes longer. What depends on the frame before is done in order, afterwards.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from mpmesh_core.threads import one_thread

MOST = 8  # frames: each takes memory, about 50 MB with a few people

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """How many this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # no Linux
        return os.cpu_count() or 1


def one_a_core() -> int:
    """Frames at once where every core takes one."""
    return min(cores(), MOST)


def work_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], at_once: int
) -> Iterator[tuple[Item, Callable[[], Result]]]:
    """Items in their order, while the next ones are worked on.

    Args:
        work: called once for each item, in threads if `at_once` is more than 1.
        items: read one after the other, `at_once` + 1 ahead.
        at_once: how many are worked on at the same time; 1: in the caller's thread, when asked.

    Returns:
        Pairs of an item and what waits for its result, or raises what `work` raised.
    """
    if at_once == 1:
        for item in items:
            yield item, partial(work, item)
        return
    with one_thread(), ThreadPoolExecutor(at_once, "frame") as pool:
        waiting: deque[tuple[Item, Callable[[], Result]]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item).result))
                if len(waiting) > at_once:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            pool.shutdown(cancel_futures=True)
