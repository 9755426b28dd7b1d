{{- define "assay-gateway.file" -}}
{{ .Values.config | default (.Files.Get "files/gateway.yaml") }}
{{- end }}
{{- define "assay-gateway.label" -}}
{{ .Values.nameOverride | default "assay-gateway" }}
{{- end }}
{{- define "assay-gateway.name" -}}
{{- $root := index . 0 -}}
{{ with $root.Values.nameOverride }}{{ . }}-{{ end }}{{ index . 1 }}
{{- end }}
{{- define "assay-gateway.config" -}}
{{ include "assay-gateway.name" (list . "gateway-config") }}-{{ include "assay-gateway.file" . | sha256sum | trunc 10 }}
{{- end }}
