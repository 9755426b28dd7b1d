"""Section `limits` of a key, a person, a team and an organization, the sections of these, and `budgets`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gateway.config.types import IpNetwork, ModelName, Name, Section, number
from gateway.core.did_you_mean import did_you_mean
from gateway.core.limits import MEASURES, WINDOWS, Limit, OnOutage, UnknownPrice, limits_of
from gateway.core.run_ceilings import OnEnd, RunOutage


def _positive(value: Any) -> Any:
    """Rejects zero, with the remedy: a limit of 0 is a mistake more often than a ban."""
    number(value)
    if isinstance(value, int | float) and value <= 0:
        raise ValueError("expected more than 0; to refuse every call, set `disabled: true`")
    return value


def _time_zone(value: str) -> str:
    known = available_timezones()
    if value not in known:
        hint = did_you_mean(value, sorted(known)) or "; expected a name such as Europe/Berlin"
        raise ValueError(f"unknown time zone{hint}")
    return value


Count = Annotated[int, BeforeValidator(_positive), Field(gt=0, le=10**15)]
Usd = Annotated[float, BeforeValidator(_positive), Field(gt=0, le=1e12, allow_inf_nan=False)]
GpuSeconds = Annotated[float, BeforeValidator(_positive), Field(gt=0, le=1e12, allow_inf_nan=False)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]


def _as_text(value: Any) -> Any:
    """YAML reads a time without quotes as a time."""
    return value.isoformat() if isinstance(value, datetime) else value


def _until(value: str) -> str:
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ValueError("expected a time with its offset from UTC, such as 2026-12-14T00:00:00Z")
    return found.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _limit_name(value: str) -> str:
    if value not in LIMITS_WITH_WINDOW:
        hint = did_you_mean(value, LIMITS_WITH_WINDOW) or "; expected a limit with a window, such as usd_per_month"
        raise ValueError(f"unknown limit{hint}")
    return value


LIMITS_WITH_WINDOW = tuple(
    f"{measure}_per_{window}" for measure in MEASURES if measure != "concurrency" for window in WINDOWS
)
LimitName = Annotated[str, AfterValidator(_limit_name)]
CallTag = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,31}=[^\s,=]{1,64}$")]
Moment = Annotated[
    str, BeforeValidator(_as_text), AfterValidator(_until), Field(json_schema_extra={"format": "date-time"})
]


class CarriedUse(Section):
    """The use of a limit before the caller came to this gateway."""

    amount: Annotated[float, BeforeValidator(number), Field(ge=0, le=1e15, allow_inf_nan=False)]
    """Requests, tokens, US dollars or GPU-seconds that count as used."""
    until: Moment
    """Time until which they count, such as 2026-12-14T00:00:00Z: in every window of the limit that is open before."""


class WindowAmounts(Section):
    """Limits of requests, tokens, dollars and GPU-seconds in calendar windows."""

    requests_per_minute: Count | None = None
    """Calls per minute."""
    requests_per_hour: Count | None = None
    """Calls per hour."""
    requests_per_day: Count | None = None
    """Calls per calendar day."""
    requests_per_week: Count | None = None
    """Calls per calendar week, from Monday."""
    requests_per_month: Count | None = None
    """Calls per calendar month."""
    tokens_per_minute: Count | None = None
    """Input and output tokens per minute."""
    tokens_per_hour: Count | None = None
    """Input and output tokens per hour."""
    tokens_per_day: Count | None = None
    """Input and output tokens per calendar day."""
    tokens_per_week: Count | None = None
    """Input and output tokens per calendar week, from Monday."""
    tokens_per_month: Count | None = None
    """Input and output tokens per calendar month."""
    usd_per_minute: Usd | None = None
    """US dollars per minute."""
    usd_per_hour: Usd | None = None
    """US dollars per hour."""
    usd_per_day: Usd | None = None
    """US dollars per calendar day."""
    usd_per_week: Usd | None = None
    """US dollars per calendar week, from Monday."""
    usd_per_month: Usd | None = None
    """US dollars per calendar month."""
    gpu_seconds_per_minute: GpuSeconds | None = None
    """GPU-seconds of your own engines per minute, at `prices.gpu_seconds`."""
    gpu_seconds_per_hour: GpuSeconds | None = None
    """GPU-seconds of your own engines per hour."""
    gpu_seconds_per_day: GpuSeconds | None = None
    """GPU-seconds of your own engines per calendar day."""
    gpu_seconds_per_week: GpuSeconds | None = None
    """GPU-seconds of your own engines per calendar week, from Monday."""
    gpu_seconds_per_month: GpuSeconds | None = None
    """GPU-seconds of your own engines per calendar month."""


class RunLimits(Section):
    """Ceilings of each run, which is the calls of one task. Once one is reached, the run's calls are refused."""

    usd: Usd | None = None
    """US dollars of a run."""
    tokens: Count | None = None
    """Input and output tokens of a run."""
    calls: Count | None = None
    """Calls of a run."""
    minutes: Annotated[float, BeforeValidator(_positive), Field(gt=0, le=100_000, allow_inf_nan=False)] | None = None
    """Minutes from the first call of a run on."""
    loops: Annotated[int, Field(ge=2, le=1000)] | None = None
    """Equal tool calls with equal results, one after the other, at which a run ends."""
    on_end: OnEnd = "stop"
    """The rule at the end: `stop` refuses further calls; `tier`, of `usd` alone, goes on with the fallbacks that
    have `on: [budget]`; `ask` refuses, and sends a notice by which the original amount can be added once."""
    tier_usd: Usd | None = None
    """US dollars that a run may use by `on_end: tier`, after `usd`. Default: as much as `usd` again."""
    on_outage: RunOutage | None = None
    """Rule while the stream server is unreachable: `bounded` lets each worker use its part of what was last known to
    be left; `closed` refuses calls with HTTP 503. Default: that of the enclosing limits."""
    require: bool = False
    """Refuse calls that name no run."""

    @model_validator(mode="after")
    def _tier_is_of_dollars(self) -> RunLimits:
        if self.on_end == "tier" and self.usd is None:
            raise ValueError("on_end: tier needs `usd`: the cheaper tier goes on after a ceiling in dollars alone")
        if self.tier_usd is not None and self.on_end != "tier":
            raise ValueError("tier_usd needs `on_end: tier`")
        return self


