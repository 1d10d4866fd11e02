{{/* What the serving and the migrating pods share: place, account, security, volumes. (dict "root" . "component" "auth") */}}
{{- define "service.pod" -}}
{{ include "platform.pod" (merge (dict "part" .root.Values "user" 10001) .) }}
{{- with .root }}
serviceAccountName: {{ include "platform.name" . }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
  {{- if .Values.global.liveUpdate }}
  - name: code
    emptyDir: {sizeLimit: 64Mi}
  {{- end }}
  {{- if .Values.signingKeys }}
  - name: keys
    secret:
      secretName: {{ include "platform.secret" (dict "root" . "source" "platform") }}
      defaultMode: 0440
      items: [{key: signing-keys.json, path: signing-keys.json}]
  {{- end }}
  {{- with .Values.global.trustedCertificates }}
  - name: trusted
    configMap:
      name: {{ . }}
      items: [{key: ca.crt, path: ca.crt}]
  {{- end }}
{{- end }}
{{- end }}

{{/* What their containers share: image, security, mounts, and the settings from Secrets. (dict "root" . "serving" true "exporting" false) */}}
{{- define "service.container" -}}
{{- with .root -}}
{{ include "platform.image" (dict "global" .Values.global "service" .Chart.Name "image" .Values.image "version" .Chart.AppVersion) }}
{{ include "platform.container" . }}
resources: {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if .Values.global.liveUpdate }}
  - {name: code, mountPath: /srv/services}
  {{- end }}
  {{- if .Values.signingKeys }}
  - {name: keys, mountPath: /keys, readOnly: true}
  {{- end }}
  {{- if .Values.global.trustedCertificates }}
  - {name: trusted, mountPath: /trusted, readOnly: true}
  {{- end }}
  {{- if and $.serving .Values.global.internalTls }}
  - {name: tls, mountPath: /tls, readOnly: true}
  {{- end }}
  {{- if $.exporting }}
  - {name: export, mountPath: /export}
  {{- end }}
env:
  {{- if .Values.global.trustedCertificates }}
  # asyncpg reads the first variable, every other library the second.
  - {name: PGSSLROOTCERT, value: /trusted/ca.crt}
  - {name: SSL_CERT_FILE, value: /trusted/ca.crt}
  {{- end }}
  {{- range $name, $source := .Values.secretEnv }}
  {{- include "platform.secretEnv" (dict "root" $.root "name" $name "source" $source) | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Tilt and skaffold change the code of a running pod: it lies in a volume, into which this copies the image's. */}}
{{- define "service.code" -}}
{{- if .Values.global.liveUpdate -}}
initContainers:
  - name: code
    {{- include "platform.image" (dict "global" .Values.global "service" .Chart.Name "image" .Values.image "version" .Chart.AppVersion) | nindent 4 }}
    {{- include "platform.container" . | nindent 4 }}
    command: [cp, -R, /srv/services/., /code]
    resources: {{- toYaml .Values.resources | nindent 6 }}
    volumeMounts: [{name: code, mountPath: /code}]
{{- end }}
{{- end }}

{{/* The pod that brings the schema up to date and, for auth, creates the first admin. A second run changes nothing. */}}
{{- define "service.migration" -}}
{{- $of := dict "root" . "component" (printf "%s-migrate" .Chart.Name) }}
metadata:
  {{- include "platform.podMetadata" (merge (dict "part" .Values) $of) | nindent 2 }}
spec:
  {{- include "service.pod" $of | nindent 2 }}
  restartPolicy: OnFailure
  {{- include "service.code" . | nindent 2 }}
  containers:
    - name: migrate
      {{- if .Values.adminEmail }}
      command: [sh, -c, 'service migrate && printenv ADMIN_PASSWORD | service create-admin --email "$ADMIN_EMAIL"']
      {{- else }}
      args: [migrate]
      {{- end }}
      {{- include "service.container" (dict "root" . "serving" false) | nindent 6 }}
        {{- range $name, $source := .Values.migrateSecretEnv }}
        {{- include "platform.secretEnv" (dict "root" $ "name" $name "source" $source) | nindent 8 }}
        {{- end }}
        {{- if .Values.adminEmail }}
        - {name: ADMIN_EMAIL, value: {{ .Values.adminEmail | quote }}}
        {{- include "platform.secretEnv" (dict "root" . "name" "ADMIN_PASSWORD" "source" "platform") | nindent 8 }}
        {{- end }}
{{- end }}
