# dff-edge: make install | test | lint | demo | bench | clean
#
# Everything runs in .venv. PYTHON chooses the interpreter, PIP_FLAGS is handed to pip (an index
# with CPU-only builds of torch, for example), PYTEST_FLAGS to pytest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
PIP_FLAGS ?=
PYTEST_FLAGS ?= -n 2
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(shell find plugins -type f -name '*.cpp' -o -type f -name '*.h' -o -name CMakeLists.txt)

.PHONY: help install lint test test-cpp test-python demo bench clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(VENV)/.native  ## Make .venv with the package and its tools

# The stamps make a second `make` quick. .venv/.packages: what is installed; .venv/.native: the
# build of plugins/ into it.
$(VENV)/.packages: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_FLAGS) -q -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/.native: $(VENV)/.packages $(NATIVE)
	$(BIN)/python -m pip install $(PIP_FLAGS) -q --no-build-isolation --no-deps -e .
	touch $@

lint: install  ## ruff, its format check, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint test-cpp test-python  ## lint, C++ tests, Python tests

test-cpp: install  ## C++ tests alone
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S plugins -B build/cpp -G Ninja
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/cpp -j $(JOBS)
	PATH="$(CURDIR)/$(BIN):$$PATH" ctest --test-dir build/cpp --output-on-failure

test-python: install  ## Python tests alone
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

demo: install  ## Checkpoint to device in a few minutes; SOURCE=my.mp4 for a video of your own
	$(BIN)/python examples/demo.py $(if $(SOURCE),--source '$(SOURCE)')

bench: install  ## The figures that the README quotes, into build/bench/
	mkdir -p build/bench
	for script in benchmarks/*.py; do \
	    [[ "$$script" == */_* ]] && continue; \
	    echo "== $$script"; \
	    $(BIN)/python "$$script" --json "build/bench/$$(basename "$$script" .py).json"; \
	done

clean:  ## Remove builds, caches and the demo's results; keeps .venv
	rm -rf build dist demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -print0 | xargs -0 rm -rf
