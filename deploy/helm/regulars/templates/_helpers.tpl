{{- define "regulars.fullname" -}}
{{- if contains "regulars" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-regulars" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "regulars.selector" -}}
app.kubernetes.io/name: regulars
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "regulars.labels" -}}
{{ include "regulars.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "regulars.image" -}}
{{- $image := .image -}}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}{{ else }}{{ $image.repository }}:{{ $image.tag | default .default }}{{ end }}
{{- end }}

{{/* Settings as the environment; secrets by the name of their file. `.role`: whose; `.root`: the chart. */}}
{{- define "regulars.env" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $env := dict "REGULARS_PUBLIC_URL" $values.publicUrl "REGULARS_LISTEN_HOST" "0.0.0.0" "REGULARS_LISTEN_PORT" "8080" -}}
{{- if $values.kafka.enabled }}
{{- $_ := set $env "REGULARS_LOG" "kafka" }}
{{- $_ := set $env "REGULARS_KAFKA_SERVERS" (required "kafka.servers: which brokers?" $values.kafka.servers) }}
{{- $_ := set $env "REGULARS_KAFKA_SECURITY" $values.kafka.security }}
{{- $_ := set $env "REGULARS_KAFKA_REPLICATION" ($values.kafka.replication | toString) }}
{{- if hasPrefix "SASL" $values.kafka.security }}
{{- $_ := set $env "REGULARS_KAFKA_SASL_MECHANISM" $values.kafka.mechanism }}
{{- $_ := set $env "REGULARS_KAFKA_USERNAME" (required "kafka.username: needed with SASL" $values.kafka.username) }}
{{- $_ := set $env "REGULARS_KAFKA_PASSWORD_FILE" (printf "/run/secrets/regulars/%s" (required "secret.keys.kafkaPassword: needed with SASL" $values.secret.keys.kafkaPassword)) }}
{{- end }}
{{- if $values.kafka.caConfigMap }}
{{- $_ := set $env "REGULARS_KAFKA_CA_FILE" (printf "/etc/regulars/kafka/%s" $values.kafka.caKey) }}
{{- end }}
{{- end }}
{{- $_ := set $env "REGULARS_DATABASE_URL_FILE" (printf "/run/secrets/regulars/%s" $values.secret.keys.databaseUrl) }}
{{- $_ := set $env "REGULARS_SECRET_KEY_FILE" (printf "/run/secrets/regulars/%s" $values.secret.keys.secretKey) }}
{{- if and $values.secret.keys.adminKey (hasSuffix "-api" .role) }}
{{- $_ := set $env "REGULARS_ADMIN_KEY_FILE" (printf "/run/secrets/regulars/%s" $values.secret.keys.adminKey) }}
{{- end }}
{{- if eq .role "ingest-api" }}
{{- /* The gateway's pods, and what balances the load before them: they tell whom they speak for. */}}
{{- $_ := set $env "REGULARS_TRUSTED_PROXIES" "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,fc00::/7" }}
{{- end }}
{{- if hasPrefix "messaging" .role }}
{{- $_ := set $env "REGULARS_SMTP_HOST" $values.smtp.host }}
{{- $_ := set $env "REGULARS_SMTP_PORT" ($values.smtp.port | toString) }}
{{- $_ := set $env "REGULARS_SMTP_TLS" $values.smtp.tls }}
{{- $_ := set $env "REGULARS_MAIL_FROM" $values.smtp.mailFrom }}
{{- if $values.smtp.username }}
{{- $_ := set $env "REGULARS_SMTP_USERNAME" $values.smtp.username }}
{{- end }}
{{- if $values.secret.keys.smtpPassword }}
{{- $_ := set $env "REGULARS_SMTP_PASSWORD_FILE" (printf "/run/secrets/regulars/%s" $values.secret.keys.smtpPassword) }}
{{- end }}
{{- end }}
{{- range $name, $value := mergeOverwrite $env $values.settings }}
- name: {{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end }}

{{/* Only what this role reads is mounted. */}}
{{- define "regulars.volumes" -}}
{{- $keys := .root.Values.secret.keys -}}
- name: tmp
  emptyDir: { sizeLimit: 64Mi }
- name: secrets
  secret:
    secretName: {{ .root.Values.secret.existingSecret }}
    defaultMode: 0440
    items:
      - { key: {{ $keys.databaseUrl }}, path: {{ $keys.databaseUrl }} }
      - { key: {{ $keys.secretKey }}, path: {{ $keys.secretKey }} }
{{- if and $keys.adminKey (hasSuffix "-api" .role) }}
      - { key: {{ $keys.adminKey }}, path: {{ $keys.adminKey }} }
{{- end }}
{{- if and $keys.smtpPassword (hasPrefix "messaging" .role) }}
      - { key: {{ $keys.smtpPassword }}, path: {{ $keys.smtpPassword }} }
{{- end }}
{{- if and .root.Values.kafka.enabled $keys.kafkaPassword }}
      - { key: {{ $keys.kafkaPassword }}, path: {{ $keys.kafkaPassword }} }
{{- end }}
{{- if and .root.Values.kafka.enabled .root.Values.kafka.caConfigMap }}
- name: kafka-ca
  configMap: { name: {{ .root.Values.kafka.caConfigMap }} }
{{- end }}
{{- end }}

{{- define "regulars.mounts" -}}
- { name: tmp, mountPath: /tmp }
- { name: secrets, mountPath: /run/secrets/regulars, readOnly: true }
{{- if and .root.Values.kafka.enabled .root.Values.kafka.caConfigMap }}
- { name: kafka-ca, mountPath: /etc/regulars/kafka, readOnly: true }
{{- end }}
{{- end }}

{{- define "regulars.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "regulars.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "regulars.placement" -}}
{{- $root := .root -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- with $root.Values.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with $root.Values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
topologySpreadConstraints:
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "regulars.selector" $root | nindent 8 }}
        app.kubernetes.io/component: {{ $.role }}
{{- end }}
{{- end }}

{{/* Every deployment of ours, by name: what `api`, `worker` or `relay` says, and over it what its service says. */}}
{{- define "regulars.roles" -}}
{{- $roles := dict -}}
{{- range $service, $own := .Values.services -}}
{{- range $kind, $command := dict "api" "serve" "worker" "work" -}}
{{- $common := deepCopy (index $.Values $kind) -}}
{{- $role := mergeOverwrite $common (deepCopy (index ($own | default dict) $kind | default dict)) -}}
{{- $_ := set $roles (printf "%s-%s" $service $kind) (merge $role (dict "args" (list $command $service) "kind" $kind "service" $service)) -}}
{{- end -}}
{{- end -}}
{{- if .Values.kafka.enabled -}}
{{- $_ := set $roles "relay" (merge (deepCopy .Values.relay) (dict "args" (list "relay") "kind" "relay")) -}}
{{- end -}}
{{- toJson $roles -}}
{{- end }}
