"""Writes the chart deploy/helm/assay-gateway from the manifests of this folder: `python deploy/kubernetes/chart.py`.

What a chart can set is declared in POINTS and OPTIONAL; its default is what the manifest says there. A test compares
the written chart with this program, and what Helm renders with what kustomize builds.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CHART = ROOT / "deploy" / "helm" / "assay-gateway"
COMPONENTS = {
    "redis": "redis",
    "ingress": "ingress",
    "httproute": "httpRoute",
    "priority": "priority",
    "monitoring": "monitoring",
    "lag": "lag",
    "vllm-cpu": "vllmCpu",
    "vllm-gpu": "vllmGpu",
}
"""Components of kustomize, and the values whose `enabled` adds them."""
CLUSTER_SCOPED = {"PriorityClass"}
WRITTEN = "# Written by `python deploy/kubernetes/chart.py` from deploy/kubernetes."

Document = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """A place in a manifest that a value of the chart sets."""

    of: str
    """Kind and name, or the component and both: `Deployment/gateway`, `redis:StatefulSet/redis`."""
    path: tuple[str | int, ...]
    value: str
    """Dotted name of the value."""
    about: str = ""
    """Comment above the value in values.yaml."""


def _pod(name: str, *more: Point) -> tuple[Point, ...]:
    container = ("spec", "template", "spec", "containers", 0)
    resources = Point(f"Deployment/{name}", (*container, "resources"), f"{name}.resources")
    return (resources, *more)


POINTS = (
    *_pod("gateway"),
    Point(
        "HorizontalPodAutoscaler/gateway", ("spec", "minReplicas"), "gateway.replicas.min", "The autoscaler's bounds."
    ),
    Point("HorizontalPodAutoscaler/gateway", ("spec", "maxReplicas"), "gateway.replicas.max"),
    Point("HorizontalPodAutoscaler/gateway", ("spec", "metrics"), "gateway.scaling", "What it follows."),
    *_pod("consumer"),
    Point("Deployment/consumer", ("spec", "replicas"), "consumer.replicas", "With lag.enabled, KEDA sets them."),
    *_pod("console"),
    Point("Deployment/console", ("spec", "replicas"), "console.replicas"),
    Point(
        "NetworkPolicy/gateway", ("spec", "egress"), "networkPolicy.egress.gateway", "Rules of the API, all there are."
    ),
    Point("NetworkPolicy/consumer", ("spec", "egress"), "networkPolicy.egress.consumer"),
    Point("NetworkPolicy/console", ("spec", "egress"), "networkPolicy.egress.console"),
    Point("ingress:Ingress/gateway", ("spec", "ingressClassName"), "ingress.className"),
    Point("ingress:Ingress/gateway", ("metadata", "annotations"), "ingress.annotations"),
    Point("ingress:Ingress/gateway", ("spec", "rules", 0, "host"), "ingress.host"),
    Point("ingress:Ingress/gateway", ("spec", "tls", 0, "hosts", 0), "ingress.host"),
    Point("ingress:Ingress/gateway", ("spec", "tls", 0, "secretName"), "ingress.tlsSecret"),
    Point("httproute:HTTPRoute/gateway", ("spec", "parentRefs"), "httpRoute.parentRefs"),
    Point("httproute:HTTPRoute/gateway", ("spec", "hostnames"), "httpRoute.hostnames"),
    Point("redis:StatefulSet/redis", ("spec", "template", "spec", "containers", 0, "image"), "redis.image"),
    Point("redis:StatefulSet/redis", ("spec", "template", "spec", "containers", 0, "resources"), "redis.resources"),
    Point(
        "redis:StatefulSet/redis",
        ("spec", "volumeClaimTemplates", 0, "spec", "resources", "requests", "storage"),
        "redis.storage",
    ),
    Point("lag:ScaledObject/consumer", ("spec", "maxReplicaCount"), "lag.maxReplicas"),
    Point("lag:ScaledObject/consumer", ("spec", "triggers", 0, "metadata", "serverAddress"), "lag.prometheus"),
    Point("vllm-cpu:Deployment/vllm", ("spec", "template", "spec", "containers", 0, "image"), "vllmCpu.image"),
    Point("vllm-cpu:Deployment/vllm", ("spec", "template", "spec", "containers", 0, "args"), "vllmCpu.args"),
    Point("vllm-gpu:Deployment/vllm", ("spec", "template", "spec", "containers", 0, "image"), "vllmGpu.image"),
    Point("vllm-gpu:Deployment/vllm", ("spec", "template", "spec", "containers", 0, "args"), "vllmGpu.args"),
)
OPTIONAL = ("priorityClassName", "nodeSelector", "tolerations", "affinity", "imagePullSecrets")
"""Members of pods that the manifests leave out and a value adds."""
PODS = ("gateway", "consumer", "console")
SERVICES = ("gateway", "console")
ADDED: Document = {"podAnnotations": {}, "podLabels": {}, "extraEnv": [], "extraVolumes": [], "extraVolumeMounts": []}
"""Values of each pod that add to what the manifests say."""
LABEL = "app.kubernetes.io/name"
REFERENCES = ("scaleTargetRef", "service", "backendRefs")
"""Members with the name of another object."""
PRIORITY = {"gateway": "assay-gateway-serving", "consumer": "assay-gateway-scoring"}

VALUES: Document = {
    "nameOverride": "",
    "image": {"repository": "assay-gateway", "tag": "", "pullPolicy": ""},
    "config": "",
    "secrets": {"gateway": "gateway", "upstreams": "gateway-upstreams"},
    "serviceAccount": {"annotations": {}},
    "gateway": {},
    "consumer": {},
    "console": {},
    "networkPolicy": {"enabled": True},
    **{value: {"enabled": False} for value in COMPONENTS.values()},
}
ABOUT = {
    "nameOverride": "Replaces assay-gateway in labels and begins all names, for two releases in one namespace.",
    "gateway.service": "Such as type: LoadBalancer, with the cloud's annotations.",
    "image.tag": "Default: the chart's appVersion.",
    "image.pullPolicy": "Default: that of Kubernetes, which is IfNotPresent.",
    "config": "gateway.yaml, such as by `--set-file config=gateway.yaml`. Default: files/gateway.yaml of the chart.",
    "secrets": "Existing ones. gateway: STREAM_URL, REDIS_PASSWORD, STORE_URL, ADMIN_TOKEN_SHA256; upstreams: others.",
    "serviceAccount": "Annotations bind it to a role of the cloud (IRSA, Workload Identity).",
    "networkPolicy": "Which ports the pods may reach, and who may reach them.",
    "redis": "A Redis in the cluster, for a trial; else STREAM_URL names another, and STORE_URL a PostgreSQL.",
    "ingress": "An Ingress, or below it a route of the Gateway API.",
    "priority": "PriorityClasses of gateway and consumer.",
    "monitoring": "Needs the Prometheus operator.",
    "lag": "Consumers by what waits in the stream. Needs KEDA, and `monitoring`.",
    "vllmCpu": "vLLM in the cluster, without a GPU, for small models.",
    "vllmGpu": "vLLM in the cluster, with one GPU for each pod.",
}
FREE = {
    "resources",
    "annotations",
    "podAnnotations",
    "podLabels",
    "nodeSelector",
    "tolerations",
    "affinity",
    "scaling",
    "egress",
}
"""Values that hold what Kubernetes defines, so the chart's schema leaves it open."""


