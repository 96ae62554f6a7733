"""How many threads to use: OMP_NUM_THREADS as given, else the CPUs that this process may really use."""

from __future__ import annotations

import os

from . import _core


def _cgroup_limit() -> int | None:
    """The CPU quota of the container, rounded up; None if there is none (cgroup v2, then v1)."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as f:
            quota, period = f.read().split()
        return None if quota == "max" else max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    try:
        with open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") as f:
            quota_us = int(f.read())
        with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us") as f:
            period_us = int(f.read())
        return max(1, -(-quota_us // period_us)) if quota_us > 0 and period_us > 0 else None
    except (OSError, ValueError):
        return None


def _physical_cores(cpus: set[int]) -> int:
    """Distinct cores among `cpus`: two hardware threads of one core share its FMA units."""
    cores = set()
    for cpu in cpus:
        try:
            with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") as f:
                cores.add(f.read().strip())
        except OSError:
            cores.add(str(cpu))
    return len(cores)


def default_threads() -> int:
    """OMP_NUM_THREADS if set (its first number), else physical cores within the affinity mask and quota."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    try:
        n = _physical_cores(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        n = os.cpu_count() or 1
    limit = _cgroup_limit()
    return max(1, min(n, limit) if limit else n)


def initialise() -> None:
    """Chooses tier and threads; makes a forked child run serially."""
    _core.select_tier(os.environ.get("FASTGD_ISA", ""))
    _core.set_num_threads(default_threads())
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_core.after_fork_in_child)
