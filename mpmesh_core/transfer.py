"""transfer: one copy to the device and one copy back, a frame.

Up   a picture, through page-locked memory, into a tensor that stays in place for its size
Down any number of tensors, packed into one
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from mpmesh_core.ahead import cores
from mpmesh_core.types import Array

MOST_COPIERS = 4  # threads
_BAND = 2**18  # [bytes] of a picture that a thread copies at once

Shapes = dict[str, tuple[int, ...]]


class Upload:
    """Host arrays to tensors that stay in place, one for each shape and type."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copy = Copier(min(MOST_COPIERS, cores() // 2))
        self._buffers: dict[tuple[tuple[int, ...], np.dtype], tuple[Tensor, Tensor]] = {}

    def __call__(self, array: Array) -> Tensor:
        """Copy an array; the copy to the device is queued, not waited for.

        The tensor is overwritten by the next array of its shape and type, which must not come
        before the device is done with this one.
        """
        key = array.shape, array.dtype
        if key not in self._buffers:
            kind = torch.from_numpy(np.empty(0, array.dtype)).dtype
            staging = torch.empty(array.shape, dtype=kind, pin_memory=self._device.type == "cuda")
            self._buffers[key] = staging, torch.empty_like(staging, device=self._device)
        staging, target = self._buffers[key]
        self._copy(staging.numpy(), array)
        return target.copy_(staging, non_blocking=True)

    def __len__(self) -> int:
        """How many tensors there are."""
        return len(self._buffers)

    def forget(self) -> None:
        """Drop all tensors; the next ones lie elsewhere."""
        self._buffers.clear()


class Copier:
    """Copies an array with several threads: one core needs 0.65 ms for a picture of 1920x1080.

    Whoever is free takes the next rows, so a thread that gets no core holds nothing up.
    """

    def __init__(self, threads: int) -> None:
        """Take how many threads copy, the caller's among them."""
        self._others = max(0, threads - 1)
        self._pool = ThreadPoolExecutor(max(1, self._others))  # starts them when they are needed

    def __call__(self, target: Array, source: Array) -> None:
        """Copy, from any layout in memory."""
        rows = max(1, len(source) * _BAND // max(1, source.nbytes))
        bands = iter(range(0, len(source), rows))

        def work() -> None:
            for first in bands:
                np.copyto(target[first : first + rows], source[first : first + rows])

        helpers = self._others if rows < len(source) else 0
        others = [self._pool.submit(work) for _ in range(helpers)]
        work()
        for other in others:
            if not other.cancel():  # it has begun
                other.result()


class Download:
    """Packed tensors to host arrays."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._buffers: dict[int, Tensor] = {}

    def __call__(self, packed: Tensor, shapes: Shapes) -> dict[str, Array]:
        """Wait for the device and take what `pack` packed; the arrays are the caller's."""
        size = packed.numel()
        if size not in self._buffers:
            pinned = self._device.type == "cuda"
            self._buffers[size] = torch.empty(size, dtype=packed.dtype, pin_memory=pinned)
        host = self._buffers[size]
        host.copy_(packed, non_blocking=True)
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        return unpack(host.numpy().copy(), shapes)


def pack(fields: Mapping[str, Tensor]) -> Tensor:
    """All fields one after another as one float32 vector."""
    return torch.cat([value.flatten().float() for value in fields.values()])


def shapes_of(fields: Mapping[str, Tensor]) -> Shapes:
    """What `unpack` needs to know."""
    return {name: tuple(value.shape) for name, value in fields.items()}


def unpack(packed: Array, shapes: Shapes) -> dict[str, Array]:
    """The fields that `pack` packed, as views of float32."""
    fields, start = {}, 0
    for name, shape in shapes.items():
        end = start + math.prod(shape)
        fields[name] = packed[start:end].reshape(shape)
        start = end
    return fields
