"""The commands: `steps` (training steps), `fit` (epochs of scikit-learn's estimators), `gemm` (matrix products),
`import` (time to import)."""

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict

from benchmarks import driver, imports, workloads
from benchmarks.driver import Contestant

OURS = {
    "fastgd": Contestant("fastgd", "fastgd_", "compile"),
    "fastgd_eager": Contestant("fastgd_eager", "fastgd_"),
    "fastgd_sklearn": Contestant("fastgd_sklearn", "sklearn_", "fastgd"),
}
PEERS = {
    # PyTorch's allocator backs large tensors with huge pages only if asked to.
    "torch": Contestant("torch", "pytorch", environment={"THP_MEM_ALLOC_ENABLE": "1"}),
    "torch_compile": Contestant("torch_compile", "pytorch", "compile", environment={"THP_MEM_ALLOC_ENABLE": "1"}),
    "jax": Contestant("jax", "jax_", environment={"JAX_PLATFORMS": "cpu"}),
    "sklearn": Contestant("sklearn", "sklearn_"),
    "numpy": Contestant("numpy", "numpy_"),
}


def names(known):
    """An argparse type: a comma-separated choice of `known`."""

    def parse(text):
        chosen = text.split(",") if text else []
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"unknown: {name!r} (choose from {', '.join(known)})")
        return chosen

    return parse


def counts(text):
    return [int(word) for word in text.split(",")]


def parse_arguments():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--peer-python", default=sys.executable, help="the Python that has the peers")
    common.add_argument("--rounds", type=int, default=20)
    common.add_argument("--json", metavar="PATH", help="append the results to this file, an object a line")

    for command, ours, peers, group in (
        ("steps", ["fastgd", "fastgd_eager"], ["torch", "torch_compile", "jax", "sklearn"], workloads.STEPS),
        ("fit", ["fastgd_sklearn"], ["sklearn"], workloads.FITS),
        ("gemm", ["fastgd_eager"], ["torch", "numpy"], workloads.GEMM),
    ):
        sub = commands.add_parser(command, parents=[common])
        sub.add_argument("--threads", type=counts, default=[1, 2], metavar="N,...")
        sub.add_argument("--ours", type=names(OURS), default=ours, metavar="NAME,...", help=f"of {', '.join(OURS)}")
        sub.add_argument("--peers", type=names(PEERS), default=peers, metavar="NAME,...", help=f"of {', '.join(PEERS)}")
        known = {workload.name: workload for workload in group}
        sub.add_argument("--workload", type=names(known), default=list(known), metavar="NAME,...")

    sub = commands.add_parser("import", parents=[common])
    sub.add_argument("--peers", default="torch,jax,sklearn", metavar="NAME,...", help="modules to import")
    return parser.parse_args()


def contestants(arguments):
    ours = [OURS[name] for name in arguments.ours]
    peers = [PEERS[name] for name in arguments.peers]
    pythons = [sys.executable] * len(ours) + [arguments.peer_python] * len(peers)
    return [Contestant(**asdict(c) | {"python": p}) for c, p in zip(ours + peers, pythons, strict=True)]


def cpu_name():
    with open("/proc/cpuinfo") as file:
        return next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown CPU")


def compare_all(arguments):
    """Every workload at every number of threads; true if every contestant ran and they agreed."""
    versions, failed = {}, False
    for threads in arguments.threads:
        for name in arguments.workload:
            workload = workloads.WORKLOADS[name]
            results = driver.compare(workload, contestants(arguments), threads, arguments.rounds)
            print(driver.table(workload, results, threads), flush=True)
            failed |= any(result.error or not result.valid for result in results)
            versions |= {r.contestant.library.strip("_"): r.version for r in results if r.version}
            if arguments.json:
                save(arguments.json, name, threads, results)
    print("versions:", ", ".join(f"{library} {version}" for library, version in versions.items()))
    return not failed


def save(path, name, threads, results):
    with open(path, "a") as file:
        for result in results:
            record = asdict(result) | {"contestant": result.contestant.label, "workload": name, "threads": threads}
            file.write(json.dumps(record) + "\n")


def main():
    arguments = parse_arguments()
    print(f"{cpu_name()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}")
    if arguments.command == "import":
        return 0 if imports.compare(arguments) else 1
    return 0 if compare_all(arguments) else 1


if __name__ == "__main__":
    sys.exit(main())
