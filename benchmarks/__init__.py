"""Benchmarks of fastgd beside its peers: `python -m benchmarks {steps,fit,gemm,import} --help`.

A workload is declared once (workloads.py) and built once per library (libraries/).  Every contestant
runs in a process of its own (worker.py), on the same cores with the same number of threads, fed by one
driver (driver.py) that interleaves them, so that a change of the machine's speed meets all of them.
"""
