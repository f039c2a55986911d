# make quickstart   a robust student on real images, on one backend
# make check        before each commit: lint, tests of what the library computes
# make test         lint, then the whole suite on each of the three backends
# make test-jax     the suite on one backend
# make coverage     lines and branches that the tests run, on each backend
# make benchmark    images per second against plain PyTorch
# make benchmarks   that and memory, scaling, ...: benchmarks/README.md
# make autoattack   verdicts and time against the published AutoAttack
# make study        eight of the methods on Fashion-MNIST, in half an hour
# make docs         the documentation site, in site/
# make zoo-loading  time and memory of loading a WRN-34-20 on each backend
# make dist         the sdist and the wheel, in dist/
# make dist-check   the wheel in empty environments, one for each backend
# make lint         ruff, and mypy on the package
# make format       formats the code with ruff

KERAS_BACKEND ?= tensorflow
PYTHON ?= python3
BACKENDS = tensorflow jax torch
BENCHMARKS = step_speed memory scaling compile_time precision cheaper
BIN = .venv/bin

# Test processes at a time, each on one thread (tests/conftest.py).
WORKERS ?= 2
# Between runs it keeps what JAX compiled, for a month.
PROGRAMS = .venv/jax-programs
PYTEST = JAX_COMPILATION_CACHE_DIR="$(CURDIR)/$(PROGRAMS)" \
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal
# Tests of what no backend takes part in run on PyTorch alone.
SELECTED-tensorflow = -m "not once"
SELECTED-jax = -m "not once"

ifeq ($(filter $(KERAS_BACKEND),$(BACKENDS)),)
$(error KERAS_BACKEND must be one of $(BACKENDS), not "$(KERAS_BACKEND)")
endif

.PHONY: quickstart check test coverage lint format benchmark benchmarks \
	autoattack study docs dist dist-check zoo-loading \
	$(BACKENDS:%=test-%) $(BACKENDS:%=coverage-%)

quickstart: .venv/installed-$(KERAS_BACKEND),examples
	KERAS_BACKEND=$(KERAS_BACKEND) $(BIN)/python examples/quickstart.py

check: lint .venv/installed-dev
	KERAS_BACKEND=$(KERAS_BACKEND) $(PYTEST) @tests/check.txt

test: lint $(BACKENDS:%=test-%)

$(BACKENDS:%=test-%): test-%: .venv/installed-dev
	@mkdir -p $(PROGRAMS) && find $(PROGRAMS) -type f -mtime +30 -delete
	KERAS_BACKEND=$* $(PYTEST) --durations=5 $(SELECTED-$*)

COVERAGE = $(BIN)/python -m coverage
MEASURED = $(BACKENDS:%=results/coverage/%)

coverage: $(BACKENDS:%=coverage-%)
	for file in $(MEASURED); do \
		echo $$file && $(COVERAGE) report --data-file=$$file || exit 1; \
	done
	$(COVERAGE) combine --keep --data-file=results/coverage/all $(MEASURED)
	$(COVERAGE) report --data-file=results/coverage/all --show-missing

$(BACKENDS:%=coverage-%): coverage-%: .venv/installed-dev
	mkdir -p results/coverage && rm -f results/coverage/$**
	KERAS_BACKEND=$* COVERAGE_FILE="$(CURDIR)/results/coverage/$*" \
		$(PYTEST) --cov --cov-report=

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmarks: .venv/installed-dev
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name || exit 1; done
	$(BIN)/python -m benchmarks.report

benchmark: .venv/installed-dev
	$(BIN)/python -m benchmarks.step_speed

autoattack: .venv/installed-dev
	$(BIN)/python -m benchmarks.autoattack

study: .venv/installed-dev
	$(BIN)/python -m benchmarks.study fashion_mnist --processes 2

docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

dist: .venv/installed-dist
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

dist-check: dist
	for backend in $(BACKENDS); do \
		$(BIN)/python -m benchmarks.wheel $$backend || exit 1; \
	done

zoo-loading: .venv/installed-dev
	$(BIN)/python -m benchmarks.zoo_loading

# RobustBench's networks and registry, for the tests. Nothing that it depends on
# is needed, and some of it brings CUDA.
ORACLE = $(BIN)/python -m pip install --quiet --no-deps -c constraints.txt robustbench

# A stamp for each set of extras: a second run installs nothing.
.venv/installed-%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[$*]"
	$(if $(findstring dev,$*),$(ORACLE))
	touch $@

# A failed call leaves no environment: the next one would take it for complete.
$(BIN)/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and \
		'keras-adaad needs Python 3.11 or newer: make PYTHON=python3.11')"
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
