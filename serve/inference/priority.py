"""Which threads go first where cores are short."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

NICENESS = 10  # 0 is usual, 19 the most


def step_back() -> None:
    """Let this thread, and those it starts, run after the others: probes and refusals must not wait for batches.

    For threads that compute outside of Python alone: one that held the interpreter's lock would hold up all others
    whenever it has to wait for a core. On Linux, where threads have priorities of their own; elsewhere nothing happens.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
