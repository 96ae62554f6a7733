# The commands for working on fastgd, the same for people and CI.  PYTHON needs `pip install ".[dev]"`.
PYTHON ?= python
SANITIZE ?= address,undefined
ASAN_TREE = build/asan

.PHONY: build test bench lint docs asan wheel ci clean

build:  ## compile the core into fastgd/, only what changed
	$(PYTHON) setup.py -q build_ext --inplace

test: build  ## the quick tests; all of them: make test ARGS="-m ''"
	$(PYTHON) -m pytest $(ARGS)

bench: build  ## beside the peers of another environment: make bench ARGS="--peer-python PATH"
	$(PYTHON) -m benchmarks steps $(ARGS)

lint:
	$(PYTHON) -m ruff check .
	PATH="$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("scripts"))'):$$PATH" cython-lint fastgd
	$(PYTHON) -m mypy

# In a copy of the tree, so that the instrumented module cannot be mistaken for the real one.
# libstdc++ is loaded beside libasan, or extension modules written in C++ cannot throw exceptions.
asan:  ## AddressSanitizer and UBSan; of some tests: make asan ARGS=tests/test_gemm.py
	mkdir -p $(ASAN_TREE)
	git ls-files -zco --exclude-standard | tar -c --null -T - | tar -x -C $(ASAN_TREE)
	cd $(ASAN_TREE) && FASTGD_SANITIZE=$(SANITIZE) $(PYTHON) setup.py -q build_ext --inplace
	cd $(ASAN_TREE) && ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
	    LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)" \
	    PYTHONPATH="$$PWD" $(PYTHON) -m pytest -p no:cacheprovider $(ARGS)

docs: build  ## docs/operations.md from the table of operations
	$(PYTHON) docs/make_operations.py

wheel:
	$(PYTHON) -m pip wheel --no-deps -w dist .

ci:
	.ci/run

clean:
	rm -rf build dist fastgd/_core.c fastgd/_core*.so *.egg-info
