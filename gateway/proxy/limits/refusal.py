"""The answer to a caller whose call a limit refuses: error, headers, and the same figures for GET /v1/key. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gateway.core.call_scopes import NOBODY
from gateway.core.errors import GatewayError, LimitsUnavailable, QuotaExceeded, RateLimited
from gateway.core.limits import Measure
from gateway.core.run_ceilings import COUNTED, OnEnd
from gateway.proxy.limits.book import Account
from gateway.proxy.limits.headers import rate_headers
from gateway.proxy.limits.lease import Lease

_UNITS = {
    "requests": "requests",
    "tokens": "tokens",
    "usd": "USD",
    "concurrency": "requests in flight",
    "gpu_seconds": "GPU-seconds",
}
RUN_NAMES: Mapping[Measure, str] = {measure: name for name, measure in COUNTED.items()}
"""Names of the ceilings that leases count."""
_CONCURRENCY_RETRY_S = 1.0
_RESERVED_RETRY_S = 2.0  # unused slices of other workers are back by then
_LONGEST_RETRY_S = 86_400.0 * 31


class RunEnded(QuotaExceeded):
    """A ceiling of a run has refused a call."""

    lease: Lease | None = None
    """The lease whose record says so to people; None: the stream server counts nothing of this run."""
    on_end: OnEnd = "stop"
    by = ""
    """The ceiling: `usd`, `tokens`, `calls`, `minutes` or `loops`."""
    amount = 0.0
    """Minutes or loops of the ceiling; 0 of others."""


class RunReserved(RateLimited):
    """The rest of a run's ceiling is reserved by its calls in flight, or held by other workers: it has not ended."""


def refusal(account: Account, lease: Lease, need: int, now: float, quota_status: int) -> GatewayError:
    """The error for a call that needs more of a limit than is left. now: seconds on the stream server's clock."""
    limit = lease.limit
    reserved = lease.of_run and lease.spent_so_far + need <= lease.amount
    if lease.of_run:
        message = _reserved_text(lease, need) if reserved else _run_text(lease, need)
    elif need > lease.amount:
        message = (
            f"this request may use {amount_text(lease, need)}, and {_limit_text(lease)}: it can never pass; "
            "lower max_tokens or shorten the input"
        )
    else:
        message = f"{_limit_text(lease)}; {amount_text(lease, used(lease))} are used or reserved{_next_text(lease)}"
    never = need > lease.amount
    retry = None if reserved or (limit.heals_with_time and not never) else False
    waits = reserved or not (never or lease.of_run)
    error = _kind(lease, reserved=reserved)(
        message, retry_after_s=_retry_after_s(lease, now) if waits else None, retry=retry
    )
    if isinstance(error, QuotaExceeded):
        error.status = quota_status
    if isinstance(error, RunEnded) and account.run is not None:
        error.lease, error.on_end, error.by = lease, account.run.on_end(lease), RUN_NAMES[limit.measure]
    error.details = details(lease)
    error.more_headers = rate_headers(account, now)
    return error


def _kind(lease: Lease, *, reserved: bool) -> type[GatewayError]:
    if lease.of_run:
        return RunReserved if reserved else RunEnded
    return RateLimited if lease.limit.heals_with_time else QuotaExceeded


def unavailable(lease: Lease) -> GatewayError:
    error = LimitsUnavailable(
        f"{lease.limit.name} of {lease.scope} cannot be checked now: the stream server does not answer; retry",
        retry_after_s=1,
    )
    error.details = {"scope": str(lease.scope), "limit": lease.limit.name}
    return error


def used(lease: Lease) -> int:
    """Amount used, reserved, or held by other workers, as far as this worker knows."""
    return max(0, lease.amount - lease.left - lease.free)


def details(lease: Lease) -> dict[str, Any]:
    """The machine-readable part of a refusal, and of GET /v1/key.

    used: the amount that is no longer available: `spent` by ended calls, and `reserved` for calls in flight or held by
    workers.
    """
    return {
        "scope": str(lease.scope),
        "limit": lease.limit.name,
        "amount": plain(lease, lease.amount),
        "used": plain(lease, used(lease)),
        "spent": plain(lease, lease.spent_so_far),
        "reserved": plain(lease, max(0, used(lease) - lease.spent_so_far)),
        "reset": None if lease.limit.window in (None, "run") else reset_text(lease.ends),
    }


def plain(lease: Lease, amount: int) -> float | int:
    scale = lease.limit.scale
    return amount if scale == 1 else amount / scale


def amount_text(lease: Lease, amount: int) -> str:
    value = plain(lease, amount)
    number = f"{value:,.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}"
    return f"{number} {_UNITS[lease.limit.measure]}"


def reset_text(ends: float) -> str:
    return datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


RUN_ADVICE = "finish with what you have, or ask a person"
"""Advice for an agent at the end of its run."""
_CALLS = "calls"


def _run_text(lease: Lease, need: int) -> str:
    """The sentence for an agent, which can act on it. Of an amount that is not used up, it says what the call takes."""
    whose, where = _run_part(lease)
    spent = min(used(lease), lease.amount)
    text = f"{whose} has used {_run_amount(lease, spent)} of {_run_amount(lease, lease.amount)}{where}"
    if spent < lease.amount:
        text += f", and this call may take {_run_amount(lease, need)}"
    return f"{text}: {RUN_ADVICE}"


def _reserved_text(lease: Lease, need: int) -> str:
    whose, where = _run_part(lease)
    spent, whole, takes = (_run_amount(lease, n) for n in (lease.spent_so_far, lease.amount, need))
    return (
        f"{whose} has used {spent} of {whole}{where}, and its calls in flight may use the rest; this call may take "
        f"{takes}: retry once they have ended"
    )


def _run_part(lease: Lease) -> tuple[str, str]:
    """Subject of a sentence on a run, and the calls that its ceiling is of."""
    _, _, part = lease.scope.id.partition("/")
    whose = "the cheaper tier of this run" if part == "tier" else "this run"
    return whose, f" ({part.replace('/', ' ', 1)})" if part and part != "tier" else ""


def _run_amount(lease: Lease, amount: int) -> str:
    value = plain(lease, amount)
    if lease.limit.measure == "usd":
        return f"${value:,.2f}" if value >= 0.1 or not value else f"${value:,.6f}".rstrip("0")
    return f"{value:,} {_CALLS if lease.limit.measure == 'requests' else lease.limit.measure}"


def _limit_text(lease: Lease) -> str:
    window = "" if lease.limit.window is None else f" per {lease.limit.window}"
    shared = lease.scope.kind == "user" and lease.scope.id.endswith(f"/{NOBODY}")
    whose = (
        f"{lease.scope} (all calls that name no user; send `user` or x-gateway-user)" if shared else str(lease.scope)
    )
    return f"the limit of {whose} is {amount_text(lease, lease.amount)}{window}"


def _next_text(lease: Lease) -> str:
    return "" if lease.limit.window is None else f"; the next {lease.limit.window} begins at {reset_text(lease.ends)}"


def _retry_after_s(lease: Lease, now: float) -> float:
    if lease.limit.window is None:
        return _CONCURRENCY_RETRY_S
    if lease.of_run:
        return _RESERVED_RETRY_S
    return min(_LONGEST_RETRY_S, max(1.0, lease.ends - now + 0.5))
