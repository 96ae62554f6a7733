"""How long `import` takes, each time in a fresh process, in turn: fastgd, NumPy (the floor: fastgd
needs it) and the peers."""

import json
import subprocess
import sys
from statistics import median

from benchmarks.driver import ROOT, spread

PROBE = """
import resource, sys, time
start = time.perf_counter()
import {module}
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def probe(python, module):
    """(seconds, MB of the process), or the last line of the error."""
    done = subprocess.run([python, "-c", PROBE.format(module=module)], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        return None, done.stderr.strip().splitlines()[-1]
    return tuple(map(float, done.stdout.split())), ""


def compare(arguments):
    """Print the table; true if every module could be imported."""
    modules = {"numpy": sys.executable, "fastgd": sys.executable}
    modules |= {name: arguments.peer_python for name in arguments.peers.split(",") if name}
    samples, errors = {name: [] for name in modules}, {}
    for number in range(arguments.rounds + 1):
        for name in list(modules) if number % 2 else reversed(modules):
            if name in errors:
                continue
            sample, error = probe(modules[name], name)
            if error:
                errors[name] = error
            elif number:  # the first round fills the file cache
                samples[name].append(sample)
    for name, values in samples.items():
        if name in errors:
            print(f"  import {name:8} FAILED: {errors[name]}")
            continue
        seconds = [value[0] for value in values]
        low, high = spread(seconds)
        memory = median(value[1] for value in values)
        print(f"  import {name:8} {median(seconds):7.3f} s [{low:.3f}, {high:.3f}]  process {memory:6.0f} MB")
    if arguments.json:
        with open(arguments.json, "a") as file:
            file.write(json.dumps({"command": "import", "samples": samples, "errors": errors}) + "\n")
    return not errors
