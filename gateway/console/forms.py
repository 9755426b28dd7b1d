"""The forms of the console: how they are read, and the protection against forgery (CSRF) that each must pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request

from gateway.config.admin import Role
from gateway.console.access import Actor
from gateway.console.errors import BodyTooLarge, InvalidBody, NotPermitted
from gateway.console.frame import COOKIE, KEY_COOKIE, visitor_of
from gateway.console.sessions import same_csrf

MAX_FORM_BYTES = 1_000_000
_MAX_FIELDS = 2_000


@dataclass(frozen=True, slots=True)
class Form:
    """A submitted form, with its actor, who may submit it."""

    actor: Actor
    values: Mapping[str, Sequence[str]]

    def get(self, name: str, default: str = "") -> str:
        """The last value of this name, without blanks around it."""
        found = self.values.get(name)
        return found[-1].strip() if found else default

    def all(self, name: str) -> list[str]:
        return [*self.values.get(name, ())]

    def checked(self, name: str) -> bool:
        return bool(self.values.get(name))


async def form_actor(request: Request, role: Role, to: str, content: bool = False) -> Form:
    """The form of a POST, once its session, its CSRF token, its origin and the role are checked.

    to: the purpose, as in "pause a ramp". Raises NotPermitted, InvalidBody, BodyTooLarge.
    """
    check_origin(request)
    values = await read_form(request)
    given = values.get("csrf", [""])[-1]
    if not same_csrf(request.cookies.get(COOKIE, ""), given):
        raise NotPermitted("the form belongs to another session: reload its page, and send it again")
    actor = visitor_of(request).actor
    actor.require(role, to)
    if content and not actor.content:
        raise NotPermitted(f"{actor.name} may not read prompts and answers; their token needs `content: true`")
    return Form(actor, values)


async def check_key_form(request: Request) -> Mapping[str, Sequence[str]]:
    """Checks a form of the page of a key: its session's CSRF token, and its origin. Returns its fields. Raises as
    `form_actor`."""
    check_origin(request)
    values = await read_form(request)
    given = values.get("csrf", [""])[-1]
    if not same_csrf(request.cookies.get(KEY_COOKIE, ""), given):
        raise NotPermitted("the form belongs to another session: reload its page, and send it again")
    return values


def check_origin(request: Request) -> None:
    """Refuses a form that another site has sent. Raises NotPermitted."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    own = request.headers.get("host", "")
    if site not in (None, "same-origin", "none") or (origin is not None and urlsplit(origin).netloc != own):
        raise NotPermitted("the form was sent by another site")


async def read_form(request: Request) -> dict[str, list[str]]:
    """The fields of an urlencoded body. Raises InvalidBody, BodyTooLarge."""
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_FORM_BYTES:
            raise BodyTooLarge(f"the form is larger than {MAX_FORM_BYTES} bytes")
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise InvalidBody("the body is not a form: expected application/x-www-form-urlencoded")
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="replace")
    except ValueError as error:
        raise InvalidBody(f"the form cannot be read: {error}") from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value.replace("\r\n", "\n").replace("\0", "\ufffd"))
    return found
