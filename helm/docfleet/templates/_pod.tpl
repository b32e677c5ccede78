{{/* Every pod of the fleet, of services and of jobs. Takes a dict:
  root, component (label), image, values (the section of the values), settings (map), secrets (map, as
  docfleet.secrets gives it), scratch (size), grace (seconds), restartPolicy, tier,
  init (YAML of further init containers), container (map: args, ports, probes, lifecycle, name,
  resources), volumes and mounts (lists). */}}

{{- define "docfleet.env" -}}
env:
  {{- range $k, $v := .settings }}
  - {name: DOCFLEET_{{ $k }}, value: {{ include "docfleet.text" $v | quote }}}
  {{- end }}
  {{- range $k, $_ := .secrets }}
  - {name: DOCFLEET_{{ $k }}_FILE, value: /etc/docfleet/secrets/{{ $k }}}
  {{- end }}
  - {name: TMPDIR, value: /scratch}
  {{- with .root.Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
envFrom:
  {{- with .root.Values.existingConfigMap }}
  - configMapRef: {name: {{ . }}}
  {{- end }}
  - configMapRef: {name: {{ include "docfleet.fullname" .root }}-config}
{{- end }}

{{- define "docfleet.mounts" -}}
- {name: scratch, mountPath: /scratch}
- {name: secrets, mountPath: /etc/docfleet/secrets, readOnly: true}
{{- with .mounts }}
{{ toYaml . }}
{{- end }}
{{- with .root.Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- with .values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Holds a pod back until somebody has brought the schema up to what this version needs. */}}
{{- define "docfleet.wait" -}}
{{- $ctl := dict "root" .root "image" "docfleetctl" -}}
- name: wait-for-schema
  image: {{ include "docfleet.image" $ctl | quote }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args: [migrate, --wait]
  securityContext:
    {{- toYaml .root.Values.securityContext | nindent 4 }}
  {{- include "docfleet.env" . | nindent 2 }}
  resources:
    {{- toYaml .root.Values.migrations.resources | nindent 4 }}
  volumeMounts:
    {{- include "docfleet.mounts" . | nindent 4 }}
{{- end }}

{{- define "docfleet.pod" -}}
{{- $root := .root }}
{{- $v := $root.Values }}
{{- $c := .values }}
{{- $prefix := .tier | default "workers" }}
metadata:
  labels:
    {{- include "docfleet.labels" (dict "root" $root "name" .component) | nindent 4 }}
    {{- if .metrics }}
    docfleet-metrics: "true"
    {{- end }}
    {{- with $c.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ include "docfleet.config" $root | sha256sum | trunc 16 }}
    {{- with $c.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- with .restartPolicy }}
  restartPolicy: {{ . }}
  {{- end }}
  serviceAccountName: {{ include "docfleet.serviceAccountName" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .grace }}
  terminationGracePeriodSeconds: {{ . }}
  {{- end }}
  {{- $made := $v.priorityClasses.create | ternary (printf "%s-%s" (include "docfleet.fullname" $root) $prefix) "" }}
  {{- with coalesce $c.priorityClassName $v.priorityClassName $made }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $v.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- toYaml (mergeOverwrite (deepCopy $v.podSecurityContext) (default dict $c.podSecurityContext)) | nindent 4 }}
  {{- if and .spread $v.topologySpread.enabled }}
  topologySpreadConstraints:
    - maxSkew: {{ $v.topologySpread.maxSkew }}
      topologyKey: {{ $v.topologySpread.topologyKey }}
      whenUnsatisfiable: {{ $v.topologySpread.whenUnsatisfiable }}
      labelSelector:
        matchLabels:
          {{- include "docfleet.selector" (dict "root" $root "name" .component) | nindent 10 }}
      matchLabelKeys: [pod-template-hash]
  {{- end }}
  {{- with default $v.nodeSelector $c.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with default $v.tolerations $c.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with default $v.affinity $c.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- $wait := and .wait $v.migrations.wait }}
  {{- if or $wait .init }}
  initContainers:
    {{- if $wait }}
    {{- include "docfleet.wait" . | nindent 4 }}
    {{- end }}
    {{- range .init }}
    - name: {{ .name }}
      image: {{ include "docfleet.image" (dict "root" $root "image" $.image) | quote }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args: {{ toJson .args }}
      securityContext:
        {{- toYaml $v.securityContext | nindent 8 }}
      {{- include "docfleet.env" $ | nindent 6 }}
      resources:
        {{- toYaml $c.resources | nindent 8 }}
      volumeMounts:
        {{- include "docfleet.mounts" $ | nindent 8 }}
    {{- end }}
  {{- end }}
  containers:
    - name: {{ .container.name }}
      image: {{ default (include "docfleet.image" (dict "root" $root "image" .image)) .container.image | quote }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      {{- with .container.args }}
      args: {{ toJson . }}
      {{- end }}
      securityContext:
        {{- toYaml (mergeOverwrite (deepCopy $v.securityContext) (default dict $c.securityContext)) | nindent 8 }}
      {{- include "docfleet.env" . | nindent 6 }}
      {{- with .container.more }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      resources:
        {{- toYaml $c.resources | nindent 8 }}
      volumeMounts:
        {{- include "docfleet.mounts" . | nindent 8 }}
  volumes:
    - name: scratch
      emptyDir: {sizeLimit: {{ .scratch }}}
    - name: secrets
      projected:
        defaultMode: 0440
        sources:
          {{- range $k, $s := .secrets }}
          {{- if not (and $s.existingSecret $s.key) }}{{ fail (printf "secretConfig.%s needs existingSecret and key" $k) }}{{ end }}
          - secret: {name: {{ $s.existingSecret }}, items: [{key: {{ $s.key }}, path: {{ $k }}}]}
          {{- end }}
    {{- with .volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $v.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $c.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
