"""Writes the alert rules of grafana/ as a PrometheusRule: `python deploy/kubernetes/rules.py`. A test compares."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
RULES = ROOT / "grafana" / "alerts" / "gateway.yml"
MANIFEST = Path(__file__).parent / "components" / "monitoring" / "rules.yaml"
HEAD = """\
# Written by `python deploy/kubernetes/rules.py` from grafana/alerts/gateway.yml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: gateway}
spec:
"""


def manifest() -> str:
    lines = RULES.read_text(encoding="utf-8").splitlines()
    body = lines[lines.index("groups:") :]
    return HEAD + "".join(f"  {line}\n" if line else "\n" for line in body)


if __name__ == "__main__":
    MANIFEST.write_text(manifest(), encoding="utf-8")
