# headwater: `make` says what there is. Everything runs in .venv, made from requirements.lock on first use.
PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
FLAGS := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long test-compose lint docs bench up package clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(VENV)/.ready  ## create .venv from requirements.lock (TORCH_INDEX=… names a package index with CPU builds of torch)

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 13) else "headwater needs Python 3.11 or 3.12, this is %d.%d; name one with: make PYTHON=python3.11 setup" % v)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip
	$(PIP) install --quiet $(FLAGS) --requirement requirements.lock
	$(PIP) install --quiet --no-deps --editable .
	@touch $@

demo: setup  ## replay 7–9 February 2013: real flights and weather through the whole walk
	$(BIN)/headwater demo $(ARGS)

up: setup  ## run the application of app.py (or HEADWATER_APP) in one process
	$(BIN)/headwater up $(ARGS)

test: setup  ## the tests, some thirteen minutes on two cores (a third to a half of a process's time is waiting: so three)
	$(BIN)/python -m pytest -q -n 3 -m "not long" $(ARGS)

test-long: setup  ## the crash and soak suites as well, then the thousand seeds of effects once (SEEDS="--seeds 0..99": some of them)
	$(BIN)/python -m pytest -q -n 3 $(ARGS)
	$(BIN)/python tests/crash/seeds.py $(SEEDS)

test-compose: setup  ## the same tests against Redpanda and Qdrant from docker-compose.yml
	docker compose up --detach --wait redpanda qdrant
	HEADWATER_TEST_KAFKA=127.0.0.1:19092 HEADWATER_TEST_QDRANT=http://127.0.0.1:6333 $(BIN)/python -m pytest -q -n 3 -m "not long" $(ARGS)
	docker compose down

lint: setup  ## ruff, mypy, import direction
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: setup  ## every benchmark, each with its reference measured in the same run
	$(BIN)/headwater bench $(ARGS)

docs: setup  ## remake what the documentation shows: the picture of the demo's last screen, the notebooks with their outputs
	$(BIN)/headwater demo --svg docs/demo.svg
	for each in tour audit freshness quality impact who_saw; do \
	  PYTHONPATH=notebooks $(BIN)/marimo export ipynb notebooks/$$each.py --include-outputs --force --output notebooks/$$each.ipynb || exit 1; done

package: setup  ## wheel and sdist; the wheel installed into an empty environment and tried
	$(BIN)/python -m build --no-isolation --outdir dist . >/dev/null
	$(BIN)/python tests/try_packages.py dist

clean:  ## remove what was built; your state under .headwater stays
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
