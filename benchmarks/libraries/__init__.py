"""One file per library.  Each has

    VERSION              of the library, printed with the results
    setup(threads)       called once before anything is built
    BUILDERS             {"<workload.builder>": build}
    build(workload, arrays, variant) -> run
    run(count) -> float  does `count` steps to the end (nothing left in flight) and returns the
                         loss of the last one

and imports no other library than its own.
"""
