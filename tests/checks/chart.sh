#!/bin/sh
# The Helm chart, rendered and held against Kubernetes' schemas. $1: folder for caches.
set -u
cd "$(dirname "$0")/../.."
sh deploy/chart-tools.sh "$1/uv"
if ! .venv/bin/python -c 'import helm_python, kubernetes_validate' 2>/dev/null; then
  echo "skipped: the chart was not rendered"
  exit 0
fi
exec .venv/bin/python -m pytest -q --no-header -p no:xdist tests/contract/deploy/test_chart.py
