{{/* Shared by this chart and its subcharts. `.Chart.Name` is a subchart's alias: auth, booking, postgres, … */}}

{{- define "platform.name" -}}
{{ .Release.Name }}-{{ .Chart.Name }}
{{- end }}

{{/* The labels that select a component's pods: (dict "root" . "component" "auth") */}}
{{- define "platform.selector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/name: {{ .component }}
{{- end }}

{{- define "platform.labels" -}}
{{ include "platform.selector" . }}
app.kubernetes.io/part-of: booking-platform
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- end }}

{{/* The name of the Secret behind `platform`, `postgres`, `redis` or `mongodb`: (dict "root" . "source" "redis") */}}
{{- define "platform.secret" -}}
{{- if hasKey .root.Values.global.existingSecrets .source -}}
{{ index .root.Values.global.existingSecrets .source | default (printf "%s-%s" .root.Release.Name .source) }}
{{- else -}}
{{ .source }}
{{- end -}}
{{- end }}

{{/*
One environment variable from a Secret. `source` is the Secret and, unless the key is called like the variable, the key:
(dict "root" . "name" "REDIS_URL" "source" "redis/AUTH_REDIS_URL")
*/}}
{{- define "platform.secretEnv" -}}
{{- $source := splitList "/" .source }}
{{- $secret := include "platform.secret" (dict "root" .root "source" (first $source)) }}
- name: {{ .name }}
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ index (append $source .name) 1 }}}}
{{- end }}

{{/* The beginning of every pod's specification: (dict "root" . "user" 10001) */}}
{{- define "platform.pod" -}}
automountServiceAccountToken: false
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ .user }}
  fsGroup: {{ .user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "platform.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* A service's image: (dict "global" .Values.global "service" "auth" "image" "" "version" .Chart.AppVersion) */}}
{{- define "platform.image" -}}
image: {{ .image | default (printf "%s/%s:%s" .global.image.registry .service (.global.image.tag | default .version)) }}
imagePullPolicy: {{ .global.image.pullPolicy }}
{{- end }}

{{/*
A store: one pod with a volume, its Service and its account. The caller passes what differs between stores:
(dict "root" . "port" 6379 "data" "/data" "container" <env, args, probes> "writable" (list "/tmp")
 "files" (dict "path" "/etc/redis" "volume" <a volume's source>))
*/}}
{{- define "platform.store" -}}
{{- $name := include "platform.name" .root }}
{{- $of := dict "root" .root "component" .root.Chart.Name }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  labels: {{- include "platform.labels" $of | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels: {{- include "platform.labels" $of | nindent 4 }}
spec:
  selector: {{- include "platform.selector" $of | nindent 4 }}
  ports:
    - {name: {{ .root.Chart.Name }}, port: {{ .port }}, targetPort: {{ .port }}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $name }}
  labels: {{- include "platform.labels" $of | nindent 4 }}
spec:
  serviceName: {{ $name }}
  replicas: 1
  selector:
    matchLabels: {{- include "platform.selector" $of | nindent 6 }}
  template:
    metadata:
      labels: {{- include "platform.selector" $of | nindent 8 }}
      {{- with .annotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      {{- include "platform.pod" (dict "root" .root "user" 999) | nindent 6 }}
      serviceAccountName: {{ $name }}
      terminationGracePeriodSeconds: 60
      containers:
        - name: {{ .root.Chart.Name }}
          image: {{ .root.Values.image }}
          {{- include "platform.container" . | nindent 10 }}
          {{- .container | nindent 10 }}
          resources: {{- toYaml .root.Values.resources | nindent 12 }}
          ports:
            - {name: {{ .root.Chart.Name }}, containerPort: {{ .port }}}
          volumeMounts:
            - {name: data, mountPath: {{ .data }}}
            {{- range $i, $path := .writable }}
            - {name: writable, mountPath: {{ $path }}, subPath: writable-{{ $i }}}
            {{- end }}
            {{- with .files }}
            - {name: files, mountPath: {{ .path }}, readOnly: true}
            {{- end }}
      volumes:
        - name: writable
          emptyDir: {sizeLimit: 64Mi}
        {{- with .files }}
        - name: files
          {{- toYaml .volume | nindent 10 }}
        {{- end }}
  volumeClaimTemplates:
    - metadata:
        name: data
        labels: {{- include "platform.selector" $of | nindent 10 }}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .root.Values.storageClassName }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests: {storage: {{ .root.Values.storage }}}
{{- end }}
