# `make demo` and `make test` do all set-up themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test slow fuzz browser docs lint lowest install clean

demo: $(VENV)/installed
	$(BIN)/tier demo

# One process per core, at most 8: each loads torch. An idle process takes tests from a busy one.
PARALLEL := -n auto --maxprocesses 8 --dist worksteal

test: $(VENV)/installed-dev
	$(BIN)/pytest $(PARALLEL)

# A process of the full-size scorers takes 4 GB.
slow: $(VENV)/installed-all
	$(BIN)/pytest -m slow $(PARALLEL)

# Damaged files of every kind into every command that reads them; seeds continue over runs (.fuzz/).
MINUTES := 40
fuzz: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tier4k.tests.fuzz.campaign --minutes $(MINUTES)

browser: $(VENV)/installed-dev
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
lowest: $(LOWEST)/installed .types/tier4k
	PYTHONPATH=.types $(LOWEST)/bin/pytest $(PARALLEL)

$(LOWEST)/installed: pyproject.toml
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install --quiet uv
	$(LOWEST)/bin/uv pip install --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[dev]'
	touch $@

# mypy and editors find the package through a link: the folders at the top are sub-packages of tier4k.
.types/tier4k:
	mkdir -p .types
	ln -s .. $@

lint: $(VENV)/installed-dev .types/tier4k
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/installed

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

clean:
	rm -rf $(VENV) $(LOWEST) .types build *.egg-info demo
