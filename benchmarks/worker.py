"""The process of one contestant: `python -m benchmarks.worker LIBRARY`, commanded by driver.py.

Commands and answers are JSON objects, one a line, on the original stdin and stdout; whatever the
library prints goes to stderr.  Peak memory is the kernel's high-water mark above that after import.
"""

import importlib
import json
import os
import re
import sys
import time

import numpy as np

from benchmarks.workloads import WORKLOADS


def status_bytes(field):
    """A memory field of this process, VmRSS (now) or VmHWM (the most since reset_peak)."""
    with open("/proc/self/status") as file:
        return 1024 * int(re.search(rf"^{field}:\s+(\d+) kB", file.read(), re.M)[1])


def reset_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


class Worker:
    def __init__(self, library):
        start = time.perf_counter()
        self.library = importlib.import_module(f"benchmarks.libraries.{library}")
        self.import_seconds = time.perf_counter() - start
        reset_peak()
        self.import_bytes = status_bytes("VmRSS")

    def load(self, workload, arrays, variant, threads):
        """Build the workload; nothing has run yet."""
        workload = WORKLOADS[workload]
        if workload.builder not in self.library.BUILDERS:
            return {"not_offered": True}
        self.library.setup(threads)
        with np.load(arrays) as file:
            arrays = dict(file)
        self.run = self.library.BUILDERS[workload.builder](workload, arrays, variant)
        return {"version": self.library.VERSION, "import_seconds": self.import_seconds}

    def losses(self, count):
        """The first steps one by one; `seconds` is the time of the first, compilation included."""
        start = time.perf_counter()
        losses = [self.run(1)]
        seconds = time.perf_counter() - start
        losses += [self.run(1) for _ in range(count - 1)]
        return {"losses": losses, "seconds": seconds}

    def calibrate(self, warm_seconds, block_seconds):
        """Warm up, then say how many steps fill a block."""
        start, steps = time.perf_counter(), 1
        while time.perf_counter() - start < warm_seconds:
            self.run(steps)
            steps = min(2 * steps, 256)
        steps = 1
        while (seconds := self.block(steps, 0)["seconds"]) < block_seconds:
            steps = max(steps + 1, round(1.2 * steps * block_seconds / seconds)) if seconds > 1e-3 else 2 * steps
        return {"steps": steps}

    def block(self, steps, warm_steps):
        """A timed block; the untimed steps before it bring caches and threads back."""
        if warm_steps:
            self.run(warm_steps)
        start = time.perf_counter()
        loss = self.run(steps)
        return {"seconds": time.perf_counter() - start, "loss": loss}

    def memory(self):
        return {"peak_bytes": status_bytes("VmHWM") - self.import_bytes}


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(worker, command.pop("do"))(**command)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
