"""Checkpoints written in a thread, from copies, while training goes on.

What is saved is copied when it is handed over, so that the files are of one moment. If the disk is slower than
training, a newer state takes the place of one that still waits. The best state is held in memory and written with
the next one that is due, before it: the newest checkpoint on the disk always knows where the best one is.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .runlog import RunFolder

__all__ = ["Saver", "Snapshot"]


class Snapshot(NamedTuple):
    """A state of training in memory of its own."""

    step: int
    tensors: dict[str, np.ndarray]
    state: dict[str, Any]


class Saver:
    """Writes the checkpoints of one run.

    Parameters
    ----------
    run : RunFolder
    keep : int
        How many of the newest stay; the best one stays besides.

    Attributes
    ----------
    newest : Path or None
        The last one that is on the disk.
    """

    def __init__(self, run: RunFolder, keep: int = 2) -> None:
        self.run = run
        self.keep = keep
        self.newest: Path | None = None
        self._best: Snapshot | None = None  # not written yet
        self._waiting: list[Snapshot] = []
        self._error: OSError | None = None
        self._busy = False
        self._closed = False
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None

    def hold(self, snapshot: Snapshot) -> None:
        """Keep this one as the best so far."""
        self._best = snapshot

    def submit(self, snapshot: Snapshot) -> None:
        """Write this one, and the best before it, as soon as what is being written is done."""
        jobs = [snapshot]
        if self._best is not None and self._best.step != snapshot.step:
            jobs.insert(0, self._best)
        self._best = None
        with self._change:
            # What waits is older, and is left out; but if it is the best, it is still needed.
            best = (snapshot.state.get("best") or {}).get("step")
            waiting = [job for job in self._waiting if job.step == best and job.step != jobs[0].step]
            self._waiting = [*waiting, *jobs]
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="fastgd-checkpoints", daemon=True)
                self._thread.start()
            self._change.notify_all()

    def wait(self) -> None:
        """Return when everything is on the disk."""
        with self._change:
            self._change.wait_for(lambda: not self._waiting and not self._busy)

    def error(self) -> OSError | None:
        """Return why the last checkpoint could not be written, once."""
        with self._change:
            error, self._error = self._error, None
        return error

    def close(self) -> None:
        """Wait, and end the thread."""
        self.wait()
        with self._change:
            self._closed = True
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: bool(self._waiting) or self._closed)
                if not self._waiting:
                    return
                job, self._busy = self._waiting.pop(0), True
            error: OSError | None = None
            try:
                best = (job.state.get("best") or {}).get("step")
                protect = () if best is None else (best,)
                self.newest = self.run.checkpoint(job.step, job.tensors, job.state, self.keep, protect)
            except OSError as caught:
                error = caught
            except BaseException as caught:  # what cannot be saved, such as a callback's state: tell the trainer
                error = OSError(f"step {job.step}: {caught}")
            with self._change:
                self._error = error or self._error
                self._busy = False
                self._change.notify_all()
