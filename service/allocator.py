"""The C library's allocator: told to give large blocks back when they are freed.

A body of megabytes is read, parsed and turned into arrays in several threads. By default glibc keeps such blocks once a
few were freed, in a heap of each thread, so that a process stays as large as its largest moment. Blocks of their own
cost some page faults each, a small part of what filling them costs.
"""

from __future__ import annotations

import ctypes

__all__ = ["give_back_large_blocks"]

LARGE_BYTES = 2**18

_M_MMAP_THRESHOLD = -3  # <malloc.h>


def give_back_large_blocks() -> bool:
    """Have blocks of ``LARGE_BYTES`` and more returned to the system when freed; False where the C library cannot."""
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES))
    except (AttributeError, OSError, TypeError):  # musl, macOS; Windows
        return False
