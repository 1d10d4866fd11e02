{{/* The address of a service's internal port: (dict "root" . "service" "auth") */}}
{{- define "platform.internalUrl" -}}
{{ ternary "https" "http" .root.Values.global.internalTls }}://{{ .root.Release.Name }}-{{ .service }}:9000
{{- end }}
