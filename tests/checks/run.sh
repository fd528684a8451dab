#!/bin/sh
# Every check of `make check`. Goes on after a failure, so that one run tells all. $1: folder for caches.
set -u
cd "$(dirname "$0")/../.."
mkdir -p "$1"
export RUFF_CACHE_DIR="$1/ruff" MYPY_CACHE_DIR="$1/mypy"
bin=.venv/bin
failed=

check() {
  name=$1
  shift
  printf '== %s\n' "$name"
  "$@" || failed="$failed $name"
}

check format $bin/ruff format --check --quiet
check lint $bin/ruff check --quiet
check types $bin/mypy
check imports $bin/lint-imports --cache-dir "$1/imports"
check rules $bin/python -m tests.checks.rules
check docs $bin/regulars docs --check
check alerts sh tests/checks/alerts.sh
check chart sh tests/checks/chart.sh "$1"

if [ -n "$failed" ]; then
  printf 'check: failed:%s\n' "$failed"
  exit 1
fi
echo "check: all passed"
