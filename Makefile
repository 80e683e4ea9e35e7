# `make demo` and `make test` do all set-up themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo install test slow fuzz crash browser docs lint check lowest clean

help: ## lists the targets
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile | expand -t 16

demo: $(VENV)/installed ## installs, and runs everything once on a synthetic data set
	$(BIN)/tier demo

# One process per core, at most 8: each loads torch. An idle process takes tests from a busy one.
PARALLEL := -n auto --maxprocesses 8 --dist worksteal

test: $(VENV)/installed-dev ## runs the fast tests
	$(BIN)/pytest $(PARALLEL)

# A process of the full-size scorers takes 4 GB.
slow: $(VENV)/installed-all ## runs the long tests
	$(BIN)/pytest -m slow $(PARALLEL)

# Damaged files of every kind into every command that reads them; seeds continue over runs (.fuzz/).
MINUTES := 40
fuzz: $(VENV)/installed-dev ## gives damaged files to every command, MINUTES=40 minutes long
	OMP_NUM_THREADS=1 $(BIN)/python -m tier4k.tests.fuzz.campaign --minutes $(MINUTES)

# Commands killed at random moments, on full, read-only and removed folders; seeds continue over runs (.crash/).
KILLS := 250
crash: $(VENV)/installed-all ## kills commands KILLS=250 times at random moments
	OMP_NUM_THREADS=1 $(BIN)/python -m tier4k.tests.crash.campaign --kills $(KILLS)

browser: $(VENV)/installed-dev ## tests the report page in chromium
	$(BIN)/pytest -m browser

# The site in build/site; any warning ends the build. mkdocstrings reads the package through links: it follows every
# folder beside __init__.py, and would read .venv too.
docs: $(VENV)/installed-docs build/api/tier4k ## builds the documentation as a site in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

build/api/tier4k:
	mkdir -p $@
	for part in __init__.py cache extract heads; do ln -sfn ../../../$$part $@/$$part; done

# The suite with the lowest version of every dependency that pyproject.toml allows, in an environment of its own.
# By hand, before a range is changed: the environment has 7 GB.
LOWEST := .venv-lowest
lowest: $(LOWEST)/installed .types/tier4k ## runs the fast tests with the lowest versions of the dependencies
	PYTHONPATH=.types $(LOWEST)/bin/pytest $(PARALLEL)

$(LOWEST)/installed: pyproject.toml
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install --quiet --upgrade pip setuptools uv
	$(LOWEST)/bin/uv pip install --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[dev]'
	touch $@

# mypy and editors find the package through a link: the folders at the top are sub-packages of tier4k.
.types/tier4k:
	mkdir -p .types
	ln -s .. $@

lint: $(VENV)/installed-dev .types/tier4k ## checks style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test ## checks style and types and runs the fast tests: do so before a pull request

install: $(VENV)/installed ## installs tier4k into .venv

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: pyproject.toml $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

$(VENV)/installed-docs: pyproject.toml $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@

$(VENV)/installed-all: pyproject.toml $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[test-all]'
	touch $@

clean: ## removes the environments and what was built
	rm -rf $(VENV) $(LOWEST) .types build *.egg-info demo
