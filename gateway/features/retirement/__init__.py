"""Models that their providers retire: notices with the traffic, and drafts of the experiment against the successor."""

from __future__ import annotations

from gateway.features.manifest import ConfigCheck, Manifest

MANIFEST = Manifest(
    name="retirement",
    check=ConfigCheck("gateway.features.retirement.check:findings"),
    notices=("gateway.features.retirement.notice_source:RetirementNotices",),
)
