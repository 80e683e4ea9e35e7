# The two commands of the README do all set-up themselves: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test slow browser lint install clean

demo: $(VENV)/installed
	$(BIN)/tier demo

# One process for each core, as far as memory goes: each loads torch. Whoever runs out of tests takes some of another's.
test: $(VENV)/installed-dev
	$(BIN)/pytest -n auto --maxprocesses 8 --dist worksteal

slow: $(VENV)/installed-dev
	$(BIN)/pytest -m slow

browser: $(VENV)/installed-dev
	$(BIN)/pytest -m browser

lint: $(VENV)/installed-dev
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

clean:
	rm -rf $(VENV) build *.egg-info demo
