# Every target bootstraps what it needs (.venv in the checkout) from a bare Python >= 3.11.
# `make` alone lists them.

PORT ?= 8080
DATA_DIR ?= var
SEED ?= 1
DAYS ?= 90
TESTS ?= tests
PYTEST_ARGS ?=
BENCH_ARGS ?=

BIN := .venv/bin
# Caches go where nobody else's checkout is written to.
CACHE := $(or $(TMPDIR),/tmp)/regulars-checks-$(shell id -u)

.DEFAULT_GOAL := help
.PHONY: help setup demo run test check format lock docs bench

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## bootstrap .venv: everything of requirements.lock, and .venv/bin/regulars
	@sh deploy/setup.sh

demo: setup ## a simulated shop of 90 days against its own truth (SEED= DAYS= KEEP=1)
	$(BIN)/regulars demo --seed $(SEED) --days $(DAYS) $(if $(KEEP),--keep)

run: setup ## everything on embedded PostgreSQL (PORT= DATA_DIR=)
	$(BIN)/regulars run --port $(PORT) --data-dir $(DATA_DIR)

test: setup ## all tests, with PostgreSQL of their own (TESTS= PYTEST_ARGS=)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS) $(TESTS)

check: setup ## format, lint, types, import contracts, size gate, generated docs, alerts, Helm chart
	@sh tests/checks/run.sh $(CACHE)

format: setup ## let ruff put the code into its form
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lock: setup ## pin pyproject.toml's dependencies anew in requirements.lock
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --python-version 3.11 --upgrade --quiet --output-file requirements.lock
	$(BIN)/uv pip compile --group chart --constraint requirements.lock --universal --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --python-version 3.11 --upgrade --quiet --output-file requirements-chart.lock

docs: setup ## write the generated pages of docs/ anew
	$(BIN)/regulars docs

bench: setup ## webhooks per second and what the workers do (BENCH_ARGS=)
	$(BIN)/python -m tests.bench $(BENCH_ARGS)
