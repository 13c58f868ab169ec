# dff-edge: make install | test | lint | demo | wheel | bench | clean; `make help` lists all
#
# Everything runs in .venv. PYTHON chooses the interpreter, PIP_FLAGS is handed to pip (an index
# with CPU-only builds of torch, for example), PYTEST_FLAGS to pytest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
PIP_FLAGS ?=
PYTEST_FLAGS ?= -n 2 --dist worksteal
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(shell find plugins -type f -not -name "*.pyc")

# What test-aarch64 needs, which pip cannot install; `make test` passes it over where it is missing.
has = $(shell command -v $(1))
CAN_CROSS := $(and $(call has,aarch64-linux-gnu-g++),$(or $(call has,qemu-aarch64),$(call has,qemu-aarch64-static)))
CAN_PLAY_OLDER := $(and $(filter x86_64,$(shell uname -m)),$(call has,qemu-x86_64))
CAN_CUDA := $(or $(call has,nvcc),$(wildcard /usr/local/cuda/bin/nvcc))
CROSS_HINT := apt-get install --no-install-recommends g++-aarch64-linux-gnu qemu-user

SANITIZED := -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_FLAGS=-D_GLIBCXX_ASSERTIONS
SANITIZE_ADDRESS := $(SANITIZED) -DDFF_SANITIZE=address,undefined
SANITIZE_THREAD := $(SANITIZED) -DDFF_SANITIZE=thread
# Some versions of the thread sanitizer refuse the random addresses of newer kernels.
FIXED_ADDRESSES := $(shell setarch -R true 2>/dev/null && echo setarch -R)

# Configure, build and test plugins/ in build/$(1), with CMake's options $(2), ctest run by $(3).
define cpp_tests
PATH="$(CURDIR)/$(BIN):$$PATH"; \
cmake -S plugins -B build/$(1) -G Ninja $(2); \
cmake --build build/$(1) -j $(JOBS); \
$(3) ctest --test-dir build/$(1) --output-on-failure --parallel $(JOBS)
endef

.PHONY: help install lint test test-cpp test-sanitize test-aarch64 test-older test-cuda test-python
.PHONY: demo bundles wheel bench clean

help:  ## List the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

install: $(VENV)/.native  ## Make .venv with the package and its tools

# The stamps make a second `make` quick. .venv/.packages: what is installed; .venv/.native: the
# build of plugins/ into it.
$(VENV)/.packages: pyproject.toml constraints.txt
	$(PYTHON) plugins/python/check_compiler.py
	$(PYTHON) dff_edge/shared_libraries.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_FLAGS) -q -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/.native: $(VENV)/.packages $(NATIVE)
	$(BIN)/python -m pip install $(PIP_FLAGS) -q --no-build-isolation --no-deps -e .
	@report="$$($(BIN)/dff-edge doctor)" || { echo "$$report"; exit 1; }
	touch $@

lint: install  ## ruff, its format check, mypy, and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint test-cpp test-sanitize $(if $(CAN_CROSS),test-aarch64) $(if $(CAN_PLAY_OLDER),test-older) $(if $(CAN_CUDA),test-cuda) test-python  ## All that CI runs
	@$(if $(CAN_CROSS),,echo 'Not run: test-aarch64. To have it: $(CROSS_HINT)')
	@$(if $(CAN_CUDA),,echo 'Not run: test-cuda, for nvcc is missing. The kernels were tested compiled for the CPU.')

test-cpp: install  ## C++ tests alone
	$(call cpp_tests,cpp)

test-sanitize: install  ## C++ tests with address, undefined-behaviour and thread sanitizers
	$(call cpp_tests,sanitize-address,$(SANITIZE_ADDRESS))
	$(call cpp_tests,sanitize-thread,$(SANITIZE_THREAD),$(FIXED_ADDRESSES))

test-older: test-cpp  ## C++ tests on x86-64 without AVX-512 and without AVX, played by qemu
	for cpu in Haswell Nehalem; do printf "$$cpu %s\n" build/cpp/test_*; done \
	    | xargs -P $(JOBS) -L 1 qemu-x86_64 -cpu

test-aarch64: install  ## C++ tests built for 64-bit Arm and run by qemu
	@$(if $(CAN_CROSS),,echo 'Cross compiler or qemu missing. Install them: $(CROSS_HINT)' >&2; exit 1)
	$(call cpp_tests,aarch64,--toolchain cmake/aarch64-linux-gnu.cmake)

# One architecture: to see that nvcc takes the sources. What runs on a GPU is skipped without one.
test-cuda: install  ## CUDA kernels by nvcc; with TENSORRT_INCLUDE_DIR=folder the plugin too
	$(call cpp_tests,cuda,-DDFF_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=87 $(if $(TENSORRT_INCLUDE_DIR),-DDFF_TENSORRT=ON -DTENSORRT_INCLUDE_DIR='$(TENSORRT_INCLUDE_DIR)'))

test-python: install  ## Python tests alone
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest $(PYTEST_FLAGS)

demo: install  ## Checkpoint to device in a few minutes; SOURCE=my.mp4 for a video of your own
	$(BIN)/python examples/demo.py $(if $(SOURCE),--source '$(SOURCE)')

# Dates in the bundles are those of the models' last commit, so that they are the same again.
bundles: install  ## The bundles that a wheel carries, from the shipped checkpoints, in minutes
	SOURCE_DATE_EPOCH="$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct -- dff_edge/models)}" \
	    $(BIN)/python -m dff_edge.zoo.ready

# A wheel is refused where a bundle is missing, or is not that of the checkpoint beside it.
wheel: install  ## dist/dff_edge-*.whl with the models that it may carry, ready to run without torch
	@$(BIN)/python plugins/python/check_bundles.py || $(MAKE) bundles
	$(BIN)/python -m pip wheel $(PIP_FLAGS) -q --no-build-isolation --no-deps -C bundles=all -w dist .
	@ls -l dist/*.whl

bench: install  ## The figures that the README quotes, into build/bench/
	mkdir -p build/bench
	for script in benchmarks/*.py; do \
	    case "$${script##*/}" in _* | gpu.py | bundles.py | rival.py | small_objects.py) continue;; esac; \
	    echo "== $$script"; \
	    $(BIN)/python "$$script" --json "build/bench/$$(basename "$$script" .py).json"; \
	done

clean:  ## Remove builds, caches and the demo's results; keeps .venv
	rm -rf build dist demo dff_edge/models/*/bundle .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -print0 | xargs -0 rm -rf
