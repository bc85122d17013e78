"""constants: small tables as tensors, made once for each type and device.

A table made anew on every call would be copied from the host every time, which stalls a GPU and
cannot be part of a CUDA graph. Tables are never dropped, so a graph may keep reading them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor


@cache
@torch.inference_mode(False)  # tensors made in that mode could never take part in training
def constant(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers, or tuples of tuples of numbers, as a tensor that nobody may change.

    Example:
        >>> constant(((1, 2), (3, 4)), torch.float32, torch.device("cpu")).shape
        torch.Size([2, 2])
    """
    return torch.tensor(values, dtype=dtype, device=device)


def indices(values: tuple[int, ...], device: torch.device) -> Tensor:
    """`constant` of int64, for `index_select`."""
    return constant(values, torch.int64, device)
