"""The C library's allocator: told that all threads share one heap.

A body of megabytes is read, parsed and turned into arrays in several threads. By default glibc gives each thread a heap
of its own, which keeps what was freed in it: a process then stays as large as the largest moments of all threads
together. Threads that share a heap use each other's blocks again. (Returning every large block to the system at once
saves more, and costs a third of the time of large requests in page faults.)
"""

from __future__ import annotations

import ctypes

__all__ = ["share_one_heap"]

_M_ARENA_MAX = -8  # <malloc.h>


def share_one_heap() -> bool:
    """Have all threads that start from now on allocate from one heap; False where the C library has no such knob."""
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1))
    except (AttributeError, OSError, TypeError):  # musl, macOS; Windows
        return False
