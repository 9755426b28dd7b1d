"""Why parts of a console do not work as they should: for /health and the page System."""

from __future__ import annotations

from gateway.core.reasons import Reason
from gateway.features.keys.directory import Admin


def console_reasons(admin: Admin) -> list[Reason]:
    """Only what the process already knows is read, so that an answer costs nothing."""
    found = (
        ("the newest gateway.yaml was refused, and the one before is in force", admin.refused()),
        ("the store cannot be used", admin.store.trouble),
        ("keys are not published", admin.publisher.trouble),
    )
    return [Reason(what, why) for what, why in found if why]
