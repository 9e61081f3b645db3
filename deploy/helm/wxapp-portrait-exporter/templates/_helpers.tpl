{{- define "exporter.name" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "exporter.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The argument is a list: the root, and maps with more labels and more annotations. */}}
{{- define "exporter.metadata" -}}
{{- $root := index . 0 -}}
{{- $labels := merge (dict) (index . 1) $root.Values.commonLabels -}}
{{- $annotations := merge (dict) (index . 2) $root.Values.commonAnnotations -}}
labels:
  {{- include "exporter.selector" $root | nindent 2 }}
  app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ $root.Release.Service }}
  helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
  {{- with $labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "exporter.config" -}}
{{- if not (or .Values.config.apps .Values.config.apps_files) -}}
{{- fail "config.apps: none is configured: add one with its appid and secret_file" -}}
{{- end -}}
{{- $archive := default (dict) .Values.config.archive -}}
{{- if .Values.postgresql.enabled -}}
{{- if gt (int .Values.shards) 1 -}}
{{- fail "shards and postgresql.enabled cannot be combined" -}}
{{- end -}}
{{- $archive = merge (dict "postgres_url_file" .Values.postgresql.urlFile) $archive -}}
{{- else if or $archive.postgres_url_file $archive.postgres_url_env -}}
{{- fail "config.archive: for an archive in PostgreSQL set postgresql.enabled" -}}
{{- end -}}
{{- $config := omit .Values.config "archive" -}}
{{- if $archive -}}
{{- $config = set $config "archive" $archive -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{- define "exporter.prefix" -}}
{{- printf "/%s" (trimAll "/" .Values.web.routePrefix) | trimSuffix "/" -}}
{{- end -}}

{{/* What serve and healthcheck have in common. */}}
{{- define "exporter.web" -}}
{{- with .Values.web.secrets }}
- --web.config.file=/run/secrets/web/{{ $.Values.web.configFile }}
{{- end }}
{{- with include "exporter.prefix" . }}
- --web.route-prefix={{ . }}
{{- end }}
{{- end -}}

{{- define "exporter.healthcheck" -}}
exec:
  command:
    - /usr/bin/wxapp-portrait-exporter
    - healthcheck
    {{- include "exporter.web" . | nindent 4 }}
{{- end -}}

{{/* How Prometheus connects. */}}
{{- define "exporter.client" -}}
{{- with .Values.serviceMonitor.tlsConfig }}
tlsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.serviceMonitor.basicAuth }}
basicAuth:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The argument is a list of names of Secrets, whose keys become files of one directory. */}}
{{- define "exporter.secrets" -}}
projected:
  defaultMode: 0440
  sources:
    {{- range . }}
    - secret:
        name: {{ . }}
    {{- end }}
{{- end -}}
