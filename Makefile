# Every target bootstraps what it needs (.venv in the checkout) from a bare Python >= 3.11.
# `make` alone lists them.

PORT ?= 8080
DATA_DIR ?= var
SEED ?= 1
DAYS ?= 90
LOG ?= postgres
NODES ?= 1
TESTS ?= tests
PYTEST_ARGS ?=
BENCH_ARGS ?=
COMPOSE_ARGS ?=
PROVE_ARGS ?=

BIN := .venv/bin
# Caches go where nobody else's checkout is written to.
CACHE := $(or $(TMPDIR),/tmp)/regulars-checks-$(shell id -u)

.DEFAULT_GOAL := help
.PHONY: help setup demo run kafka kafka-stop test check format lock image-lock docs bench prove secrets compose-test

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## bootstrap .venv: everything of requirements.lock, and .venv/bin/regulars
	@sh deploy/setup.sh

demo: setup ## a simulated shop of 90 days against its own truth (SEED= DAYS= KEEP=1 LOG=kafka)
	$(BIN)/regulars demo --seed $(SEED) --days $(DAYS) --log $(LOG) $(if $(KEEP),--keep)

run: setup ## everything on embedded PostgreSQL (PORT= DATA_DIR= LOG=kafka with REGULARS_KAFKA_SERVERS)
	$(BIN)/regulars run --port $(PORT) --data-dir $(DATA_DIR) --log $(or $(REGULARS_LOG),$(LOG))

kafka: setup ## a Kafka of one node, or of three, in .kafka/, from Maven; prints its address (NODES=3)
	$(BIN)/python -m regulars.local_kafka start --nodes $(NODES)

kafka-stop: setup ## stops it
	$(BIN)/python -m regulars.local_kafka stop

test: setup ## all tests, with PostgreSQL of their own (TESTS= PYTEST_ARGS=)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS) $(TESTS)

check: setup ## format, lint, types, import contracts, size gate, generated docs, alerts, Helm chart
	@sh tests/checks/run.sh $(CACHE)

format: setup ## let ruff put the code into its form
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

PIN := $(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --python-version 3.11 --quiet

lock: setup ## pin pyproject.toml's dependencies anew in requirements.lock
	$(PIN) --group dev --extra embedded --upgrade --output-file requirements.lock
	$(BIN)/uv pip compile --group chart --constraint requirements.lock --universal --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --python-version 3.11 --upgrade --quiet --output-file requirements-chart.lock
	$(MAKE) image-lock

image-lock: setup ## of requirements.lock, the pins that the container image installs (after a merge)
	$(PIN) --constraint requirements.lock --output-file deploy/requirements.lock

docs: setup ## write the generated pages of docs/ anew, and the settings that the chart's schema knows
	$(BIN)/regulars docs
	$(BIN)/python -m tests.contract.deploy.chart_settings

bench: setup ## webhooks per second and what the workers do (BENCH_ARGS= LOG=kafka: the relay, Kafka, webhook to KPI)
	$(BIN)/python -m tests.bench $(if $(filter kafka,$(LOG)),kafka line) $(BENCH_ARGS)

prove: setup ## break everything on real processes, Kafka and PostgreSQL; writes docs/promises.md (PROVE_ARGS=)
	$(BIN)/python -m tests.faults.prove $(PROVE_ARGS)

secrets: ## write .env and secrets/ for docker compose, once
	@sh deploy/secrets.sh .

compose-test: setup ## the image and docker-compose.yml on this machine's Docker: containers killed, nothing lost (COMPOSE_ARGS=)
	$(BIN)/python -m tests.e2e.containers $(COMPOSE_ARGS)
