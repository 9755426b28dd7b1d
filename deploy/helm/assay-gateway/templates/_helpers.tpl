{{- define "assay-gateway.file" -}}
{{ .Values.config | default (.Files.Get "files/gateway.yaml") }}
{{- end }}
{{- define "assay-gateway.config" -}}
gateway-config-{{ include "assay-gateway.file" . | sha256sum | trunc 10 }}
{{- end }}