def documents(folder: Path, files: list[str]) -> Iterator[tuple[str, Document]]:
    """(file, manifest) of each manifest."""
    for file in files:
        for document in yaml.safe_load_all((folder / file).read_text(encoding="utf-8")):
            yield file, json.loads(json.dumps(document))  # without the parts that anchors share


def sources() -> Iterator[tuple[str, str, Document]]:
    """(component, file, manifest) of all manifests; the component of the base is ""."""
    base = yaml.safe_load((HERE / "base" / "kustomization.yaml").read_text(encoding="utf-8"))
    [labels] = base["labels"]
    for file, document in documents(HERE / "base", base["resources"]):
        document["metadata"].setdefault("labels", {}).update(labels["pairs"])
        yield "", file, document
    for component in COMPONENTS:
        folder = HERE / "components" / component
        kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
        for file, document in documents(folder, kustomization["resources"]):
            yield component, file, document


class _Plain(yaml.SafeDumper):
    """Writes equal parts out, instead of referring to the first."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class Template:
    """One manifest as a template of Helm."""

    def __init__(self, component: str, document: Document) -> None:
        self.component = component
        self.document = document
        self.name = f"{document['kind']}/{document['metadata']['name']}"
        self.defaults: list[tuple[Point, Any]] = []
        self._tokens: list[tuple[str, bool]] = []

    def text(self) -> str:
        self._points()
        self._everywhere()
        if self.component == "":
            self._base()
        self._names()
        if self.document["kind"] == "PrometheusRule":
            self.document["spec"] = self._token('.Files.Get "files/alerts.yaml"', text=True)
        dumped = yaml.dump(self.document, Dumper=_Plain, sort_keys=False, width=10_000)
        lines = [self._line(line) for line in dumped.splitlines()]
        body = "\n".join(lines) + "\n"
        condition = self._condition()
        return f"{{{{- if {condition} }}}}\n{body}{{{{- end }}}}\n" if condition else body

    def _condition(self) -> str:
        if self.component:
            return f".Values.{COMPONENTS[self.component]}.enabled"
        return ".Values.networkPolicy.enabled" if self.document["kind"] == "NetworkPolicy" else ""

    def _points(self) -> None:
        known = self.name if not self.component else f"{self.component}:{self.name}"
        for point in (point for point in POINTS if point.of == known):
            *path, last = point.path
            holder: Any = self.document
            for step in path:
                holder = holder[step]
            self.defaults.append((point, holder[last]))
            holder[last] = self._token(f".Values.{point.value}", text=False)

    def _everywhere(self) -> None:
        if self.document["kind"] not in CLUSTER_SCOPED:
            metadata = self.document["metadata"]
            self.document["metadata"] = {**metadata, "namespace": self._token(".Release.Namespace", text=False)}

    def _names(self) -> None:
        """Names and the label of the chart follow `nameOverride`."""
        if self.document["kind"] not in CLUSTER_SCOPED:
            self._rename(self.document["metadata"])
        self._walk(self.document)

    def _rename(self, holder: Document, member: str = "name") -> None:
        holder[member] = self._token(f'include "assay-gateway.name" (list . "{holder[member]}")', text=False)

    def _walk(self, node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                self._walk(item)
        if not isinstance(node, dict):
            return
        if node.get(LABEL) == "assay-gateway":
            node[LABEL] = self._token('include "assay-gateway.label" .', text=False)
        for member, value in node.items():
            for target in (value if isinstance(value, list) else [value]) if member in REFERENCES else ():
                self._rename(target)
            self._walk(value)
        for member in ("serviceAccountName", "serviceName"):
            if member in node:
                self._rename(node, member)

    def _base(self) -> None:
        kind, name = self.document["kind"], self.document["metadata"]["name"]
        if kind == "ServiceAccount":
            self._optional(self.document["metadata"], "annotations", ".Values.serviceAccount.annotations")
        if kind == "Deployment":
            template = self.document["spec"]["template"]
            self._pod(template["spec"], name)
            self._add(template, name)
        if kind == "Service":
            self._optional(self.document["spec"], "type", f".Values.{name}.service.type")
            self._optional(self.document["metadata"], "annotations", f".Values.{name}.service.annotations")
        if self.name == "Deployment/consumer":
            replicas = self.document["spec"].pop("replicas")
            self.document["spec"]["replicas?"] = replicas

    def _pod(self, pod: Document, name: str) -> None:
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            tag = ".Values.image.tag | default .Chart.AppVersion"
            container["image"] = self._token(f'printf "%s:%s" .Values.image.repository ({tag})', text=False)
            self._optional(container, "imagePullPolicy", ".Values.image.pullPolicy")
            for each in container["envFrom"]:
                secret = "upstreams" if each["secretRef"]["name"] == "gateway-upstreams" else "gateway"
                each["secretRef"]["name"] = self._token(f".Values.secrets.{secret}", text=False)
        for volume in pod["volumes"]:
            if "configMap" in volume:
                volume["configMap"]["name"] = self._token('include "assay-gateway.config" .', text=False)
        for member in OPTIONAL:
            value = f".Values.{name}.{member}"
            if member == "priorityClassName" and name in PRIORITY:
                value = f'{value} | default (ternary "{PRIORITY[name]}" "" .Values.priority.enabled)'
            self._optional(pod, member, value)

    def _add(self, template: Document, name: str) -> None:
        """Adds what values name to a pod: annotations, labels, environment, volumes."""
        value, pod = f".Values.{name}", template["spec"]
        self._optional(template["metadata"], "annotations", f"{value}.podAnnotations")
        labels = template["metadata"]["labels"]
        own = " ".join(f'"{label}" "{text}"' for label, text in labels.items() if label != LABEL)
        whole = f'dict "{LABEL}" (include "assay-gateway.label" .) {own}'
        template["metadata"]["labels"] = self._token(f"merge ({whole}) {value}.podLabels", text=False)
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            self._optional(container, "env", f"{value}.extraEnv")
            container["volumeMounts"].append(self._token(f"{ITEMS}{value}.extraVolumeMounts", text=False))
        pod["volumes"].append(self._token(f"{ITEMS}{value}.extraVolumes", text=False))

    def _token(self, expression: str, *, text: bool) -> str:
        """A scalar that stands for the expression, or the items of a list. text: it is YAML already."""
        self._tokens.append((expression, text))
        return f"@{len(self._tokens) - 1}@"

    def _optional(self, holder: Document, member: str, expression: str) -> None:
        """A member that is left out where the expression is empty."""
        holder[f"{member}?"] = self._token(expression, text=False)

    def _line(self, line: str) -> str:
        found = _TOKEN.search(line)
        if found is None:
            return line
        expression, text = self._tokens[int(found[1])]
        indent = " " * (len(line) - len(line.lstrip(" -")))
        start = line[: found.start()]
        if expression.startswith(ITEMS):
            return f"{{{{- range {expression.removeprefix(ITEMS)} }}}}\n{start}{{{{ toJson . }}}}\n{{{{- end }}}}"
        if start.endswith("?: "):
            member = start.strip().removesuffix("?:")
            if member == "replicas":  # 0 of them is a value, too
                value = f"{{{{ {expression} }}}}"
                return (
                    f"{indent}{{{{- if not .Values.lag.enabled }}}}\n{indent}{member}: {value}\n{indent}{{{{- end }}}}"
                )
            return f"{indent}{{{{- with {expression} }}}}\n{indent}{member}: {{{{ toJson . }}}}\n{indent}{{{{- end }}}}"
        if text:
            return f"{start.rstrip()}\n{{{{ {expression} | indent {len(indent) + 2} }}}}"
        return f"{start}{{{{ toJson ({expression}) }}}}"


ITEMS = "items of "
_TOKEN = re.compile(r"'@(\d+)@'")


def values(defaults: list[tuple[Point, Any]]) -> Document:
    """The chart's values with their defaults."""
    found: Document = json.loads(json.dumps(VALUES))
    for point, default in defaults:
        *path, last = point.value.split(".")
        holder = found
        for step in path:
            holder = holder.setdefault(step, {})
        holder[last] = default
    for name in PODS:
        found[name] |= {
            "priorityClassName": "", "nodeSelector": {}, "tolerations": [], "affinity": {}, "imagePullSecrets": [],
            **ADDED,
        }  # fmt: skip
    for name in SERVICES:
        found[name]["service"] = {"type": "", "annotations": {}}
    return found


