"""SIGINT and SIGTERM while a model trains: the step that is running may finish, then training ends with everything
saved.

A step that takes longer than GRACE is cancelled: compiled steps look for signals between two instructions, and
a step that is cancelled before its updates has changed nothing. A second signal raises KeyboardInterrupt at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Cancelled", "Stop", "catch_signals"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE = 2.0  # seconds


class Cancelled(BaseException):
    """The running step takes too long for someone who wants us to leave."""


class Stop:
    """Whether training should end, and because of which signal."""

    def __init__(self) -> None:
        self.number = 0
        self.cancellable = False  # whether what runs now may be cut short by Cancelled

    def __bool__(self) -> bool:
        return self.number != 0


@contextmanager
def catch_signals() -> Iterator[Stop]:
    """Note signals instead of dying of them. In the main thread only; elsewhere signals never arrive."""
    stop = Stop()

    def note(number: int, frame: Any) -> None:
        if stop:
            raise KeyboardInterrupt
        stop.number = number
        signal.setitimer(signal.ITIMER_REAL, GRACE, 0.2)

    def lose_patience(number: int, frame: Any) -> None:
        if stop.cancellable:
            stop.cancellable = False
            raise Cancelled

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    # What the parent process told us to ignore (nohup, a background job) stays ignored.
    ours = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in ours}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, lose_patience)
    try:
        yield stop
    finally:
        if stop:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in before.items():
            if handler is not None:  # None: it was not installed from Python
                signal.signal(number, handler)
