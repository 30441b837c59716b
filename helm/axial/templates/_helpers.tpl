{{- define "axial.labels" -}}
app.kubernetes.io/name: axial
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Labels that select the pods of one component: (dict "root" $ "component" "listener") */}}
{{- define "axial.selector" -}}
app.kubernetes.io/name: axial
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "axial.name" -}}
{{ printf "%s-%s" .root.Release.Name .component | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "axial.image" -}}
{{- $registry := .root.Values.imageRegistry -}}
{{ if $registry }}{{ $registry }}/{{ end }}{{ .image.repository }}:{{ .image.tag }}
{{- end }}

{{- define "axial.claim" -}}
{{ .volume.existingClaim | default (printf "%s-%s" .root.Release.Name .name) }}
{{- end }}

{{/* Nothing in a pod runs as root or writes outside its volumes. */}}
{{- define "axial.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "axial.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Name of the Secret by which others know a component: (dict "root" $ "component" "listener") */}}
{{- define "axial.trustSecret" -}}
{{- if eq .root.Values.internalTls.mode "existing" -}}
{{ printf "%s-%s" (required "internalTls.existingPrefix must be given with mode existing" .root.Values.internalTls.existingPrefix) .component }}
{{- else -}}
{{ printf "%s-%s-trust" .root.Release.Name .component }}
{{- end -}}
{{- end }}

{{/* component -> files of its Secret, base64. Made once and kept over upgrades: Helm looks for what is there. */}}
{{- define "axial.generatedTrust" -}}
{{- if not (hasKey .Values "_trust") -}}
{{- $components := list "listener" "orchestrator" "reporting" "gateway" "triton" -}}
{{- $trust := dict -}}
{{- range $component := $components -}}
{{- $name := include "axial.trustSecret" (dict "root" $ "component" $component) -}}
{{- with (lookup "v1" "Secret" $.Release.Namespace $name) -}}
{{- $_ := set $trust $component .data -}}
{{- end -}}
{{- end -}}
{{- if ne (len $trust) (len $components) -}}
{{- $authority := genCA "Axial services" 3650 -}}
{{- range $component := $components -}}
{{- $made := genSignedCert $component nil (list (printf "%s.axial" $component)) 3650 $authority -}}
{{- $_ := set $trust $component (dict "tls.crt" ($made.Cert | b64enc) "tls.key" ($made.Key | b64enc) "ca.crt" ($authority.Cert | b64enc)) -}}
{{- end -}}
{{- end -}}
{{- $_ := set .Values "_trust" $trust -}}
{{- end -}}
{{ toYaml (index .Values "_trust") }}
{{- end }}

{{- define "axial.controlKeySecret" -}}
{{ .Values.triton.controlKeySecret | default (printf "%s-triton-key" .Release.Name) }}
{{- end }}

{{/* Triton's key, base64; made once and kept over upgrades. */}}
{{- define "axial.controlKey" -}}
{{- if not (hasKey .Values "_controlKey") -}}
{{- $key := randAlphaNum 43 | b64enc -}}
{{- with (lookup "v1" "Secret" .Release.Namespace (include "axial.controlKeySecret" .)) -}}
{{- $key = .data.key -}}
{{- end -}}
{{- $_ := set .Values "_controlKey" $key -}}
{{- end -}}
{{ index .Values "_controlKey" }}
{{- end }}

{{/* Changes when the chart makes other certificates or another key, so that pods start with them. */}}
{{- define "axial.trustChecksum" -}}
{{- $files := "" -}}
{{- if eq .Values.internalTls.mode "generated" -}}{{- $files = include "axial.generatedTrust" . -}}{{- end -}}
{{- if not .Values.triton.controlKeySecret -}}{{- $files = printf "%s%s" $files (include "axial.controlKey" .) -}}{{- end -}}
{{ $files | sha256sum | trunc 32 }}
{{- end }}

{{/* The pod of a Python service: (dict "root" $ "component" "listener" "health" 51061 ...) */}}
{{- define "axial.servicePod" -}}
{{- $values := index .root.Values .component -}}
metadata:
  labels:
    {{- include "axial.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
  annotations:
    checksum/config: {{ include (print .root.Template.BasePath "/configmap.yaml") .root | sha256sum }}
    checksum/trust: {{ include "axial.trustChecksum" .root }}
    prometheus.io/scrape: "true"
    prometheus.io/port: {{ .health | quote }}
    prometheus.io/path: /metrics
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: {{ .root.Values.terminationGracePeriodSeconds }}
  securityContext:
    {{- include "axial.podSecurity" .root | nindent 4 }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "axial.image" (dict "root" .root "image" .root.Values.image) }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: [{{ printf "services.%s" .component | quote }}]
      securityContext:
        {{- include "axial.containerSecurity" .root | nindent 8 }}
      env:
        - name: AXIAL_CONFIG
          value: /etc/axial/axial.yaml
        - name: AXIAL_DATABASE_URL
          valueFrom:
            secretKeyRef:
              name: {{ .root.Values.database.existingSecret }}
              key: {{ .root.Values.database.key }}
        # The store's volume is everybody's; an audit trail is one process's.
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: AXIAL_AUDIT__FOLDER
          value: /var/lib/axial/audit/$(POD_NAME)
        {{- with .env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if and .root.Values.s3.url .root.Values.s3.existingSecret }}
      envFrom:
        - secretRef:
            name: {{ .root.Values.s3.existingSecret }}
      {{- end }}
      ports:
        - name: health
          containerPort: {{ .health }}
        {{- with .ports }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      startupProbe:
        httpGet: {path: /healthz, port: health}
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /healthz, port: health}
        periodSeconds: 10
        timeoutSeconds: 5
      readinessProbe:
        httpGet: {path: /readyz, port: health}
        periodSeconds: 5
        timeoutSeconds: 5
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/axial, readOnly: true}
        - {name: store, mountPath: /var/lib/axial}
        - {name: tmp, mountPath: /tmp}
        - {name: trust, mountPath: /etc/axial-trust/{{ .component }}, readOnly: true}
        {{- if .models }}
        - {name: models, mountPath: /models, readOnly: true}
        {{- end }}
        {{- if .tlsSecret }}
        - {name: tls, mountPath: /etc/axial-tls, readOnly: true}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "axial.name" (dict "root" .root "component" "config") }}
    {{- if not .root.Values.s3.url }}
    - name: store
      persistentVolumeClaim:
        claimName: {{ include "axial.claim" (dict "root" .root "name" "store" "volume" .root.Values.store) }}
    {{- else if not .ownVolume }}
    - name: store
      emptyDir:
        sizeLimit: {{ .root.Values.s3.scratch }}
    {{- end }}
    - name: tmp
      emptyDir: {}
    - name: trust
      secret:
        secretName: {{ include "axial.trustSecret" . }}
        defaultMode: 0440
    {{- if .models }}
    - name: models
      persistentVolumeClaim:
        claimName: {{ include "axial.claim" (dict "root" .root "name" "models" "volume" .root.Values.models) }}
        readOnly: true
    {{- end }}
    {{- with .tlsSecret }}
    - name: tls
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
{{- end }}
