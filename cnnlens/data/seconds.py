"""What was written in this second may be written again in it, and its time would not tell."""

from __future__ import annotations

import time

AWAITS = True  # tests, which write images and read them at once, may do without


def await_after(second: int) -> None:
    """Let this second pass where something was written in it."""
    left = second + 1 - time.time()
    if AWAITS and 0 < left <= 1:
        time.sleep(left)
