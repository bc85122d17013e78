"""memory: large messages without the price of fresh memory."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt in glibc's malloc.h
_KEPT_BYTES, _LARGEST_BLOCK = 256 << 20, 32 << 20  # glibc takes no larger block


def keep_memory() -> bool:
    """Keep freed memory of this process for its next messages.

    A frame's meshes are megabytes that are made and copied several times. glibc gives such blocks
    back at once and maps them anew, and touching new pages costs more than the whole message.

    Returns:
        Whether the C library does so; another one is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK) and mallopt(_TRIM_THRESHOLD, _KEPT_BYTES))
