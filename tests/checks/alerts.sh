#!/bin/sh
# The alerting rules and their tests, by promtool (Debian: apt-get install prometheus), where it is.
set -u
cd "$(dirname "$0")/../.."
if ! command -v promtool >/dev/null; then
  echo "skipped: there is no promtool here"
  exit 0
fi
told=$(promtool check rules deploy/prometheus/rules/*.yml 2>&1 && promtool test rules deploy/prometheus/tests/*.yml 2>&1) || {
  printf '%s\n' "$told"
  exit 1
}
