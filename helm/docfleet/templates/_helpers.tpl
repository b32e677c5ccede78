{{/* Names, labels, settings: what templates share. _pod.tpl has the pods. */}}

{{- define "docfleet.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* 34 characters leave room for the longest suffix and for "keda-hpa-" in front, within 63. */}}
{{- define "docfleet.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 34 | trimSuffix "-" }}
{{- else if contains (include "docfleet.name" .) .Release.Name }}
{{- .Release.Name | trunc 34 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "docfleet.name" .) | trunc 34 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The services: key in the values -> name; of workers the stage and its number in Postgres; whom
they talk to besides Postgres, Kafka and the store. One table, read as YAML. */}}
{{- define "docfleet.services" -}}
gateway: {name: ingest-gateway, tier: control, more: [identity]}
dispatcher: {name: dispatcher, tier: control, more: []}
textExtractor: {name: text-extractor, tier: workers, stage: text, number: 1, more: []}
ocrFallback: {name: ocr-fallback, tier: workers, stage: ocr, number: 2, more: [providers]}
aiExtractor: {name: ai-extractor, tier: workers, stage: ai, number: 3, more: [providers]}
previewWorker: {name: preview-worker, tier: workers, stage: preview, number: 4, more: []}
thumbnailWorker: {name: thumbnail-worker, tier: workers, stage: thumbnail, number: 5, more: []}
cleaner: {name: cleaner, tier: workers, stage: clean, number: 6, more: []}
scanWorker: {name: scan-worker, tier: workers, stage: scan, number: 7, more: [scanner]}
{{- end }}

{{/* Labels that select; they never change. Takes (dict "root" $ "name" COMPONENT or ""). */}}
{{- define "docfleet.selector" -}}
app.kubernetes.io/name: {{ include "docfleet.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .name }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- define "docfleet.labels" -}}
{{ include "docfleet.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: docfleet
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* metadata of an object. Takes (dict "root" $ "name" COMPONENT "suffix" "-x" "labels" map
"annotations" map). */}}
{{- define "docfleet.metadata" -}}
name: {{ include "docfleet.fullname" .root }}{{ .suffix }}
labels:
  {{- include "docfleet.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (default dict .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "docfleet.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "docfleet.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Takes (dict "root" $ "image" SERVICE). */}}
{{- define "docfleet.image" -}}
{{- $i := .root.Values.image -}}
{{- $path := printf "%s-%s" $i.repository .image -}}
{{- if $i.registry }}{{ $path = printf "%s/%s" $i.registry $path }}{{ end -}}
{{- $digest := get $i.digests .image -}}
{{- if $digest }}{{ printf "%s@%s" $path $digest }}{{ else }}{{ printf "%s:%s" $path (default .root.Chart.AppVersion $i.tag) }}{{ end -}}
{{- end }}

{{/* A setting's value as text: Helm reads 2000000 as a float and would print 2e+06. */}}
{{- define "docfleet.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ toString . }}{{ end }}
{{- end }}

{{/* Units at once: given, or the requested processors rounded up, never the node's. Takes the service. */}}
{{- define "docfleet.slots" -}}
{{- if gt (int .slots) 0 }}{{ int .slots }}
{{- else }}
{{- $cpu := toString (dig "requests" "cpu" "1" .resources) }}
{{- $n := hasSuffix "m" $cpu | ternary (divf (trimSuffix "m" $cpu | float64) 1000) (trimSuffix "m" $cpu | float64) }}
{{- max 1 (ceil $n | int) }}
{{- end }}
{{- end }}

{{/* Where things are: given, or bundled. */}}
{{- define "docfleet.bundledSecret" -}}
{{- default (printf "%s-bundled" (include "docfleet.fullname" .)) .Values.bundled.existingSecret }}
{{- end }}

{{- define "docfleet.databaseSecret" -}}
{{- if .Values.database.existingSecret }}{{ .Values.database.existingSecret -}}
{{- else if .Values.bundled.enabled }}{{ include "docfleet.bundledSecret" . }}
{{- else }}{{ fail "database.existingSecret is required: a Secret with the address of Postgres (or bundled.enabled, to try out)" }}{{ end }}
{{- end }}

{{/* Which key of that Secret has whose address, as YAML; an empty one: that of the services. */}}
{{- define "docfleet.databaseKeys" -}}
{{- $d := .Values.database }}
{{- $keys := dict "gateway" $d.gatewayUrlKey "importer" $d.importerUrlKey "owner" (coalesce $d.ownerUrlKey $d.directUrlKey "") "logins" $d.makeLogins }}
{{- if and .Values.bundled.enabled (not $d.existingSecret) (not .Values.bundled.existingSecret) }}
{{- $keys = dict "gateway" "gateway-url" "importer" "importer-url" "owner" "owner-url" "logins" true }}
{{- end }}
{{- toYaml $keys }}
{{- end }}

{{- define "docfleet.s3Secret" -}}
{{- if .Values.s3.existingSecret }}{{ .Values.s3.existingSecret -}}
{{- else if .Values.bundled.enabled }}{{ include "docfleet.bundledSecret" . }}
{{- else }}{{ fail "s3.existingSecret is required: a Secret with accessKey and secretKey (or bundled.enabled, to try out)" }}{{ end }}
{{- end }}

{{- define "docfleet.brokers" -}}
{{- if .Values.kafka.brokers }}{{ .Values.kafka.brokers -}}
{{- else if .Values.bundled.enabled }}{{ include "docfleet.fullname" . }}-kafka:9092
{{- else }}{{ fail "kafka.brokers is required (or bundled.enabled, to try out)" }}{{ end }}
{{- end }}

{{- define "docfleet.s3Endpoint" -}}
{{- if .Values.s3.endpoint }}{{ .Values.s3.endpoint -}}
{{- else if .Values.bundled.enabled }}http://{{ include "docfleet.fullname" . }}-s3:7070
{{- else }}{{ fail "s3.endpoint is required (or bundled.enabled, to try out)" }}{{ end }}
{{- end }}

{{/* The gateway from inside the cluster. */}}
{{- define "docfleet.gatewayUrl" -}}
{{- printf "http%s://%s:%d" (ternary "s" "" (not (empty .Values.gateway.tls.existingSecret))) (include "docfleet.fullname" .) (int .Values.gateway.service.port) }}
{{- end }}

{{/* Is a server of this release used, and not one outside? */}}
{{- define "docfleet.ownDatabase" -}}{{ if and .Values.bundled.enabled (not .Values.database.existingSecret) }}yes{{ end }}{{- end }}
{{- define "docfleet.ownKafka" -}}{{ if and .Values.bundled.enabled (not .Values.kafka.brokers) }}yes{{ end }}{{- end }}
{{- define "docfleet.ownS3" -}}{{ if and .Values.bundled.enabled (not .Values.s3.endpoint) }}yes{{ end }}{{- end }}

{{/* Settings of all programs, without secrets, as YAML. */}}
{{- define "docfleet.config" -}}
{{- $c := dict
  "KAFKA_BROKERS" (include "docfleet.brokers" .)
  "STORE_DRIVER" .Values.s3.driver
  "S3_ENDPOINT" (include "docfleet.s3Endpoint" .)
  "S3_REGION" .Values.s3.region
  "S3_BUCKET" .Values.s3.bucket
  "PROBE_ADDRESS" "0.0.0.0"
  "PROBE_PORT" "9100"
  "SCRATCH_DIR" "/scratch"
  "DRAIN_GRACE" (printf "%ds" (sub (int .Values.terminationGracePeriodSeconds) 10)) }}
{{- with .Values.scanWorker }}{{ if .enabled }}
{{- if not .clamd }}{{ fail "scanWorker.clamd is required: host:port of ClamAV's daemon" }}{{ end }}
{{- /* the gateway and the importer put the scan before all else where they are told of it */}}
{{- $_ := set $c "CLAMD" .clamd }}
{{- end }}{{ end }}
{{- with .Values.s3.publicEndpoint }}{{ $_ := set $c "S3_PUBLIC_ENDPOINT" . }}{{ end }}
{{- with .Values.kafka }}
{{- if ne .securityProtocol "PLAINTEXT" }}{{ $_ := set $c "KAFKA_SECURITY_PROTOCOL" .securityProtocol }}{{ end }}
{{- if hasPrefix "SASL_" .securityProtocol }}
{{- if not (and .username .existingSecret) }}{{ fail "kafka.username and kafka.existingSecret are required with SASL" }}{{ end }}
{{- $_ := set $c "KAFKA_SASL_MECHANISM" .saslMechanism }}
{{- $_ := set $c "KAFKA_USERNAME" .username }}
{{- end }}
{{- end }}
{{- range $k, $v := .Values.config }}{{ $_ := set $c $k (include "docfleet.text" $v) }}{{ end }}
{{- toYaml $c }}
{{- end }}

{{/* Secrets as files: SETTING -> {existingSecret, key}, as YAML. Takes (dict "root" $ "urlKey" KEY
"more" maps). A name X becomes the file X and the setting X_FILE. */}}
{{- define "docfleet.secrets" -}}
{{- $v := .root.Values }}
{{- $db := include "docfleet.databaseSecret" .root }}
{{- $s3 := include "docfleet.s3Secret" .root }}
{{- $s := dict
  "DATABASE_URL" (dict "existingSecret" $db "key" (default $v.database.urlKey .urlKey))
  "S3_ACCESS_KEY" (dict "existingSecret" $s3 "key" $v.s3.accessKeyKey)
  "S3_SECRET_KEY" (dict "existingSecret" $s3 "key" $v.s3.secretKeyKey) }}
{{- if and $v.database.directUrlKey (not .urlKey) }}
{{- $_ := set $s "DATABASE_DIRECT_URL" (dict "existingSecret" $db "key" $v.database.directUrlKey) }}
{{- end }}
{{- with $v.database.ca }}{{ if .existingSecret }}{{ $_ := set $s "DATABASE_CA" . }}{{ end }}{{ end }}
{{- with $v.s3.ca }}{{ if .existingSecret }}{{ $_ := set $s "S3_CA" . }}{{ end }}{{ end }}
{{- with $v.kafka }}
{{- if .ca.existingSecret }}{{ $_ := set $s "KAFKA_CA" .ca }}{{ end }}
{{- if hasPrefix "SASL_" .securityProtocol }}
{{- $_ := set $s "KAFKA_PASSWORD" (dict "existingSecret" .existingSecret "key" .passwordKey) }}
{{- end }}
{{- with .clientCertificate }}{{ if .existingSecret }}
{{- $_ := set $s "KAFKA_CERT" (dict "existingSecret" .existingSecret "key" .certKey) }}
{{- $_ := set $s "KAFKA_KEY" (dict "existingSecret" .existingSecret "key" .keyKey) }}
{{- end }}{{ end }}
{{- end }}
{{- range $k, $w := $v.secretConfig }}{{ $_ := set $s $k $w }}{{ end }}
{{- range $more := .more }}{{ range $k, $w := $more }}{{ $_ := set $s $k $w }}{{ end }}{{ end }}
{{- toYaml $s }}
{{- end }}
