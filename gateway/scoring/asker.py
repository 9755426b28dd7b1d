"""Calls a model for a scorer: through the gateway, within the scorer's budget, with the cost of each call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from gateway.core.prices import Prices
from gateway.core.score import Spent
from gateway.scoring.budget import BudgetLedger, ScorerBudget
from gateway.scoring.http_client import GatewayClient, HttpConnections, HttpReply
from gateway.scoring.types import Denied

NO_GATEWAY = (
    "it calls a model through the gateway, whose address is unknown: set `evals: {base_url: …, api_key: …}`, "
    "with a key that has `sample: never` (`gateway up` sets both)"
)
_DENIED = frozenset({401, 402, 403})
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class ModelRefused(Exception):
    """The model's reply is an error. param: the field of the request that it names, or ""."""

    def __init__(self, status: int, message: str, param: str = "") -> None:
        super().__init__(f"HTTP {status}: {message}" if message else f"HTTP {status}")
        self.status, self.message, self.param = status, message, param


ASKED_BY_GUARDS = "guards "
"""Begins the scorer under which the gateway counts what guards ask by a section of `scorers`; its name follows."""


@dataclass(frozen=True, slots=True)
class ExternalServices:
    """The services that scorers use outside their process."""

    connections: HttpConnections
    client: GatewayClient | None = None
    """The gateway's address, if it is known."""
    prices: Prices = field(default_factory=Prices)
    ledger: BudgetLedger | None = None
    """Ledger of budgets; None means that this process keeps them."""
    directory: Path = Path()
    """The directory that file names in the config are relative to."""
    asked_by: str = ""
    """Begins the names under which the gateway counts the usage of these scorers: guards have their own."""


@dataclass(frozen=True, slots=True)
class ServiceConnection:
    """Access of one scorer to an HTTP service of its own."""

    connections: HttpConnections
    deadline_s: float
    """Deadline of one request."""
    budget: ScorerBudget | None = None


class Asker:
    """Calls models for one scorer. budget: None: unlimited. deadline_s: of one call. scorer: its name, under which the
    gateway counts the usage; "" means that it counts for the key."""

    def __init__(
        self,
        client: GatewayClient | None,
        prices: Prices,
        budget: ScorerBudget | None = None,
        deadline_s: float = 60.0,
        scorer: str = "",
    ) -> None:
        self._client, self._prices, self._budget = client, prices, budget
        self.deadline_s = deadline_s
        self._headers = {"x-gateway-scorer": quote(scorer)} if scorer else {}

    async def ask(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] = _NO_HEADERS
    ) -> tuple[dict[str, Any], Spent]:
        """The reply's JSON object, and what the call cost. headers: of this request, beyond the gateway's own.

        Raises ModelRefused, Denied, OverBudget, Unreachable, and ValueError for a reply that is not a JSON object.
        """
        if self._client is None:
            raise Denied(NO_GATEWAY)
        reserved = await self._budget.reserve() if self._budget else None
        reply = await self._client.ask(path, body, deadline_s=self.deadline_s, headers={**self._headers, **headers})
        spent = self._spent(reply)
        if self._budget and reserved:
            failed = reply.status >= 400 and reply.usage is None
            usd, tokens = (0.0, 0) if failed else (spent.cost_usd, spent.tokens)
            await self._budget.correct(reserved, usd, tokens)
        _check(reply)
        if self._budget and self._budget.usd is not None and spent.cost_usd is None:
            model = spent.judge_model
            raise Denied(f"budget_usd cannot be enforced: {model} has no price, or reported no usage; see `prices`")
        return reply.object(), spent

    def _spent(self, reply: HttpReply) -> Spent:
        target, usage = reply.target, reply.usage
        return Spent(
            cost_usd=self._prices.cost(target, usage) if target else None,
            judge_model=str(target) if target else None,
            tokens=usage.input_tokens + usage.output_tokens if usage else None,
        )


def _check(reply: HttpReply) -> None:
    """Raises Denied for an authentication or billing error, ModelRefused for any other."""
    if reply.status < 400:
        return
    message, code, param = _error(reply)
    if reply.status in _DENIED or code in ("insufficient_quota", "invalid_api_key", "billing_not_active"):
        raise Denied(f"HTTP {reply.status}: {message or code}")
    raise ModelRefused(reply.status, message, param)


def _error(reply: HttpReply) -> tuple[str, str, str]:
    """Message, code and param of an error reply; "" for each that it lacks."""
    try:
        error = reply.object().get("error")
    except ValueError:
        return reply.body[:200].decode(errors="replace"), "", ""
    if not isinstance(error, dict):
        return str(error or "")[:500], "", ""
    code = error.get("code") or error.get("type") or ""
    return str(error.get("message") or "")[:500], str(code), str(error.get("param") or "")


def total_spent(parts: Sequence[Spent]) -> Spent | None:
    """The sum of several calls; unknown as soon as one part is unknown. None if there are no calls."""
    if not parts:
        return None
    usd = [p.cost_usd for p in parts if p.cost_usd is not None]
    tokens = [p.tokens for p in parts if p.tokens is not None]
    models = dict.fromkeys(p.judge_model for p in parts if p.judge_model)
    return Spent(
        cost_usd=sum(usd) if len(usd) == len(parts) else None,
        judge_model=", ".join(models) or None,
        tokens=sum(tokens) if len(tokens) == len(parts) else None,
    )
