#!/bin/sh
# Base images for a machine that cannot pull: stand-ins of the same names, made of Debian and Maven packages as the
# machine itself is configured to fetch them (mirror, proxy, certificates). What is there already is left alone.
# $1: folder to work in. $2: the compose file, which says the names.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$1
compose=$2
say() { printf 'base images: %s\n' "$*" >&2; }
there() { docker image inspect "$1" >/dev/null 2>&1; }

# The name and tag that compose, or the Dockerfile, asks for.
asked() { sed -n "s|^ *image: *\($1:[^ ]*\).*|\1|p" "$compose" | head -n 1; }

debian=regulars-stand-in/debian:trixie
base_debian() {
  there "$debian" && return
  say "debootstrap of trixie (about a minute)"
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Label: Debian' | head -n 1)
  root=$work/trixie
  [ -x "$root/usr/bin/python3" ] || debootstrap --variant=minbase \
    --include=ca-certificates,netbase,python3,python3-venv,tzdata trixie "$root" ${mirror:+"$mirror"} >"$work/debootstrap.log" 2>&1
  apt-config dump | grep -E '^Acquire::https?::(proxy|Proxy) ' >"$root/etc/apt/apt.conf.d/90machine" || true
  tar -C "$root" --exclude=./var/cache/apt/archives --exclude=./var/lib/apt/lists --exclude=./dev -c . | docker import - "$debian" >/dev/null
}

# make NAME FOLDER: builds what stands in for NAME, unless it is there or can be pulled.
make() {
  there "$1" && return
  if [ -z "${REGULARS_NO_PULL:-}" ] && docker pull --quiet "$1" >/dev/null 2>&1; then return; fi
  base_debian
  say "$1 (a stand-in)"
  folder=$work/$2
  rm -rf "$folder"
  cp -R "$here/stand-ins/$2" "$folder"
  case $2 in
    python) cp "${PIP_CERT:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}" "$folder/ca.crt" ;;
    kafka) (cd "$folder" && mvn -q -B dependency:copy-dependencies -DoutputDirectory=libs -DincludeScope=runtime) ;;
  esac
  DOCKER_BUILDKIT=0 docker build --quiet --network host --build-arg DEBIAN="$debian" \
    --tag "$1" "$folder" >"$work/$2.log" 2>&1 || { cat "$work/$2.log" >&2; exit 1; }
}

mkdir -p "$work"
make "$(sed -n 's/^ARG BASE=//p' "$here/../Dockerfile")" python
make "$(asked postgres)" postgres
make "$(asked apache/kafka)" kafka
make "$(asked nginx)" nginx
make "$(asked prom/prometheus)" prometheus
