# The environment is .venv in this clone; every target makes it first, once, and brings it up to
# date when pyproject.toml or constraints.txt change. Another Python: make PYTHON=python3.13 test

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := $(shell grep '^torch==' constraints.txt)
REPORT := runs/quickstart/report.html

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup quickstart test check bench recipes fuzz clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED)  ## make or refresh the environment .venv

quickstart: $(INSTALLED)  ## fine-tune the starter model on the ticket task and show the report
	$(BIN)/tunesmith train recipes/quickstart.yaml
	@echo "report: $(CURDIR)/$(REPORT)"
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || [ "$$(uname)" = Darwin ]; then \
		$(BIN)/python -m webbrowser "file://$(CURDIR)/$(REPORT)" >/dev/null 2>&1 || true; \
	fi

test: $(INSTALLED)  ## run all tests; the quick ones alone: .venv/bin/pytest -m "not slow"
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(INSTALLED)  ## lint, formatting and the structure of the house, in seconds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q tests/structure

bench: $(INSTALLED)  ## measure training speed on this machine, in a few minutes
	$(BIN)/python -m benchmarks.peers --cases lora --sides tunesmith tunesmith-reference \
		--steps 10 --out benchmarks/results/bench.json

recipes: $(INSTALLED)  ## run every recipe for two steps on the starter model
	$(BIN)/python -m benchmarks.recipes

fuzz: $(INSTALLED)  ## search for inputs that break a reader, FUZZ_SECONDS (60) for each of five
	$(PIP) install --quiet -c constraints.txt -e '.[fuzz]'
	$(BIN)/python -m fuzz

clean:  ## remove the environment and what tools left behind; runs/ stays
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis fuzz/findings
	find src tests benchmarks examples fuzz -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# torch goes in first and alone: asked for together with the rest, pip may settle on a build of it
# that brings gigabytes of CUDA along, which a machine without a GPU has no use for.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else \
		"Python %d.%d: got a version that is too old or too new; expected 3.11 to 3.13\n" \
		"hint: make PYTHON=python3.12 ..." % v[:2])'
	@echo "setting up $(VENV): $(TORCH) and the rest, about 1.6 GB on disk, a few minutes"
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(PIP) install $(TORCH)
	$(PIP) install --quiet -c constraints.txt -e '.[dev,quant]'
	@touch $@
