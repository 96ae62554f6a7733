"""Runs contestants side by side and compares them.

Each contestant is a worker process pinned to the same cores with the same number of threads.  Rounds
are interleaved forward and backward (ABBA), a block of steps at a time, and contestants are compared
by the ratios of the same round: what slows the machine for a while slows both sides of a ratio.  The
baseline runs twice; its ratio with itself is the noise floor below which no difference means anything.
"""

import json
import os
import select
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
N_LOSSES = 20
TOLERANCE = 1e-3  # of losses between libraries, relative
ANSWER_SECONDS = 600
CONTROL = "same again"


class WorkerError(Exception):
    """A contestant that did not answer; the text is the last thing it said."""


@dataclass(frozen=True)
class Contestant:
    label: str
    library: str  # a file of libraries/
    variant: str = ""
    python: str = "python"
    environment: dict = field(default_factory=dict)


@dataclass
class Result:
    """What one contestant did; `error` says why there is nothing else."""

    contestant: Contestant
    error: str = ""
    version: str = ""
    import_seconds: float = 0.0
    first_seconds: float = 0.0
    peak_bytes: int = 0
    losses: list = field(default_factory=list)
    seconds: list = field(default_factory=list)  # of one step, one value per round
    disagreement: float = 0.0  # of the losses with the baseline's, the largest relative one

    @property
    def valid(self):
        return self.disagreement <= TOLERANCE


