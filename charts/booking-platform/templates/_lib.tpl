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

{{/* A list of maps as one map, key by key. Of a key's values the last one counts, even "", which `mergeOverwrite` skips. */}}
{{- define "platform.merged" -}}
{{- $merged := dict -}}
{{- range . }}{{ range $key, $value := . }}{{ $_ := set $merged $key $value }}{{ end }}{{ end -}}
{{- with $merged }}{{ toYaml . }}{{ end -}}
{{- end }}

{{/*
Every pod's metadata. The labels that select a pod, and the chart's own annotations, have precedence over an operator's:
(dict "root" . "component" "auth" "part" .Values "annotations" <the chart's, or none>)
*/}}
{{- define "platform.podMetadata" -}}
{{- $global := .root.Values.global -}}
labels: {{- include "platform.merged" (list $global.podLabels .part.podLabels (include "platform.selector" . | fromYaml)) | nindent 2 }}
{{- with include "platform.merged" (list $global.podAnnotations .part.podAnnotations .annotations) }}
annotations: {{- nindent 2 . }}
{{- end }}
{{- end }}

{{/*
The beginning of every pod's specification. `part` has the values of the pod's part of the chart, which may replace those of
`global`: (dict "root" . "component" "auth" "part" .Values "user" 10001)
*/}}
{{- define "platform.pod" -}}
{{- $part := .part -}}
{{- $global := .root.Values.global -}}
automountServiceAccountToken: false
{{- with $part.imagePullSecrets | default $global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with include "platform.merged" (list $global.nodeSelector $part.nodeSelector) }}
nodeSelector: {{- nindent 2 . }}
{{- end }}
{{- range $name := tuple "priorityClassName" "tolerations" "affinity" }}
{{- with get $part $name | default (get $global $name) }}
{{ dict $name . | toYaml }}
{{- end }}
{{- end }}
{{- with $part.topologySpreadConstraints | default $global.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- $selector := dict "labelSelector" (dict "matchLabels" (include "platform.selector" $ | fromYaml)) }}
  {{- range . }}
  - {{ include "platform.merged" (list $selector .) | indent 4 | trim }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- if not (include "platform.clusterAssignsIds" .root) }}
  runAsUser: {{ .user }}
  runAsGroup: {{ .user }}
  fsGroup: {{ .user }}
  {{- end }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Not empty where user and group ids are the cluster's choice, as OpenShift's restricted-v2 demands. */}}
{{- define "platform.clusterAssignsIds" -}}
{{- $adapt := .Values.global.compatibility.openshift.adaptSecurityContext }}
{{- if or (eq $adapt "force") (and (eq $adapt "auto") (.Capabilities.APIVersions.Has "security.openshift.io/v1")) -}}
yes
{{- end }}
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
      {{- include "platform.podMetadata" (merge (dict "part" .root.Values "annotations" .annotations) $of) | nindent 6 }}
    spec:
      {{- include "platform.pod" (merge (dict "part" .root.Values "user" 999) $of) | nindent 6 }}
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
