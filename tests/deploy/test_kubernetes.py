"""The manifests of deploy/kubernetes, rendered by kustomize and held against Kubernetes' own schemas and our rules."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from gateway.config import loading

VERSIONS = ["1.30", "1.37"]  # the oldest that the manifests are for (it has preStop.sleep), and the newest known here
# Kinds outside Kubernetes: those of the operator and KEDA, with the fields that their schemas require.
FOREIGN = {
    "ServiceMonitor": ("selector", "endpoints"),
    "PodMonitor": ("selector", "podMetricsEndpoints"),
    "PrometheusRule": ("groups",),
    "ScaledObject": ("scaleTargetRef", "triggers"),
}
OVERLAYS = ["small", "fleet"]


@pytest.fixture(scope="module", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest, deploy: Path) -> list[dict[str, Any]]:
    """The rendered manifests of each overlay."""
    return rendered(deploy, request.param)


def rendered(deploy: Path, overlay: str) -> list[dict[str, Any]]:
    if shutil.which("kustomize") is None:
        pytest.skip("no kustomize on this machine (Debian's package kustomize)")
    command = ["kustomize", "build", str(deploy / "kubernetes" / "overlays" / overlay)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stderr == "", "kustomize has no warnings"
    return list(yaml.safe_load_all(finished.stdout))


def of(manifests: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {m["metadata"]["name"]: m for m in manifests if m["kind"] == kind}


def workloads(manifests: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, pod template and its one container."""
    for kind in ("Deployment", "StatefulSet"):
        for name, manifest in of(manifests, kind).items():
            template = manifest["spec"]["template"]
            [container] = template["spec"]["containers"]
            yield name, template, container


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_fits_kubernetes_own_schema(manifests: list[dict[str, Any]], version: str) -> None:
    for manifest in manifests:
        if manifest["kind"] not in FOREIGN:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_key_would_be_seen(deploy: Path) -> None:
    manifest = of(rendered(deploy, "small"), "Deployment")["gateway"]
    manifest["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[1], strict=True)


def test_kinds_of_others_say_what_those_ask_for(deploy: Path) -> None:
    foreign = [m for m in rendered(deploy, "fleet") if m["kind"] in FOREIGN]
    assert {m["kind"] for m in foreign} == set(FOREIGN)
    for manifest in foreign:
        assert set(FOREIGN[manifest["kind"]]) <= set(manifest["spec"])
    [scaled] = [m for m in foreign if m["kind"] == "ScaledObject"]
    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    [trigger] = scaled["spec"]["triggers"]
    assert trigger["type"] == "prometheus"
    assert {"serverAddress", "query", "threshold"} <= set(trigger["metadata"])
    assert all(isinstance(v, str) for v in trigger["metadata"].values()), "KEDA takes texts alone"


def test_the_cluster_has_the_alert_rules_of_grafana(deploy: Path) -> None:
    rules = yaml.safe_load((deploy.parent / "grafana" / "alerts" / "gateway.yml").read_text())
    [manifest] = [m for m in rendered(deploy, "fleet") if m["kind"] == "PrometheusRule"]
    assert manifest["spec"] == rules, "run: python deploy/kubernetes/rules.py"
    assert len(rules["groups"]) > 1


def test_the_lag_that_scales_is_an_exported_series(deploy: Path) -> None:
    from prometheus_client import CollectorRegistry, generate_latest

    from gateway.observability.eval_metrics import EvalMetrics

    registry = CollectorRegistry()
    EvalMetrics(registry)
    [scaled] = [m for m in rendered(deploy, "fleet") if m["kind"] == "ScaledObject"]
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    name = query.removeprefix("max(").removesuffix(")")
    assert f"# TYPE {name} gauge" in generate_latest(registry).decode()
    assert "replicas" not in of(rendered(deploy, "fleet"), "Deployment")["consumer"]["spec"], "KEDA sets them"


def test_pods_are_unprivileged_with_a_read_only_root(
    manifests: list[dict[str, Any]],
) -> None:
    for name, template, container in workloads(manifests):
        spec, locked = template["spec"], container["securityContext"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert locked["allowPrivilegeEscalation"] is False
        assert locked["capabilities"] == {"drop": ["ALL"]}
        if name != "vllm":  # its image runs as root and writes where it likes
            assert spec["securityContext"]["runAsNonRoot"]
            assert locked["readOnlyRootFilesystem"]


def test_pods_are_watched_bounded_and_pinned(manifests: list[dict[str, Any]]) -> None:
    for _, _, container in workloads(manifests):
        assert container["livenessProbe"]
        assert "memory" in container["resources"]["limits"]
        assert "cpu" in container["resources"]["requests"]
        assert "cpu" not in container["resources"]["limits"], "throttling shows as latency"
        assert container["image"].partition(":")[2][:1].isdigit() or ":v" in container["image"]


def test_selectors_find_their_pods_and_ports_their_containers(manifests: list[dict[str, Any]]) -> None:
    pods = {name: (template["metadata"]["labels"], container) for name, template, container in workloads(manifests)}

    def found(selector: dict[str, str]) -> list[Any]:
        return [container for labels, container in pods.values() if selector.items() <= labels.items()]

    for service in of(manifests, "Service").values():
        [container] = found(service["spec"]["selector"])
        names = {p["name"] for p in container["ports"]}
        assert {p["targetPort"] for p in service["spec"]["ports"]} <= names
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        for name, manifest in of(manifests, kind).items():
            selector = manifest["spec"].get("selector") or manifest["spec"]["podSelector"]
            assert found(selector["matchLabels"]) == [pods[name][1]]
    for each in of(manifests, "HorizontalPodAutoscaler").values():
        assert each["spec"]["scaleTargetRef"]["name"] in pods
    assert set(of(manifests, "NetworkPolicy")) == set(pods), "every pod is protected"


def test_a_network_policy_lets_in_only_ports_that_are_there(manifests: list[dict[str, Any]]) -> None:
    ports = {name: {p["containerPort"] for p in container["ports"]} for name, _, container in workloads(manifests)}
    for name, policy in of(manifests, "NetworkPolicy").items():
        assert {p["port"] for rule in policy["spec"]["ingress"] for p in rule["ports"]} == ports[name]


def test_every_scraped_port_exists(deploy: Path) -> None:
    manifests = rendered(deploy, "fleet")
    [service] = [
        s for s in of(manifests, "Service").values()
        if of(manifests, "ServiceMonitor")["gateway"]["spec"]["selector"]["matchLabels"].items()
        <= s["metadata"]["labels"].items()
    ]  # fmt: skip
    [endpoint] = of(manifests, "ServiceMonitor")["gateway"]["spec"]["endpoints"]
    assert endpoint["port"] in {p["name"] for p in service["spec"]["ports"]}
    for name in ("consumer", "console"):
        monitor = of(manifests, "PodMonitor")[name]["spec"]
        template = of(manifests, "Deployment")[name]["spec"]["template"]
        assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        assert monitor["podMetricsEndpoints"][0]["port"] == template["spec"]["containers"][0]["ports"][0]["name"]


def test_secrets_are_named_and_never_written(manifests: list[dict[str, Any]], environ: dict[str, str]) -> None:
    assert not of(manifests, "Secret")
    held = {"gateway": ["gateway", "gateway-upstreams"], "consumer": ["gateway"], "console": ["gateway"]}
    for name, secrets in held.items():
        [container] = of(manifests, "Deployment")[name]["spec"]["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": secret}} for secret in secrets]
        for first in of(manifests, "Deployment")[name]["spec"]["template"]["spec"].get("initContainers", ()):
            assert first["envFrom"] == [{"secretRef": {"name": "gateway"}}], "it calls no upstream"
        assert "env" not in container
    [config_map] = of(manifests, "ConfigMap").values()
    read = loading.parse(config_map["data"]["gateway.yaml"], environ=environ)
    assert read.metrics.bind == "0.0.0.0:9100"
    with pytest.raises(Exception, match=r"STORE_URL is not set"):
        loading.parse(config_map["data"]["gateway.yaml"], environ={})
    shared = {name: environ[name] for name in ("STREAM_URL", "REDIS_PASSWORD", "STORE_URL", "ADMIN_TOKEN_SHA256")}
    loading.parse(config_map["data"]["gateway.yaml"], environ=shared, unread=loading.GATEWAY_ONLY)


