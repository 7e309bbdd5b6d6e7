# The verbs of this project. Each sets up what it needs; Python 3.11 or newer and make are enough.
#
#   make demo    a real database query through relay, agent and client, every step shown
#   make test    the tests, in parallel, without Docker (ARGS="-k rendezvous" for some of them)
#   make interop Microsoft's own libraries and the WebSocket suite against the relay, on port 443
#   make check   format, lint, types, imports, spelling, coverage
#   make lint    the same without coverage: seconds, not minutes
#   make bench   the benchmarks, beside what you would pick instead
#   make up      the Docker stack, and one query through it
#   make fmt     format the code and fix what ruff can fix

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test interop check lint coverage bench up fmt install clean

VENV ?= .venv
BIN := $(VENV)/bin

# The interpreter that the environment is made with: PYTHON=python3.13 make test
# By itself: the usual python3 where the pinned packages fit it, then the newest that they fit.
PYTHON ?= $(shell \
  for python in python3 python3.13 python3.12 python3.11; do \
    "$$python" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
      2>/dev/null && { echo "$$python"; break; }; \
  done)

# One flavour of environment for people who only look (demo), one for people who change (dev).
DEMO_READY := $(VENV)/.demo-ready
DEV_READY := $(VENV)/.dev-ready
BENCH_READY := $(VENV)/.bench-ready

help:
	@sed -n 's/^#   //p' Makefile

demo: $(DEMO_READY)
	@$(BIN)/hybridge demo $(ARGS)

# Programs start as they do where they are installed: from bytecode, whatever the shell says. It is
# 0.1 s of each start, and the tests start some 150.
export PYTHONDONTWRITEBYTECODE :=

# One worker more than there are CPUs, since half of a test's time is waiting for a peer; it takes
# over from a slower one what that has not begun. Set WORKERS=0 for one process, to debug.
CPUS := $(shell { nproc || getconf _NPROCESSORS_ONLN || echo 1; } 2>/dev/null)
WORKERS ?= $(shell expr $(CPUS) + 1)
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
test: $(DEV_READY)
	$(PYTEST) $(ARGS)

# Microsoft's libraries know no port but 443: as root, or see the hint that it prints.
interop: $(DEV_READY)
	@$(BIN)/python -m tests.interop.install
	$(BIN)/python -m pytest tests/interop $(ARGS)

check: lint coverage

lint: $(DEV_READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

# The threshold is fail_under in pyproject.toml, [tool.coverage.report].
coverage: $(DEV_READY)
	$(BIN)/coverage erase
	$(PYTEST) --quiet --cov --cov-report= --cov-fail-under=0
	$(BIN)/coverage report

bench: $(BENCH_READY)
	@$(BIN)/python -m benchmarks $(ARGS)

up:
	@docker/up.sh

fmt: $(DEV_READY)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

install: $(DEV_READY)

clean:
	rm -rf $(VENV) .interop dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
	  echo "make: error: no Python 3.11 to 3.13 with venv and pip was found" >&2; \
	  echo "make: hint: install one (Debian: python3-venv), or name it: PYTHON=/path/to/python3.12 make" >&2; \
	  exit 1; \
	fi
	$(PYTHON) -m venv $(VENV)

PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

$(DEMO_READY): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) ..."
	@$(PIP_INSTALL) --editable ".[demo,fast]"
	@touch $@

# matplotlib, for the plot: nobody but the benchmarks needs it.
$(BENCH_READY): $(DEV_READY)
	@$(PIP_INSTALL) --editable ".[bench,dev,fast]"
	@touch $@

$(DEV_READY): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) ..."
	@$(PIP_INSTALL) --editable ".[dev,fast]"
	@touch $(DEMO_READY) $@