class WorkerProcess:
    """A worker and its pipes."""

    def __init__(self, contestant, cores, folder):
        threads = str(len(cores))
        names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]
        environment = os.environ | dict.fromkeys(names, threads) | contestant.environment
        environment |= {"PYTHONPATH": str(ROOT), "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor"}
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed with the process
        self.process = subprocess.Popen(
            [contestant.python, "-m", "benchmarks.worker", contestant.library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            cwd=ROOT,
            env=environment,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )

    def ask(self, do, **arguments):
        """Send a command and wait for its answer."""
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError(self.last_words()) from None
        if not select.select([self.process.stdout], [], [], ANSWER_SECONDS)[0]:
            raise WorkerError(f"no answer to {do} within {ANSWER_SECONDS} s")
        answer = self.process.stdout.readline()
        if not answer:
            raise WorkerError(self.last_words())
        return json.loads(answer)

    def last_words(self):
        self.process.wait(10)
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        return lines[-1] if lines else f"exit status {self.process.returncode}"

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.errors.close()


# Threads of the contestant before may go on spinning for tens of milliseconds after its last step.
SETTLE_SECONDS = 0.1


def compare(workload, contestants, threads, rounds, block_seconds=0.05, warm_seconds=0.5):
    """Results of all contestants in their order, then that of the control; the first that runs is the
    baseline."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    if len(cores) < threads:
        raise SystemExit(f"{threads} threads need as many cores; this process may use {len(cores)}")
    with tempfile.TemporaryDirectory() as folder:
        arrays = f"{folder}/arrays.npz"
        np.savez(arrays, **workload.arrays())
        workers, results = {}, []

        def enter(contestant):
            result = Result(contestant)
            results.append(result)
            try:
                worker = WorkerProcess(contestant, cores, folder)
            except OSError as error:
                result.error = f"{contestant.python}: {error.strerror}"
                return
            try:
                prepare(worker, result, workload, arrays, threads)
            except WorkerError as error:
                result.error = str(error)
                worker.close()
            else:
                workers[len(results) - 1] = worker

        try:
            for contestant in contestants:
                enter(contestant)
            if workers:
                baseline = results[min(workers)].contestant
                enter(Contestant(CONTROL, baseline.library, baseline.variant, baseline.python, baseline.environment))
            run_rounds(workers, results, rounds, block_seconds, warm_seconds)
        finally:
            for worker in workers.values():
                worker.close()
    judge(results)
    return results


def prepare(worker, result, workload, arrays, threads):
    variant = result.contestant.variant
    answer = worker.ask("load", workload=workload.name, arrays=arrays, variant=variant, threads=threads)
    if "not_offered" in answer:
        raise WorkerError("no builder for this workload")
    result.version, result.import_seconds = answer["version"], answer["import_seconds"]
    answer = worker.ask("losses", count=N_LOSSES)
    result.losses, result.first_seconds = answer["losses"], answer["seconds"]


def run_rounds(workers, results, rounds, block_seconds, warm_seconds):
    """Interleaved timed blocks; a worker that fails on the way is taken out."""
    steps = {}

    def each(numbers, action):
        for i in numbers:
            try:
                action(i)
            except WorkerError as error:
                results[i].error = str(error)
                workers.pop(i).close()

    def calibrate(i):
        steps[i] = workers[i].ask("calibrate", warm_seconds=warm_seconds, block_seconds=block_seconds)["steps"]

    def block(i):
        time.sleep(SETTLE_SECONDS)
        answer = workers[i].ask("block", steps=steps[i], warm_steps=1 + steps[i] // 8)
        results[i].seconds.append(answer["seconds"] / steps[i])

    def memory(i):
        results[i].peak_bytes = workers[i].ask("memory")["peak_bytes"]

    each(list(workers), calibrate)
    for number in range(rounds):
        each(sorted(workers, reverse=number % 2 == 1), block)
    each(list(workers), memory)


def judge(results):
    """Compare the losses with the baseline's."""
    baseline = find_baseline(results)
    for result in results:
        if baseline and not result.error:
            ours, theirs = np.array(baseline.losses), np.array(result.losses)
            # nan compares false with everything: a loss that is not finite never counts as agreement
            difference = np.abs(theirs - ours) / np.abs(ours)
            result.disagreement = float(np.max(np.where(np.isfinite(difference), difference, np.inf)))


def find_baseline(results):
    return next((result for result in results if not result.error), None)


def spread(values):
    """10th and 90th percentile."""
    if len(values) < 2:
        return values[0], values[0]
    deciles = quantiles(values, n=10, method="inclusive")
    return deciles[0], deciles[-1]


def ratios(result, baseline):
    """Time of `result` by time of `baseline`, round by round: above 1 where the baseline is faster."""
    return [a / b for a, b in zip(result.seconds, baseline.seconds, strict=True)]


def table(workload, results, threads):
    """The comparison as text."""
    baseline = find_baseline(results)
    load = os.getloadavg()[0]  # this benchmark itself adds at most `threads`
    lines = [f"{workload.name}, {threads} thread{'s' * (threads > 1)}, load of the machine {load:.1f}"]
    if baseline:
        lines.append(f"  times {baseline.contestant.label!r}: median [10 %, 90 %] of {len(baseline.seconds)} rounds")
        lines.append(
            f"  {'':14} {'step ms':>9} {'[10 %, 90 %]':>18} {'ratio':>7} {'[10 %, 90 %]':>14} {'GFLOP/s':>8}"
            f" {'first s':>8} {'peak MB':>8}  losses"
        )
    for result in results:
        label = result.contestant.label
        if result.error:
            lines.append(f"  {label:14} FAILED: {result.error}")
            continue
        low, high = (1e3 * value for value in spread(result.seconds))
        ratio = ratios(result, baseline)
        agreement = f"{result.disagreement:.0e}" + ("" if result.valid else "  INVALID: losses disagree")
        gflops = workload.flops / median(result.seconds) / 1e9
        lines.append(
            f"  {label:14} {1e3 * median(result.seconds):9.4f} {f'[{low:.4f}, {high:.4f}]':>18}"
            f" {median(ratio):7.2f} {'[{:.2f}, {:.2f}]'.format(*spread(ratio)):>14} {gflops:8.1f}"
            f" {result.first_seconds:8.3f} {result.peak_bytes / 2**20:8.1f}  {agreement}"
        )
    return "\n".join(lines)
