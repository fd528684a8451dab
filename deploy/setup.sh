#!/bin/sh
# Bootstraps .venv from a bare Python >= 3.11. Does nothing when it already fits requirements.lock, so that the second
# run needs no network. PYTHON=/path/to/python chooses the interpreter.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "setup: $*" >&2; }

fits="$(cat requirements.lock pyproject.toml deploy/setup.sh | cksum) $(pwd)"
if [ -x .venv/bin/regulars ] && [ "$(cat .venv/.fits 2>/dev/null)" = "$fits" ]; then
  exit 0
fi
if [ -e .venv ] && [ ! -w .venv ]; then
  say "$(pwd)/.venv does not fit requirements.lock and belongs to somebody else: ask them to run 'make setup', or take a checkout of your own"
  exit 1
fi

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
python=
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
  if new_enough "$candidate"; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  say "needs Python 3.11 or newer; none of ${PYTHON:-python3, python3.14 … python3.11} is. Name one: make setup PYTHON=/path/to/python3"
  exit 1
fi
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
  say "$python has no venv module; on Debian or Ubuntu: apt-get install python3-venv"
  exit 1
fi

if ! new_enough .venv/bin/python || ! [ -x .venv/bin/pip ]; then
  say "making .venv with $("$python" --version)"
  "$python" -m venv --clear .venv
fi

# uv comes with its hash from the lock; where no wheel of it fits the machine, pip does the same more slowly.
awk '/^[a-z0-9]/ { wanted = /^uv==/ } wanted' requirements.lock >.venv/uv.lock
say "installing requirements.lock"
if .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir --only-binary :all: --require-hashes -r .venv/uv.lock &&
  .venv/bin/uv pip sync --quiet --python .venv/bin/python --no-cache --link-mode copy --compile-bytecode --require-hashes requirements.lock; then
  :
else
  say "uv could not; trying pip"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir --require-hashes -r requirements.lock
fi
# hatchling is in the lock: building needs nothing from outside.
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-cache --no-deps --no-build-isolation --editable . ||
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
# Where nothing may be written while it runs (PYTHONDONTWRITEBYTECODE) each process would compile all of it anew: seconds.
.venv/bin/python -m compileall -q -j 0 libs services regulars || :
printf '%s' "$fits" >.venv/.fits
say "done: .venv/bin/regulars"