class LimitAmounts(WindowAmounts):
    """Limits in calendar windows, of calls in flight, and of each run."""

    concurrency: Count | None = None
    """Calls in flight at once. A call counts until its stream ends."""
    per_run: RunLimits = RunLimits()
    """Ceilings of each run, the calls of one task of an agent, by these calls. All other limits apply, too."""


class SoftLimits(Section):
    """Amounts that are announced and never refuse a call: from the usage of each day in UTC."""

    requests_per_day: Count | None = None
    """Calls per calendar day."""
    requests_per_week: Count | None = None
    """Calls per calendar week, from Monday."""
    requests_per_month: Count | None = None
    """Calls per calendar month."""
    tokens_per_day: Count | None = None
    """Input and output tokens per calendar day."""
    tokens_per_week: Count | None = None
    """Input and output tokens per calendar week, from Monday."""
    tokens_per_month: Count | None = None
    """Input and output tokens per calendar month."""
    usd_per_day: Usd | None = None
    """US dollars per calendar day."""
    usd_per_week: Usd | None = None
    """US dollars per calendar week, from Monday."""
    usd_per_month: Usd | None = None
    """US dollars per calendar month."""
    gpu_seconds_per_day: GpuSeconds | None = None
    """GPU-seconds of your own engines per calendar day."""
    gpu_seconds_per_week: GpuSeconds | None = None
    """GPU-seconds of your own engines per calendar week, from Monday."""
    gpu_seconds_per_month: GpuSeconds | None = None
    """GPU-seconds of your own engines per calendar month."""


class UserLimits(WindowAmounts):
    """Limits of each end user."""

    on_outage: OnOutage | None = None
    """Rule while the stream server is unreachable: `bounded` lets each worker use what the server has promised to it
    for this end user, and nothing without a promise; `split`, its part of the limit then, so that all workers together
    may exceed it; `closed` refuses calls with HTTP 503. Default: that of the enclosing limits."""