def values_text(found: Document) -> str:
    about = ABOUT | {point.value: point.about for point in POINTS if point.about}
    lines = [WRITTEN, ""]

    def write(path: str, value: Any, indent: int) -> None:
        name = path.rpartition(".")[2]
        if path in about:
            lines.append(f"{' ' * indent}# {about[path]}")
        if isinstance(value, dict) and value and name not in FREE | {"metrics"}:
            lines.append(f"{' ' * indent}{name}:")
            for key, each in value.items():
                write(f"{path}.{key}", each, indent + 2)
            return
        dumped = yaml.dump({name: value}, Dumper=_Plain, sort_keys=False, width=1000).splitlines()
        lines.extend(" " * indent + line for line in dumped)

    for name, value in found.items():
        write(name, value, 0)
    return "\n".join(lines) + "\n"


def schema(found: Any, name: str = "") -> Document:
    """The JSON schema of values like these: an unknown name is a mistake."""
    if isinstance(found, dict):
        if name in FREE:
            return {"type": "object"}
        members = {key: schema(value, key) for key, value in found.items()}
        return {"type": "object", "additionalProperties": False, "properties": members}
    if isinstance(found, list):
        return {"type": "array"}
    kind = {bool: "boolean", int: "integer", str: "string"}[type(found)]
    return {"type": kind} | ({"minimum": 0} if kind == "integer" else {})


