"""Writes a plan through the admin API, record by record: existing records stay, except for the amounts that LiteLLM has
spent since."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from gateway.console.client import AdminClient, AdminRefused
from gateway.core.errors import CannotRun
from gateway.features.litellm.plan import ImportPlan, PlannedRecord

Step = Literal["make", "update", "keep", "revoked", "refused"]
"""`make`: the record does not exist. `update`: the amount spent at LiteLLM has changed. `keep`: nothing has changed.
`revoked`: the record has been deleted here, which an import does not undo. `refused`: its name is another key's."""


_MOST_REFUSALS = 50
"""Refused records that are written out."""


@dataclass(frozen=True, slots=True)
class ImportStep:
    """An action on one record."""

    record: PlannedRecord
    step: Step
    id: str = ""
    """Id of the record, if it exists."""
    carried: Mapping[str, Any] | None = None
    """Change of the amounts carried over, as a merge patch; None means that all of it is removed."""
    left: tuple[str, ...] = ()
    """Settings that differ here, and are left as they are."""
    refusal: str = ""
    """Reason why it cannot be made; "" if it can."""


class ImportTarget:
    """The records behind a console's admin API, as an import sees them."""

    def __init__(self, client: AdminClient) -> None:
        self._client = client
        self._there = {
            (kind, row["id"]): row
            for kind in ("organization", "team")
            for row in client.all_of(f"/{kind}s", {"deleted": True})
        }
        keys = list(client.all_of("/keys", {"deleted": True}))
        self._names = {row["name"] for row in keys if row["deleted"] is None}
        self._empty = not keys

    def steps(self, plan: ImportPlan) -> list[ImportStep]:
        """Lists the actions that each record needs."""
        return [self._step(record) for record in plan.records]

    def _step(self, record: PlannedRecord) -> ImportStep:
        found = self._find(record)
        if found is None:
            if record.kind == "key" and record.name in self._names:
                refusal = (
                    f'there is another key "{record.name}" already, with another secret; rename one: '
                    f"`gateway keys change {record.name} --name …`"
                )
                return ImportStep(record, "refused", refusal=refusal)
            return ImportStep(record, "make")
        if found["deleted"] is not None:
            return ImportStep(record, "revoked", found["id"])
        known = found["limits"].get("carried", {})
        patch = {**dict.fromkeys(known), **record.carried} if record.carried else None
        step: Step = "keep" if record.carried == known else "update"
        return ImportStep(record, step, found["id"], patch, tuple(_differing(record, found)))

    def _find(self, record: PlannedRecord) -> Mapping[str, Any] | None:
        if record.kind != "key":
            return self._there.get((record.kind, record.name))
        if self._empty:
            return None
        query = {"sha256": record.body["sha256"], "deleted": True}
        rows = self._client.call("GET", "/keys", query=query)["data"]
        return rows[0] if rows else None

    def write(self, steps: list[ImportStep], done: Callable[[int], None] = lambda n: None) -> None:
        """Writes all that the console takes. Raises CannotRun with the records that were refused."""
        refused = [f"{step.record}: {step.refusal}" for step in steps if step.refusal]
        for n, step in enumerate(steps):
            try:
                self._write(step)
            except AdminRefused as error:
                refused.append(f"{step.record}: {error}")
            done(n + 1)
        if refused:
            more = [f"and {len(refused) - _MOST_REFUSALS} more"] if len(refused) > _MOST_REFUSALS else []
            raise CannotRun(
                "\n".join([*refused[:_MOST_REFUSALS], *more])
                + f"\n{len(steps) - len(refused)} of {len(steps)} records are done; correct this and import again: "
                "finished records stay as they are"
            )

    def _write(self, step: ImportStep) -> None:
        path = f"/{step.record.kind}s"
        if step.step == "make":
            self._client.call("POST", path, step.record.body)
        elif step.step == "update":
            self._client.call("PATCH", f"{path}/{quote(step.id, safe='')}", {"limits": {"carried": step.carried}})


def _differing(record: PlannedRecord, found: Mapping[str, Any]) -> Iterator[str]:
    """The settings of LiteLLM that differ here."""
    for name, value in record.body.items():
        if name in ("id", "sha256", "name"):
            continue
        here = found.get(name)
        if name == "limits":
            value, here = ({n: v for n, v in each.items() if n != "carried"} for each in (value, here or {}))
        elif name == "expires" and isinstance(here, str):
            here = here.replace(".000+00:00", "Z")
        if here != value:
            yield name