def test_all_programs_read_the_same_file_by_our_command_line(
    manifests: list[dict[str, Any]], parsed: Callable[[Any], dict[str, Any]]
) -> None:
    [config_map] = of(manifests, "ConfigMap")
    for name, _, container in workloads(manifests):
        if name in ("gateway", "consumer", "console"):
            assert parsed(container["args"])
            template = of(manifests, "Deployment")[name]["spec"]["template"]["spec"]
            volumes = {v["name"]: v for v in template["volumes"]}
            assert volumes["config"]["configMap"]["name"] == config_map
            assert {m["mountPath"] for m in container["volumeMounts"]} == {"/etc/gateway", "/data", "/tmp"}  # noqa: S108


def test_keys_are_made_through_the_console_without_a_restart(
    manifests: list[dict[str, Any]], environ: dict[str, str], parsed: Callable[[Any], dict[str, Any]]
) -> None:
    """The console changes the store and the stream server, which all gateways read, and nothing of the cluster."""
    [config_map] = of(manifests, "ConfigMap").values()
    read = loading.parse(config_map["data"]["gateway.yaml"], environ=environ)
    assert read.admin is not None, "gateways expect keys from there"
    template = of(manifests, "Deployment")["console"]["spec"]["template"]["spec"]
    [container] = template["containers"]
    assert template["automountServiceAccountToken"] is False
    assert parsed(container["args"])["port"] == container["ports"][0]["containerPort"] == 9102
    policies = of(manifests, "NetworkPolicy")
    for name, needed in (("console", {6379, 5432}), ("gateway", {6379})):
        assert needed <= {port["port"] for rule in policies[name]["spec"]["egress"] for port in rule["ports"]}
    [rule] = policies["console"]["spec"]["ingress"]
    assert rule["from"][0] == {"podSelector": {"matchLabels": {"assay-gateway/admin": "true"}}}, "not from everywhere"
    assert [list(each) for each in rule["from"][1:]] == [["namespaceSelector"]]


def test_a_new_pod_reads_its_keys_from_the_store_first(
    manifests: list[dict[str, Any]], parsed: Callable[[Any], dict[str, Any]]
) -> None:
    """The stream server may be away; if the store is, too, the pod starts all the same."""
    [first] = of(manifests, "Deployment")["gateway"]["spec"]["template"]["spec"]["initContainers"]
    assert first["args"][:2] == ["keys", "snapshot"]
    assert "--if-reachable" in first["args"]
    assert first["securityContext"]["readOnlyRootFilesystem"]
    assert {m["mountPath"] for m in first["volumeMounts"]} == {"/etc/gateway", "/data", "/tmp"}  # noqa: S108
    egress = of(manifests, "NetworkPolicy")["gateway"]["spec"]["egress"]
    assert 5432 in {port["port"] for rule in egress for port in rule["ports"]}


def test_a_stopping_gateway_drains_and_ignores_upstream_health(manifests: list[dict[str, Any]]) -> None:
    template = of(manifests, "Deployment")["gateway"]["spec"]["template"]["spec"]
    [container] = template["containers"]
    drain_s = 30
    assert template["terminationGracePeriodSeconds"] >= container["lifecycle"]["preStop"]["sleep"]["seconds"] + drain_s
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] == "/health"