def helpers() -> str:
    """The ConfigMap carries a hash in its name, as kustomize gives it one: a new file rolls new pods out."""
    return """\
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
"""


CONFIG_MAP = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "assay-gateway.config" . }}
  labels:
    app.kubernetes.io/part-of: assay-gateway
  namespace: {{ .Release.Namespace | toJson }}
data:
  gateway.yaml: {{ include "assay-gateway.file" . | toJson }}
"""

NOTES = """\
The gateway answers inside the cluster at
  http://{{ include "assay-gateway.name" (list . "gateway") }}.{{ .Release.Namespace }}
Its Secrets must exist:
  kubectl -n {{ .Release.Namespace }} get secret {{ .Values.secrets.gateway }} {{ .Values.secrets.upstreams }}
Keys are made through the console:
  kubectl -n {{ .Release.Namespace }} port-forward service/{{ include "assay-gateway.name" (list . "console") }} 9102
"""


def version() -> str:
    found = re.search(r'__version__ = "([^"]+)"', (ROOT / "gateway" / "__init__.py").read_text(encoding="utf-8"))
    if found is None:
        raise ValueError("gateway/__init__.py has no __version__")
    return found[1]


def chart() -> dict[str, str]:
    """The files of the chart, by path within it."""
    defaults: list[tuple[Point, Any]] = []
    found: dict[str, str] = {}
    for component, file, document in sources():
        template = Template(component, document)
        text = template.text()
        defaults += template.defaults
        path = f"templates/{component or 'base'}-{file}"
        found[path] = found[path] + "---\n" + text if path in found else f"{WRITTEN}\n{text}"
    known = values(defaults)
    alerts = (ROOT / "grafana" / "alerts" / "gateway.yml").read_text(encoding="utf-8")
    about = {
        "apiVersion": "v2",
        "name": "assay-gateway",
        "description": "An OpenAI-compatible gateway that tells whether models may be switched",
        "type": "application",
        "version": version(),
        "appVersion": version(),
        "kubeVersion": ">=1.30.0-0",
    }
    return found | {
        "Chart.yaml": f"{WRITTEN}\n{yaml.safe_dump(about, sort_keys=False)}",
        "values.yaml": values_text(known),
        "values.schema.json": json.dumps(schema(known), indent=2) + "\n",
        "templates/_helpers.tpl": helpers(),
        "templates/base-config.yaml": CONFIG_MAP,
        "templates/NOTES.txt": NOTES,
        "files/gateway.yaml": (HERE / "base" / "config" / "gateway.yaml").read_text(encoding="utf-8"),
        "files/alerts.yaml": alerts[alerts.index("groups:") :],
    }


def main() -> None:
    written = {CHART / path: text for path, text in chart().items()}
    for path in CHART.rglob("*"):
        if path.is_file() and path not in written:
            path.unlink()
    for path, text in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