class LimitsConfig(LimitAmounts):
    """Limits of one key, person, team or organization, over all gateways together. A request must pass the limits of
    its key, of its key's person and team, and of the organization."""

    time_zone: TimeZone = "UTC"
    """Time zone in which days, weeks and months begin, such as `Europe/Berlin`."""
    on_outage: Literal["bounded", "closed"] = "bounded"
    """Rule while the stream server is unreachable: `bounded` lets each worker use its share of what was last known to
    be left; `closed` refuses calls with HTTP 503."""
    carried: dict[LimitName, CarriedUse] = Field(default={})
    """Amounts that were used elsewhere and count against a limit until a time, by the limit's name:
    `{usd_per_month: {amount: 12.5, until: 2026-12-14T00:00:00Z}}`. `gateway import litellm` sets them."""
    models: dict[ModelName, LimitAmounts] = Field(default={}, max_length=100)
    """Limits of its calls to a model, by the name that clients send; all other limits apply, too."""
    tags: dict[CallTag, LimitAmounts] = Field(default={}, max_length=100)
    """Limits of its calls with a tag, such as `project=search`, of the keys in `tags.keys`; all other limits apply,
    too.
    """
    per_user: UserLimits = UserLimits()
    """Limits of each of its end users, as requests name them: `x-gateway-user`, `safety_identifier` or `user`. Calls
    that name none share one budget. All other limits apply, too.
    """
    soft: SoftLimits = SoftLimits()
    """Amounts at which notices are sent, at 50, 80 and 100 %; they never refuse a call."""

    @property
    def limits(self) -> tuple[Limit, ...]:
        return limits_of(self.model_dump())


class Person(Section):
    """A person, whose limits are shared by all keys that name the person."""

    limits: LimitsConfig = LimitsConfig()
    """Limits of the person's keys together. Default: no limit."""


class Team(Section):
    """A team, whose limits are shared by all of its keys."""

    limits: LimitsConfig = LimitsConfig()
    """Limits of its keys together. Default: no limit."""
    organization: Name | None = None
    """The organization that it belongs to. Default: none."""
    models: tuple[str, ...] | None = None
    """The models that its keys may use; a key may narrow them. Default: all."""
    tags: tuple[Name, ...] = ()
    """Labels under which its usage is summed, such as a cost center."""
    networks: tuple[IpNetwork, ...] | None = None
    """Networks from which its keys may be used; a key may narrow them. Default: everywhere."""
    disabled: bool = False
    """Refuse all calls of its keys."""


class Organization(Section):
    """An organization, whose limits are shared by all of its teams."""

    limits: LimitsConfig = LimitsConfig()
    """Limits of its teams together. Default: no limit."""
    disabled: bool = False
    """Refuse all calls of its keys."""


class Budgets(Section):
    """Behaviour of limits of money and tokens."""

    unknown_price: UnknownPrice = "refuse"
    """Rule for a call to a model without a known price, by a key with a limit in dollars (or in GPU-seconds, of your
    own engine): `refuse` it; `count_tokens`: let only its limits of tokens and requests count; or `free`: let it pass
    at no cost."""
    status: Literal[402, 429] = 429
    """HTTP status of a refusal for a limit in dollars (`insufficient_quota`). OpenAI's API answers 429."""
    default_max_tokens: Annotated[int, BeforeValidator(_positive), Field(gt=0, le=10**7)] | None = None
    """The limit of an answer that is added to requests without one, for keys with a limit of tokens or dollars: what
    such a call may use is then known before it is sent. Default: none is added, and `estimate` is reserved."""
    tier_down_at: Annotated[float, BeforeValidator(number), Field(gt=0, le=1)] = 0.9
    """Share of a limit in dollars from which the caller's calls go to the fallbacks with `on: [budget]`, where their
    model has one."""
    default_limits: LimitsConfig = LimitsConfig()
    """Limits of every key that does not set the limit of that name itself. Default: none."""
    most_users: Annotated[int, Field(ge=1, le=10**7)] = 1_000_000
    """End users that one worker distinguishes in an hour, for limits `per_user`; others share one budget."""
    estimate: Literal["model", "request"] = "model"
    """The output that is reserved for a call without `max_tokens`: the 90 % quantile of the calls of its `model`, or,
    with `request`, of those recorded calls of its model that look like it, which the consumer learns."""
