{{/*
What the controller may do. In the platform's namespace it reads routes, services and their endpoints, its ConfigMap, and
of all Secrets the one with the certificate. In its own namespace, which may be the same, it finds itself.
*/}}
{{- define "ingress-nginx.rbac" -}}
{{- $name := include "platform.name" . }}
{{- $namespace := include "ingress-nginx.namespace" . }}
{{- $labels := include "platform.labels" (dict "root" . "component" .Chart.Name) }}
{{- $account := dict "kind" "ServiceAccount" "name" $name "namespace" $namespace }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels: {{- $labels | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name }}
  labels: {{- $labels | nindent 4 }}
rules:
  - {apiGroups: [""], resources: [secrets], resourceNames: [{{ .tlsSecret }}], verbs: [get, list, watch]}
  - {apiGroups: [""], resources: [configmaps, services], verbs: [get, list, watch]}
  - {apiGroups: [""], resources: [events], verbs: [create, patch]}
  - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
  - {apiGroups: [networking.k8s.io], resources: [ingresses], verbs: [get, list, watch]}
  - {apiGroups: [networking.k8s.io], resources: [ingresses/status], verbs: [update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}
  labels: {{- $labels | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ $name }}}
subjects: [{{ toJson $account }}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name }}-own
  namespace: {{ $namespace }}
  labels: {{- $labels | nindent 4 }}
rules:
  - {apiGroups: [""], resources: [pods], verbs: [get, list]}
  - {apiGroups: [""], resources: [services], resourceNames: [{{ $name }}], verbs: [get]}
  - {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [{{ $name }}], verbs: [get, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}-own
  namespace: {{ $namespace }}
  labels: {{- $labels | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ $name }}-own}
subjects: [{{ toJson $account }}]
---
# IngressClasses belong to the cluster, and the controller checks that the namespace it watches exists.
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ .Release.Namespace }}-{{ $name }}
  labels: {{- $labels | nindent 4 }}
rules:
  - {apiGroups: [networking.k8s.io], resources: [ingressclasses], verbs: [get, list, watch]}
  - {apiGroups: [""], resources: [namespaces], resourceNames: [{{ .Release.Namespace }}], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ .Release.Namespace }}-{{ $name }}
  labels: {{- $labels | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ .Release.Namespace }}-{{ $name }}}
subjects: [{{ toJson $account }}]
---
# The controller's pods elect by this Lease the one that writes the Ingress' status. Being the chart's, it ends with the
# release.
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels: {{- $labels | nindent 4 }}
{{- end }}
