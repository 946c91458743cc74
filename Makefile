# make demo   sets up and plays the shipped agents: table, report and videos in runs/demo
# make test   sets up and runs lint, types and tests
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
# One torch thread a process; the two worker processes use the cores.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint types tests setup setup-dev format clean

demo: setup
	@$(BIN)/preplay demo

test: lint types tests

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup-dev
	$(BIN)/mypy

tests: setup-dev
	$(BIN)/pytest -n 2 --dist worksteal

format: setup-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

$(VENV)/bin/python:
	@$(PYTHON) --version >/dev/null 2>&1 || { echo "preplay needs Python 3.11: on Debian, apt-get install python3.11 python3.11-venv; or make PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "making $(VENV) failed; on Debian: apt-get install python3.11-venv"; exit 2; }

# The tested set of versions is pinned in constraints.txt; torch comes first, as a CPU build where there is one.
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing the tested set of packages into $(VENV), once; this takes a few minutes"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
