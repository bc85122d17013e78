"""threads: how many of them torch uses for the mathematics between the networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread.

    Tensors of a few people gain nothing from more. Where other programs want the cores too, every
    one of hundreds of tiny products would wait for a second thread that isn't running: a frame of
    64 ms took 340 ms so.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
