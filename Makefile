# A fresh machine needs Python 3.11 to 3.13 and make; PYTHON=... names another one than python3.
VENV := .venv
BIN := $(VENV)/bin
HOME_DIR ?= .sandbox
# What demo, up and bench deploy to: stand-in, kubernetes (a real one, built and started here), or a file (docs/cluster.md).
CLUSTER ?= stand-in
# Schedules that `simulate` tries.
N ?= 1000000
# Inputs of each property that `fuzz` draws.
EXAMPLES ?= 2000
# Files of tests share nothing: as many at a time as there are processors.
SIDE_BY_SIDE := -n logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder
export PYTHONPATH := plugins:config:.

.DEFAULT_GOAL := help
.PHONY: help venv lock format lint scan coverage test test-all test-cluster test-compose simulate fuzz up down status \
	cluster-up cluster-down cluster-status demo messages bench bench-watch bench-load bench-page bench-verdicts bench-cluster bench-import \
	bench-database faults-database cutover clean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv:  ## The virtual environment, from requirements/dev.lock; nothing to do when it is current
	@sh requirements/venv.sh $(VENV) requirements/dev.lock

lock: venv  ## The lock files anew, from requirements.txt and requirements/*.in
	cd requirements && ../$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --generate-hashes \
		../requirements.txt -o lock.txt
	cd requirements && ../$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --generate-hashes -c lock.txt \
		../requirements.txt sandbox.in dev.in -o dev.lock
	cd requirements && ../$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --generate-hashes \
		-c dev.lock scan.in -o scan.lock
	cd requirements && ../$(BIN)/uv pip compile -q --universal --python-version 3.12 --no-header --generate-hashes \
		pg_dump.in -o pg_dump.lock

format: venv  ## Format and fix what can be fixed
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lint: venv  ## Style, format, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

scan: venv  ## Known vulnerabilities of every pinned package, ruff's security rules, secrets in the whole git history
	$(BIN)/python -m scripts.scan

coverage: venv  ## docs/coverage.md anew: every line of the plan, and the tests and people that answer it
	AIRFLOW_HOME=$(CURDIR)/$(VENV)/airflow $(BIN)/python -m scripts.plan_lines

test: venv  ## What a change has to pass, in minutes; needs nothing but this machine
	$(BIN)/pytest $(SIDE_BY_SIDE) -m "not slow and not cluster and not compose"

test-all: venv  ## All there is: every whole run, the sandbox's own tests, and on a real Kubernetes and Docker where they can be had
	$(BIN)/pytest $(SIDE_BY_SIDE) -m "not cluster and not compose"
	@if $(BIN)/python -m sandbox check cluster; then $(MAKE) test-cluster; fi
	@if $(BIN)/python -m sandbox check compose; then $(MAKE) test-compose; fi

test-cluster: venv  ## The contracts and every whole run on a real Kubernetes, and what only shows there
	$(BIN)/pytest --cluster kubernetes -m "cluster or run" tests/contracts tests/sandbox tests/cluster tests/runs

test-compose: venv  ## docker-compose.yaml from `up` to a finished deployment, on a Docker of its own
	$(BIN)/python -m sandbox check compose
	$(BIN)/pytest -s -m compose tests/compose

simulate: venv  ## Any number of schedules (N) of everybody who moves traffic, with faults at every call; goes on where it stopped
	$(BIN)/python -m tests.simulation --schedules $(N) --out $(HOME_DIR)/simulate.json

fuzz: venv  ## What others write to us (forms, plans, bundles, CSV, metrics, answers), with EXAMPLES drawn inputs of each property
	$(BIN)/pytest $(SIDE_BY_SIDE) -m fuzz --fuzz $(EXAMPLES) tests/fuzz tests/adapters tests/data tests/models tests/telemetry

up: venv  ## Start the stand-in production and leave it running
	$(BIN)/python -m sandbox up --home $(HOME_DIR) --cluster $(CLUSTER)

down: venv  ## Stop it without a trace
	$(BIN)/python -m sandbox down --home $(HOME_DIR)

status: venv  ## What of it runs
	$(BIN)/python -m sandbox status --home $(HOME_DIR)

cluster-up: venv  ## Start a real Kubernetes of one node (Linux, root), and leave it running
	$(BIN)/python -m sandbox.kubernetes up --home $(HOME_DIR)

cluster-down: venv  ## Stop it without a trace
	$(BIN)/python -m sandbox.kubernetes down --home $(HOME_DIR)

cluster-status: venv  ## What of it runs, and its memory
	$(BIN)/python -m sandbox.kubernetes status --home $(HOME_DIR)

demo: venv  ## Watch a good release go out and a bad one come back
	$(BIN)/python -m sandbox demo --home $(HOME_DIR) --cluster $(CLUSTER)

bench: venv  ## Measure it
	$(BIN)/python -m sandbox bench --home $(HOME_DIR) --cluster $(CLUSTER)

bench-watch: venv  ## Errors of the new version at every moment of a deployment: seconds until traffic is back
	$(BIN)/python -m sandbox bench-watch --home $(HOME_DIR) --cluster $(CLUSTER)

messages: venv  ## Every message of three deployments: when it was sent, and since when it was true
	$(BIN)/python -m sandbox messages --home $(HOME_DIR) --cluster $(CLUSTER)

bench-load: venv  ## What a watch costs, and a hundred of them in one triggerer
	$(BIN)/python -m sandbox.bench_load --home $(HOME_DIR)

bench-page: venv  ## What the page costs: seconds to the first paint, bytes, CPU of ten open pages
	$(BIN)/python -m sandbox.bench_page --home $(HOME_DIR)

bench-verdicts: venv  ## How good the verdict is, over 4,000 simulated releases, beside Argo's and Kayenta's
	$(BIN)/python -m sandbox.bench_verdicts --home $(HOME_DIR)

bench-cluster: venv  ## Our rollback beside Argo Rollouts', on a real Kubernetes
	$(BIN)/python -m sandbox bench-cluster --home $(HOME_DIR) --cluster kubernetes

cutover: venv  ## 20 switches and 5 rollbacks under load, on a real Kubernetes
	$(BIN)/python -m sandbox cutover --home $(HOME_DIR) --cluster kubernetes

bench-import: venv  ## Measure the import of a CSV file beside PostgreSQL's own COPY
	$(BIN)/python -m sandbox bench-import --home $(HOME_DIR)

bench-database: venv  ## Backup, backfill, validation and rehearsal of 2 GB beside the alternatives
	$(BIN)/python -m sandbox.bench_database --home $(HOME_DIR)

faults-database: venv  ## Everything that may be done to the database's work, and what comes of it
	$(BIN)/python -m sandbox.database_faults --home $(HOME_DIR)

clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
