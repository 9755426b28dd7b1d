"""Credentials of clouds, from the clouds' own libraries. Each `fetch` blocks, and imports its library itself."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from gateway.config.cloud_auth import CloudAuth
from gateway.config.environment import aws_files, google_file
from gateway.proxy.http.auth.renewal import Issued, issued_until
from gateway.proxy.http.auth.sigv4 import AwsKeys

_TIMEOUT_S = 10.0
_GOOGLE_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_ENTRA_SCOPE = "https://cognitiveservices.azure.com/.default"
_LOOKED_AHEAD_S = (1200, 600, 300, 120, 60, 30, 10, 5, 2)
_QUIET = ("botocore", "azure", "google.auth", "msal", "urllib3", "requests")


_FILES_READ_S = 10.0  # between two looks whether files with access keys have changed


class WatchedFiles:
    """Tells whether files have changed since the last look."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._seen = self._stamps()

    def changed(self) -> bool:
        stamps = self._stamps()
        before, self._seen = self._seen, stamps
        return stamps != before

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        return tuple(map(_stamp, self._paths))


def _stamp(path: Path) -> tuple[int, int]:
    """(0, 0) for a file that is not there."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_ino)


def quiet_libraries() -> None:
    """Loggers whose debug lines hold signatures and tokens."""
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _by_https(proxy: str | None) -> dict[str, str] | None:
    """The proxy as these libraries take it; None if there is none."""
    return None if proxy is None else {"https": proxy}


class AwsSource:
    """Access keys as botocore finds them: given, of a profile, the environment, a container's or an instance's role.

    proxy: of requests by https; those to the machine's own metadata are by http.
    """

    def __init__(self, auth: CloudAuth, proxy: str | None = None) -> None:
        self._auth = auth
        self._proxies = _by_https(proxy)
        self._credentials: Any = None
        self._files = WatchedFiles(aws_files())

    def forget(self) -> None:
        """Makes the next fetch look for credentials again."""
        self._credentials = None

    def fetch(self) -> Issued[AwsKeys]:
        """Raises botocore's errors, and LookupError where it finds no credentials."""
        if self._files.changed() or self._credentials is None:
            self._credentials = self._found()
        frozen = self._credentials.get_frozen_credentials()  # renews temporary ones ahead of their end
        now = time.time()
        keys = AwsKeys(frozen.access_key, frozen.secret_key, frozen.token)
        needed: Callable[[int], bool] | None = getattr(self._credentials, "refresh_needed", None)
        if needed is None:
            given = self._auth.access_key_id is not None
            return Issued(keys, renew_at=math.inf if given else now + _FILES_READ_S)
        left_s = next((s for s in _LOOKED_AHEAD_S if not needed(s)), 1)
        return Issued(keys, now + left_s, now + (60.0 if left_s > 1000 else left_s / 2))

    def _found(self) -> Any:
        import botocore.session

        auth = self._auth
        session = botocore.session.Session(profile=auth.profile)
        if auth.access_key_id is not None:
            session.set_credentials(auth.access_key_id, auth.secret_access_key, auth.session_token)
        credentials = session.get_credentials()
        if credentials is None:
            raise LookupError("AWS's usual places hold no credentials (environment, files, container, instance)")
        return credentials if auth.role_arn is None else self._assumed(session, credentials, auth.role_arn)

    def _assumed(self, session: Any, credentials: Any, role_arn: str) -> Any:
        from botocore.config import Config
        from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

        config = Config(
            connect_timeout=5, read_timeout=_TIMEOUT_S, region_name=self._auth.region, proxies=self._proxies
        )

        def client(name: str, **options: Any) -> Any:
            return session.create_client(name, config=config, **options)

        fetcher = AssumeRoleCredentialFetcher(
            client, credentials, role_arn, extra_args={"RoleSessionName": "assay-gateway"}
        )
        return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")


class GoogleSource:
    """Tokens of Google Cloud: of a service account's file, or of the application default credentials."""

    def __init__(self, auth: CloudAuth, proxy: str | None = None) -> None:
        self._auth = auth
        self._proxies = _by_https(proxy)
        self._credentials: Any = None
        self._files = WatchedFiles([Path(auth.credentials_file) if auth.credentials_file else google_file()])

    def forget(self) -> None:
        """Makes the next fetch read the file again."""
        self._credentials = None

    def fetch(self) -> Issued[bytes]:
        """The value of the header. Raises what google-auth raises."""
        from google.auth.transport.requests import Request

        if self._files.changed() or self._credentials is None:
            self._credentials = self._found()
        request = Request()
        if self._proxies is not None:  # else google-auth's session reads those of the environment
            request.session.trust_env = False
            request.session.proxies.update(self._proxies)
        self._credentials.refresh(_WithTimeout(request))
        now, expiry = time.time(), self._credentials.expiry
        expires = now + 300.0 if expiry is None else _unix(expiry)
        return issued_until(b"Bearer " + self._credentials.token.encode(), expires, now)

    def _found(self) -> Any:
        scopes = [self._auth.scope or _GOOGLE_SCOPE]
        if self._auth.credentials_file is not None:
            from google.oauth2 import service_account

            of: Any = service_account.Credentials
            return of.from_service_account_file(self._auth.credentials_file, scopes=scopes)
        import google.auth

        return google.auth.default(scopes=scopes)[0]


class _WithTimeout:
    """A request function of google-auth whose default deadline is ours."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._request(*args, **{**options, "timeout": _TIMEOUT_S})


def _unix(expiry: Any) -> float:
    """google-auth's times are naive and in UTC."""
    import calendar

    return float(calendar.timegm(expiry.utctimetuple()))


class EntraSource:
    """Tokens of Microsoft Entra ID: of an app registration, a managed identity, or Azure's usual order."""

    def __init__(self, auth: CloudAuth, proxy: str | None = None) -> None:
        self._auth = auth
        self._proxies = _by_https(proxy)
        self._credential: Any = None

    def forget(self) -> None:
        """Drops the token that azure-identity keeps, so that the next fetch asks for another one."""
        self._credential = None

    def fetch(self) -> Issued[bytes]:
        """The value of the header. Raises what azure-identity raises."""
        if self._credential is None:
            self._credential = self._found()
        token = self._credential.get_token(self._auth.scope or _ENTRA_SCOPE)
        # azure-identity returns the token that it has until five minutes before its end, so asking earlier is in vain
        return issued_until(b"Bearer " + token.token.encode(), float(token.expires_on), time.time(), ahead_s=295.0)

    def _found(self) -> Any:
        from azure.identity import ClientSecretCredential, DefaultAzureCredential

        auth = self._auth
        limits: dict[str, Any] = {"connection_timeout": 5, "read_timeout": _TIMEOUT_S}
        if self._proxies is not None:
            limits["proxies"] = self._proxies
        if auth.client_secret is not None:
            return ClientSecretCredential(auth.tenant_id or "", auth.client_id or "", auth.client_secret, **limits)
        return DefaultAzureCredential(managed_identity_client_id=auth.client_id, **limits)
