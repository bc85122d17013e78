"""loading: batches made ahead by worker processes, in the order of steps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from multiprocessing.util import Finalize

import cv2
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mpmesh_core.stopping import deaf_children
from mpmesh_core.training.trainer import TrainingRun

_ENDLESS = 1 << 40  # steps
_AHEAD = 2  # batches a worker


def from_step(
    batches: Dataset[dict[str, Tensor]], first: int, config: TrainingRun
) -> Iterator[dict[str, Tensor]]:
    """Batches without end from a step on.

    Args:
        batches: batch by step number; pickled for workers, so it should open files by itself.
        first: the first step.
        config: says how many workers, and for what device.
    """
    workers = config.workers
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(first, _ENDLESS),
        num_workers=workers,
        prefetch_factor=_AHEAD if workers else None,
        worker_init_fn=_one_thread,
        # a forked process waits for ever for the threads that OpenCV had before
        multiprocessing_context="spawn" if workers else None,
        pin_memory=config.accelerator == "cuda",
    )
    with deaf_children():
        made = iter(loader)
    yield from made


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(1)
    # Threads of C++ libraries that still run at the interpreter's end would abort the process.
    Finalize(None, os._exit, args=(0,), exitpriority=-1)
