#!/bin/sh
# As the real image's: translate and format, then run. Every start formats again, and all but the first are told so.
set -eu
cd /opt/kafka
export CLUSTER_ID="${CLUSTER_ID:-5L6g3nShT-eMCtK--X86sw}"
run() { exec java ${KAFKA_HEAP_OPTS:-} -XX:+UseSerialGC -Dlog4j2.configurationFile=/etc/kafka/docker/log4j2.properties -cp '/opt/kafka/libs/*' "$@"; }
if ! told=$(run kafka.docker.KafkaDockerWrapper setup --default-configs-dir /etc/kafka/docker \
  --mounted-configs-dir /mnt/shared/config --final-configs-dir /opt/kafka/config 2>&1); then
  case $told in
    *"already formatted"*) ;;
    *) printf '%s\n' "$told" >&2; exit 1 ;;
  esac
fi
run kafka.Kafka /opt/kafka/config/server.properties
