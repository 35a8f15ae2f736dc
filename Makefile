# A fresh machine needs Python 3.11 to 3.13 and make; PYTHON=... names another one than python3.
VENV := .venv
BIN := $(VENV)/bin
HOME_DIR ?= .sandbox
export PYTHONPATH := plugins:config:.

.DEFAULT_GOAL := help
.PHONY: help venv lock format lint test up down status demo bench clean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv:  ## The virtual environment, from requirements/dev.lock; nothing to do when it is current
	@sh requirements/venv.sh $(VENV) requirements/dev.lock

lock: venv  ## Both lock files anew, from requirements.txt and requirements/*.in
	cd requirements && ../$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --generate-hashes \
		../requirements.txt -o lock.txt
	cd requirements && ../$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header -c lock.txt \
		../requirements.txt sandbox.in dev.in -o dev.lock

format: venv  ## Format and fix what can be fixed
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lint: venv  ## Style, format, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: venv  ## All tests
	$(BIN)/pytest

up: venv  ## Start the stand-in production and leave it running
	$(BIN)/python -m sandbox up --home $(HOME_DIR)

down: venv  ## Stop it without a trace
	$(BIN)/python -m sandbox down --home $(HOME_DIR)

status: venv  ## What of it runs
	$(BIN)/python -m sandbox status --home $(HOME_DIR)

demo: venv  ## Watch a good release go out and a bad one come back
	$(BIN)/python -m sandbox demo --home $(HOME_DIR)

bench: venv  ## Measure it
	$(BIN)/python -m sandbox bench --home $(HOME_DIR)

clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
