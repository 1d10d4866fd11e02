{{/* The controller, which the platform's chart includes: it alone knows the TLS Secret. */}}
{{- define "ingress-nginx.controller" -}}
{{- $name := include "platform.name" . }}
{{- $of := dict "root" . "component" .Chart.Name }}
{{- $api := .Files.Get "files/api.conf" | replace "NAMESPACE" .Release.Namespace | replace "SECRET" .tlsSecret }}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $name }}-api
  namespace: {{ include "ingress-nginx.namespace" . }}
  labels: {{- include "platform.labels" $of | nindent 4 }}
data:
  api.conf: |
    {{- $api | nindent 4 }}
  kubeconfig.yaml: |
    {{- .Files.Get "files/kubeconfig.yaml" | nindent 4 }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ include "ingress-nginx.namespace" . }}
  labels: {{- include "platform.labels" $of | nindent 4 }}
spec:
  replicas: {{ .Values.replicas }}
  strategy:
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  selector:
    matchLabels: {{- include "platform.selector" $of | nindent 6 }}
  template:
    metadata:
      {{- $annotations := dict "booking-platform/api-conf" (sha256sum $api) }}
      {{- include "platform.podMetadata" (merge (dict "part" .Values "annotations" $annotations) $of) | nindent 6 }}
    spec:
      {{- include "platform.pod" (merge (dict "part" .Values "user" 101) $of) | nindent 6 }}
      serviceAccountName: {{ $name }}
      terminationGracePeriodSeconds: 90
      initContainers:
        # The controller writes into its own folders: they are copied to a volume. And the certificate of 127.0.0.1.
        - name: configuration
          image: {{ .Values.image }}
          {{- include "platform.container" . | nindent 10 }}
          command:
            - sh
            - -ec
            - |
              cp -R /etc/nginx /etc/ingress-controller /writable
              mkdir -p /writable/tmp/nginx /writable/lib /writable/api
              openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=127.0.0.1 \
                -addext subjectAltName=IP:127.0.0.1 -keyout /writable/api/tls.key -out /writable/api/tls.crt
          resources: {{- toYaml .Values.resources | nindent 12 }}
          volumeMounts:
            - {name: writable, mountPath: /writable}
            - {name: writable, mountPath: /tmp, subPath: init}
        - name: api
          image: {{ .Values.image }}
          {{- include "platform.container" . | nindent 10 }}
          restartPolicy: Always # it runs beside the controller, starts before it and ends after it
          command: [nginx, -c, /api/api.conf]
          resources: {{- toYaml .Values.resources | nindent 12 }}
          volumeMounts:
            - {name: api, mountPath: /api, readOnly: true}
            - {name: api-server, mountPath: /api-server, readOnly: true}
            - {name: writable, mountPath: /writable/api, subPath: api, readOnly: true}
            - {name: api-writable, mountPath: /tmp, subPath: tmp}
            - {name: api-writable, mountPath: /var/lib/nginx, subPath: lib}
      containers:
        - name: controller
          image: {{ .Values.image }}
          {{- include "platform.container" . | nindent 10 }}
          args:
            - /nginx-ingress-controller
            - --kubeconfig=/api/kubeconfig.yaml
            - --ingress-class={{ .Values.className }}
            - --controller-class={{ include "ingress-nginx.class" . }}
            - --election-id={{ $name }}
            - --configmap={{ .Release.Namespace }}/{{ $name }}
            - --publish-service=$(POD_NAMESPACE)/{{ $name }}
            - --watch-namespace={{ .Release.Namespace }}
            # Ports above 1024 need no capability, as the restricted profile demands.
            - --http-port=8080
            - --https-port=8443
          env:
            - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
          resources: {{- toYaml .Values.resources | nindent 12 }}
          ports:
            - {name: http, containerPort: 8080}
            - {name: https, containerPort: 8443}
          startupProbe:
            httpGet: {path: /healthz, port: 10254}
            periodSeconds: 1
            failureThreshold: 60
          readinessProbe:
            httpGet: {path: /healthz, port: 10254}
            periodSeconds: 2
          livenessProbe:
            httpGet: {path: /healthz, port: 10254}
            periodSeconds: 10
            failureThreshold: 5
          lifecycle:
            preStop:
              exec: {command: [/wait-shutdown]}
          volumeMounts:
            - {name: api, mountPath: /api, readOnly: true}
            - {name: writable, mountPath: /etc/nginx, subPath: nginx}
            - {name: writable, mountPath: /etc/ingress-controller, subPath: ingress-controller}
            - {name: writable, mountPath: /writable/api, subPath: api, readOnly: true}
            - {name: writable, mountPath: /tmp, subPath: tmp}
            - {name: writable, mountPath: /var/lib/nginx, subPath: lib}
            - {name: token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
      volumes:
        - name: api
          configMap: {name: {{ $name }}-api}
        - name: api-server
          configMap: {name: kube-root-ca.crt}
        - name: writable
          emptyDir: {sizeLimit: 256Mi}
        - name: api-writable
          emptyDir: {sizeLimit: 16Mi}
        # A volume instead of automountServiceAccountToken: only the container that needs the token has it.
        - name: token
          projected:
            defaultMode: 0440
            sources:
              - serviceAccountToken: {path: token, expirationSeconds: 3607}
{{- end }}
