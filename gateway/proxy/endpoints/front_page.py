"""GET /: what answers here, and where base_url, the console and the documentation are.

Everybody who reaches the gateway may read it, so it names no version, model, upstream or key.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from gateway.config.config import Config
from gateway.core.project import project_address
from gateway.proxy.app import Gateway

_HOST = re.compile(r"[A-Za-z0-9.\-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")
_ABOUT = "An OpenAI-compatible gateway that scores the traffic it carries."
_NO_CONSOLE = "where the operator runs `gateway console`; notify.console_url in gateway.yaml would name it here"
_NO_DOCS = "in the folder docs/ of the source"


class FrontPage:
    """The page as JSON, or as HTML for a browser."""

    def __init__(self, gateway: Callable[[], Gateway]) -> None:
        """gateway: returns the Gateway in force."""
        self._gateway = gateway

    async def __call__(self, request: Request) -> Response:
        facts = self._facts(request)
        headers = {"cache-control": "no-store", "vary": "accept, host"}
        if "text/html" in request.headers.get("accept", ""):
            headers["content-security-policy"] = "default-src 'none'"
            return HTMLResponse(_page(facts), headers=headers)
        return JSONResponse(facts, headers=headers)

    def _facts(self, request: Request) -> dict[str, str]:
        return {
            "name": "Assay Gateway",
            "about": _ABOUT,
            "base_url": f"{_origin(request)}/v1",
            "console": _console(self._gateway().config) or _NO_CONSOLE,
            "docs": project_address("Documentation") or _NO_DOCS,
        }


def _console(config: Config) -> str:
    oidc = config.admin.oidc if config.admin else None
    named = config.notify.console_url if config.notify else None
    return str(named or (oidc.url if oidc else ""))


def _origin(request: Request) -> str:
    """Scheme and host as the client names them; "" for a host that is malformed, so that base_url is relative."""
    host = request.headers.get("host", "")
    proxied = request.headers.get("x-forwarded-proto", "").strip().lower()
    scheme = proxied if proxied in ("http", "https") else request.scope["scheme"]
    return f"{scheme}://{host}" if _HOST.fullmatch(host) else ""


def _page(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<dt>{name}<dd>{_value(facts[name])}" for name in ("base_url", "console", "docs"))
    name, about = html.escape(facts["name"]), html.escape(facts["about"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>'
        f'<meta name="viewport" content="width=device-width"><main><h1>{name}</h1><p>{about}</p><dl>{rows}</dl>'
        "<p>Set <code>base_url</code> in your client, with a key of this gateway. "
        "<code>GET /v1/models</code> lists the models that the key may use.</p></main></html>"
    )


def _value(text: str) -> str:
    escaped = html.escape(text)
    return f'<a href="{escaped}">{escaped}</a>' if text.startswith(("http://", "https://")) else escaped
