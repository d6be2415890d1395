"""Memory that tensors leave is kept for the next ones, where glibc would give it back at once.

A network's maps take tens of megabytes each and live for one layer. glibc hands blocks of that size
back to the system when they are freed and asks for them anew a layer later; the system then clears
every page of them, which on a CPU can take as long as computing what goes into them.
"""

from __future__ import annotations

import ctypes
import os
import sys

# of glibc's malloc.h, where blocks above the one and a free end above the other are given back
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
_SETTINGS = ((_M_MMAP_THRESHOLD, 256 << 20), (_M_TRIM_THRESHOLD, 512 << 20))
_CHOSEN = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_")


def keep_freed() -> bool:
    """Let this process keep up to 512 MB of what it has freed; say whether it does.

    Not with another allocator than glibc's, nor where the environment has chosen already.
    """
    chosen = any(os.environ.get(name) for name in _CHOSEN)
    if chosen or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # of musl, which has its own ways
        return False
    return all(mallopt(name, size) == 1 for name, size in _SETTINGS)
