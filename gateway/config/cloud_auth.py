"""The section `upstreams.NAME.auth` of gateway.yaml: credentials of a cloud in place of an API key."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, Self

from pydantic import Field, model_validator

from gateway.config.types import NonEmpty, Section

AuthKind = Literal["sigv4", "google", "entra"]

EXTRAS: Mapping[AuthKind, tuple[str, str]] = MappingProxyType(
    {"sigv4": ("botocore", "aws"), "google": ("google.auth", "google"), "entra": ("azure.identity", "azure")}
)
"""Kind of credential → the module that it needs, and the extra that installs it."""


class CloudAuth(Section):
    """Credentials of a cloud in place of an API key, found and renewed by the cloud's own library."""

    kind: AuthKind
    """`sigv4`: requests are signed for AWS (extra `aws`). `google`: an OAuth token of Google Cloud (extra `google`).
    `entra`: a token of Microsoft Entra ID (extra `azure`)."""
    region: NonEmpty | None = None
    """Region that signatures are made for, with `sigv4`, such as `us-east-1`; required."""
    service: NonEmpty | None = None
    """Service that signatures are made for, with `sigv4`. Default: that of the upstream's kind; `bedrock` for
    others."""
    profile: NonEmpty | None = None
    """Profile of the AWS configuration files, for `sigv4`. Default: AWS's usual order: environment, files, container,
    instance."""
    role_arn: NonEmpty | None = None
    """Role that is assumed with those credentials, for `sigv4`."""
    access_key_id: NonEmpty | None = Field(None, repr=False)
    """Id of an access key, for `sigv4`, together with `secret_access_key`."""
    secret_access_key: NonEmpty | None = Field(None, repr=False)
    """Secret of that access key, for `sigv4`."""
    session_token: NonEmpty | None = Field(None, repr=False)
    """Session token of a temporary access key, for `sigv4`."""
    credentials_file: NonEmpty | None = None
    """JSON file of a service account, for `google`. Default: Google's application default credentials."""
    tenant_id: NonEmpty | None = None
    """Tenant of an app registration, for `entra`, together with `client_id` and `client_secret`."""
    client_id: NonEmpty | None = None
    """App registration, for `entra`; alone: the managed identity to use. Default: Azure's usual order
    (`DefaultAzureCredential`): environment, workload identity, managed identity, developer tools."""
    client_secret: NonEmpty | None = Field(None, repr=False)
    """Secret of the app registration, for `entra`."""
    scope: NonEmpty | None = None
    """Scope of the token, for `google` and `entra`. Default: `https://www.googleapis.com/auth/cloud-platform`, and
    `https://cognitiveservices.azure.com/.default`."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Secrets, which must never be written anywhere."""
        return tuple(s for s in (self.secret_access_key, self.session_token, self.client_secret) if s)

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        for name in self.model_fields_set - _OF_KIND[self.kind] - {"kind"}:
            raise ValueError(f"`{name}` has no meaning for kind {self.kind}")
        for together in _TOGETHER:
            given = [name for name in together if getattr(self, name) is not None]
            if given and len(given) < len(together) and given != ["client_id"]:
                raise ValueError(f"{', '.join(together)} belong together; only {', '.join(given)} is given")
        if self.kind == "sigv4" and self.region is None:
            raise ValueError("region: missing; a signature is made for a region")
        if self.session_token is not None and self.access_key_id is None:
            raise ValueError("session_token: belongs to access_key_id and secret_access_key")
        return self


_TOGETHER = (("access_key_id", "secret_access_key"), ("tenant_id", "client_id", "client_secret"))
_OF_KIND: Mapping[AuthKind, frozenset[str]] = MappingProxyType(
    {
        "sigv4": frozenset(
            {"region", "service", "profile", "role_arn", "access_key_id", "secret_access_key", "session_token"}
        ),
        "google": frozenset({"credentials_file", "scope"}),
        "entra": frozenset({"tenant_id", "client_id", "client_secret", "scope"}),
    }
)
