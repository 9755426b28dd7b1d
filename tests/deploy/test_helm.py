"""The Helm chart of deploy/helm: what Helm renders of it is what kustomize builds, and what its values change.

Helm itself is the library of the package helm-python-sdk, in a process of its own.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

Values = dict[str, Any]
Manifest = dict[str, Any]
FOREIGN = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ScaledObject", "HTTPRoute"}
VERSIONS = ["1.30", "1.37"]
OVERLAYS: dict[str, tuple[list[str], Values]] = {
    "base": ([], {}),
    "small": (["redis", "vllm-cpu"], {"redis": {"enabled": True}, "vllmCpu": {"enabled": True}}),
    "fleet": (
        ["monitoring", "lag", "vllm-gpu"],
        {"monitoring": {"enabled": True}, "lag": {"enabled": True}, "vllmGpu": {"enabled": True}},
    ),
    "outside": (
        ["ingress", "httproute", "priority"],
        {"ingress": {"enabled": True}, "httpRoute": {"enabled": True}, "priority": {"enabled": True}},
    ),
}
CHANGED: Values = {
    "image": {"repository": "registry.example/assay", "tag": "1.2.3", "pullPolicy": "Always"},
    "secrets": {"gateway": "mine", "upstreams": "theirs"},
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/r"}},
    "config": "keys: []\n",
    "gateway": {
        "replicas": {"min": 3, "max": 5},
        "priorityClassName": "high",
        "nodeSelector": {"pool": "web"},
        "tolerations": [{"key": "x", "operator": "Exists"}],
        "imagePullSecrets": [{"name": "registry"}],
        "resources": {"requests": {"cpu": "2", "memory": "1Gi"}},
    },
    "consumer": {"replicas": 0},
    "ingress": {"enabled": True, "host": "ai.example.org", "className": "alb", "annotations": {"a": "b"}},
    "httpRoute": {
        "enabled": True,
        "hostnames": ["ai.example.org"],
        "parentRefs": [{"name": "edge", "namespace": "net"}],
    },
    "networkPolicy": {"egress": {"gateway": [{"ports": [{"port": 3128}]}]}},
    "redis": {"enabled": True, "storage": "20Gi"},
}
ADDED: Values = {
    "nameOverride": "blue",
    "gateway": {
        "podAnnotations": {"sidecar.istio.io/inject": "true"},
        "podLabels": {"cost-center": "ml"},
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "our-ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/our-ca", "readOnly": True}],
        "service": {"type": "LoadBalancer", "annotations": {"lb": "internal"}},
    },
    "consumer": {"podAnnotations": {"a": "b"}},
    "redis": {"enabled": True},
    "ingress": {"enabled": True},
    "httpRoute": {"enabled": True},
    "monitoring": {"enabled": True},
    "lag": {"enabled": True},
}
REFUSED: dict[str, Values] = {
    "gatway": {"gatway": {"replicas": {"min": 1}}},
    "replica": {"gateway": {"replica": 3}},
    "minimum": {"consumer": {"replicas": -1}},
    "enabled": {"ingress": {"enabled": "yes"}},
}


@pytest.fixture(scope="module")
def rendered(render_chart: Callable[[list[Values]], dict[str, Any]]) -> dict[str, Any]:
    """The chart as Helm renders it: by name of an overlay, of `changed`, and of each value that is refused."""
    requests = {name: values for name, (_, values) in OVERLAYS.items()} | {"changed": CHANGED, "added": ADDED} | REFUSED
    found = render_chart(list(requests.values()))
    assert found["version"].startswith("v4."), "Helm's own library"
    return {**dict(zip(requests, found["answers"], strict=True)), "lint": found["lint"]}


def manifests(files: dict[str, str]) -> Iterator[Manifest]:
    for path, text in files.items():
        if not path.endswith("NOTES.txt"):
            yield from (each for each in yaml.safe_load_all(text) if each)


def by_name(found: Iterator[Manifest]) -> dict[tuple[str, str], Manifest]:
    """Manifests by kind and name, without the hash of a file in names."""
    plain = [json.loads(re.sub(r"gateway-config-[0-9a-z]{10}", "gateway-config", json.dumps(each))) for each in found]
    named = {(each["kind"], each["metadata"]["name"]): each for each in plain}
    assert len(named) == len(plain)
    return named


@pytest.fixture(scope="module")
def built(deploy: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[str]], dict[Any, Manifest]]:
    """Builds the base with components by kustomize."""
    if shutil.which("kustomize") is None:
        pytest.skip("no kustomize on this machine (Debian's package kustomize)")
    folder = tmp_path_factory.mktemp("overlays")
    shutil.copytree(deploy / "kubernetes", folder / "kubernetes")

    def build(components: list[str]) -> dict[Any, Manifest]:
        overlay = folder / "kubernetes" / "overlays" / "-".join(["of", *components])
        overlay.mkdir()
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": "assay-gateway",
            "resources": ["../../base"],
            "components": [f"../../components/{name}" for name in components],
        }
        (overlay / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        done = subprocess.run(["kustomize", "build", str(overlay)], capture_output=True, text=True, check=True)  # noqa: S607
        return by_name(yaml.safe_load_all(done.stdout))

    return build


def test_the_chart_is_what_its_program_writes(deploy: Path) -> None:
    spec = importlib.util.spec_from_file_location("chart_of_deploy", deploy / "kubernetes" / "chart.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        expected = module.chart()
    finally:
        del sys.modules[spec.name]
    folder = deploy / "helm" / "assay-gateway"
    found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert found == expected, "run: make generate"


@pytest.mark.parametrize("name", OVERLAYS)
def test_helm_and_kustomize_render_the_same_objects(
    rendered: dict[str, Any], built: Callable[[list[str]], dict[Any, Manifest]], name: str
) -> None:
    ours, theirs = by_name(manifests(rendered[name])), built(OVERLAYS[name][0])
    assert ours.keys() == theirs.keys()
    for each, manifest in theirs.items():
        assert ours[each] == manifest, each


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_fits_kubernetes_own_schema(rendered: dict[str, Any], version: str) -> None:
    """Those that several overlays render alike are validated once."""
    different: dict[str, Manifest] = {}
    for name in (*OVERLAYS, "changed", "added"):
        found = list(manifests(rendered[name]))
        assert len(found) > 10, name
        different |= {json.dumps(each, sort_keys=True): each for each in found if each["kind"] not in FOREIGN}
    for manifest in different.values():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_helm_finds_nothing_wrong_with_the_chart(rendered: dict[str, Any]) -> None:
    assert rendered["lint"]["errors"] == []
    assert [each["error"] for each in rendered["lint"]["messages"]] == ["icon is recommended"]


def test_values_change_what_they_name(rendered: dict[str, Any]) -> None:
    found = by_name(manifests(rendered["changed"]))
    pod = found["Deployment", "gateway"]["spec"]["template"]["spec"]
    [container], [first] = pod["containers"], pod["initContainers"]
    for each in (container, first):
        assert (each["image"], each["imagePullPolicy"]) == ("registry.example/assay:1.2.3", "Always")
    assert container["envFrom"] == [{"secretRef": {"name": "mine"}}, {"secretRef": {"name": "theirs"}}]
    assert container["resources"]["requests"] == {"cpu": "2", "memory": "1Gi"}
    assert pod["priorityClassName"] == "high"
    assert pod["nodeSelector"] == {"pool": "web"}
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    scaler = found["HorizontalPodAutoscaler", "gateway"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 5)
    assert found["Deployment", "consumer"]["spec"]["replicas"] == 0
    assert found["ConfigMap", "gateway-config"]["data"]["gateway.yaml"] == "keys: []\n"
    ingress = found["Ingress", "gateway"]
    assert ingress["metadata"]["annotations"]["a"] == "b", "Helm adds it to the default ones"
    assert ingress["spec"]["rules"][0]["host"] == ingress["spec"]["tls"][0]["hosts"][0] == "ai.example.org"
    assert found["HTTPRoute", "gateway"]["spec"]["parentRefs"] == [{"name": "edge", "namespace": "net"}]
    assert found["NetworkPolicy", "gateway"]["spec"]["egress"] == [{"ports": [{"port": 3128}]}]
    account = found["ServiceAccount", "gateway"]["metadata"]["annotations"]
    assert account == {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/r"}
    [claim] = found["StatefulSet", "redis"]["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "20Gi"


def test_values_add_to_pods_and_services(rendered: dict[str, Any]) -> None:
    found = by_name(manifests(rendered["added"]))
    template = found["Deployment", "blue-gateway"]["spec"]["template"]
    [container], [first] = template["spec"]["containers"], template["spec"]["initContainers"]
    assert template["metadata"]["annotations"] == {"sidecar.istio.io/inject": "true"}
    assert template["metadata"]["labels"]["cost-center"] == "ml"
    assert template["spec"]["volumes"][-1] == {"name": "ca", "configMap": {"name": "our-ca"}}
    for each in (container, first):
        assert each["env"] == [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}]
        assert [mount["mountPath"] for mount in each["volumeMounts"]][-1] == "/etc/our-ca"
        assert len(each["volumeMounts"]) == 4
    service = found["Service", "blue-gateway"]
    assert (service["spec"]["type"], service["metadata"]["annotations"]) == ("LoadBalancer", {"lb": "internal"})
    assert "type" not in found["Service", "blue-console"]["spec"]
    consumer = found["Deployment", "blue-consumer"]["spec"]["template"]
    assert consumer["metadata"]["annotations"] == {"a": "b"}
    assert "env" not in consumer["spec"]["containers"][0]


def test_two_releases_in_one_namespace_share_no_name_and_pod(rendered: dict[str, Any]) -> None:
    """Each reference to an object, and each selector, follows the names."""
    found = by_name(manifests(rendered["added"]))
    names = {name for kind, name in found if kind != "PriorityClass"}
    assert all(name.startswith("blue-") for name in names), names
    text = json.dumps(list(found.values()))
    assert '"app.kubernetes.io/name": "assay-gateway"' not in text
    refers = re.compile(r'"(?:scaleTargetRef|service)": \{[^{}]*"name": "([^"]+)"|"service(?:Account)?Name": "([^"]+)"')
    referred = {a or b for a, b in refers.findall(text)}
    assert referred, "nothing refers to anything"
    assert referred <= names
    [route] = found["HTTPRoute", "blue-gateway"]["spec"]["rules"]
    assert [each["name"] for each in route["backendRefs"]] == ["blue-gateway"]
    pod = found["Deployment", "blue-gateway"]["spec"]
    assert pod["selector"]["matchLabels"].items() <= pod["template"]["metadata"]["labels"].items()


def test_a_new_file_rolls_new_pods_out(rendered: dict[str, Any]) -> None:
    names = {
        manifest["metadata"]["name"]
        for name in ("base", "changed")
        for manifest in manifests(rendered[name])
        if manifest["kind"] == "ConfigMap"
    }
    assert len(names) == 2


@pytest.mark.parametrize("name", REFUSED)
def test_values_that_do_not_exist_are_refused_by_name(rendered: dict[str, Any], name: str) -> None:
    assert isinstance(rendered[name], str), "it was rendered"
    assert name in rendered[name]


def test_redis_has_a_password_wherever_it_runs(rendered: dict[str, Any], deploy: Path) -> None:
    redis = by_name(manifests(rendered["small"]))["StatefulSet", "redis"]["spec"]["template"]["spec"]["containers"][0]
    assert redis["args"][:3] == ["redis-server", "--requirepass", "$(REDIS_PASSWORD)"]
    assert {each["valueFrom"]["secretKeyRef"]["name"] for each in redis["env"]} == {"gateway"}
    compose = yaml.safe_load((deploy / "compose.yaml").read_text())["services"]["redis"]
    assert "--requirepass" in compose["command"]
    for config in ("gateway.yaml", "kubernetes/base/config/gateway.yaml"):
        assert yaml.safe_load((deploy / config).read_text())["stream"]["password"] == "${REDIS_PASSWORD}"
