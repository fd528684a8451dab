#!/bin/sh
# Writes .env and secrets/ for docker-compose.yml, once: what is there already is never touched.
# $1: the folder to write into (the checkout). Nobody but the owner can enter secrets/; the files in it are readable to
# all who got in, since Docker shows each to a container whose user is not the owner.
set -eu
cd "$1"
umask 077

random() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }
secret() {
  [ -e "secrets/$1" ] && return
  printf '%s' "$2" >"secrets/$1"
  chmod 444 "secrets/$1"
}

mkdir -p secrets
chmod 700 secrets
secret postgres_password "$(random 24)"
secret database_url "postgresql://regulars:$(cat secrets/postgres_password)@postgres:5432/regulars"
secret secret_key "$(head -c 32 /dev/urandom | base64)"
secret admin_key "rk_$(random 24)"
secret grafana_password "$(random 12)"
# Empty: the mail catcher wants none.
secret smtp_password ''

if [ ! -e .env ]; then
  cat >.env <<'ENV'
# Read by docker compose. Secrets are in secrets/, a file each.

# Where shops and customers reach this installation: webhook addresses and unsubscribe links are made of it.
REGULARS_PUBLIC_URL=http://127.0.0.1:8080

# kafka: events travel by Apache Kafka. For none: REGULARS_LOG=postgres and COMPOSE_PROFILES empty.
REGULARS_LOG=kafka
COMPOSE_PROFILES=kafka

# Your mail relay instead of the catcher; its password goes into secrets/smtp_password.
#REGULARS_SMTP_HOST=smtp.your-relay.example
#REGULARS_SMTP_PORT=587
#REGULARS_SMTP_TLS=starttls
#REGULARS_SMTP_USERNAME=
#REGULARS_MAIL_FROM=hello@your-shop.example
#REGULARS_POSTAL_ADDRESS=

# Ports on 127.0.0.1.
GATEWAY_PORT=8080
GRAFANA_PORT=3000
MAIL_PORT=8025
ENV
fi
printf 'secrets: in %s/secrets; the key of the API is in secrets/admin_key, of Grafana (admin) in secrets/grafana_password\n' "$(pwd)"
