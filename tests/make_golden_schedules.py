"""Writes golden_schedules.npz: the values that torch, Optax, Keras and transformers themselves give for CASES.

    PYTHONPATH=. python tests/make_golden_schedules.py      with those libraries installed
"""

from pathlib import Path

import numpy as np
from schedule_cases import ALL, FEEDBACK, SCHEDULERS, feedback_originals, originals, scheduler_original

PATH = Path(__file__).with_name("golden_schedules.npz")


def main():
    arrays = {}
    for library, name in ALL:
        arrays[f"{library}/{name}"] = np.concatenate([np.asarray(v, np.float64) for v in originals(library, name)])
        print(f"{library:13} {name:34} {arrays[f'{library}/{name}'].size:6} values")
    for name in FEEDBACK:
        arrays[f"feedback/{name}"] = np.concatenate([np.asarray(v, np.float64) for v in feedback_originals(name)])
        print(f"feedback      {name:34} {arrays[f'feedback/{name}'].size:6} values")
    for name in SCHEDULERS:
        arrays[f"scheduler/{name}"] = np.asarray(scheduler_original(name), np.float64)
        print(f"scheduler     {name:34} {arrays[f'scheduler/{name}'].size:6} values")
    np.savez_compressed(PATH, **arrays)
    print(f"{len(arrays)} schedules, {sum(a.size for a in arrays.values())} values, {PATH.stat().st_size} bytes")


if __name__ == "__main__":
    main()
