"""The configuration: read once from the environment, checked as a whole, never changed afterwards."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Meta

from service.domain.attachment import INSPECTIONS_MAX
from service.domain.delivery import HOST_ATTEMPTS_MAX
from service.domain.near_names import with_nearest
from service.domain.server_secret import SECRET_BYTES_MIN, SECRETS_MAX, secrets_of
from service.domain.share import STREAMS_MAX, STREAMS_PER_TENANT_MAX, WAITS_MAX, WAITS_PER_TENANT_MAX

CONNECTIONS_PER_PROCESS = 16
"""Sixteen statements in flight saturate one process (measured); more connections only cost PostgreSQL memory."""

CONNECTIONS_PER_ADDRESS_MAX = 1000
"""Of one client address at one web process: a quarter of its connections, and what one caller may have in streams and
waits together.
"""

CONNECTIONS_SETTING_MAX = 1_000_000
INSPECTIONS_SETTING_MAX = 64
ATTEMPTS_SETTING_MAX = 1000
"""What the settings take at the most: a process has no more to give."""

VARIABLES = {
    "database_url": "DATABASE_URL",
    "database_owner_url": "HOLDFAST_DATABASE_OWNER_URL",
    "redis_url": "REDIS_URL",
    "host": "HOST",
    "port": "PORT",
    "metrics_port": "HOLDFAST_METRICS_PORT",
    "data_dir": "HOLDFAST_DATA_DIR",
    "secret": "HOLDFAST_SECRET",
    "log_level": "HOLDFAST_LOG_LEVEL",
    "database_connections": "HOLDFAST_DATABASE_CONNECTIONS",
    "tenant_connections": "HOLDFAST_TENANT_CONNECTIONS",
    "search_seconds": "HOLDFAST_SEARCH_SECONDS",
    "jwt_secret": "HOLDFAST_JWT_SECRET",
    "jwt_jwks_url": "HOLDFAST_JWT_JWKS_URL",
    "jwt_issuer": "HOLDFAST_JWT_ISSUER",
    "jwt_audience": "HOLDFAST_JWT_AUDIENCE",
    "storage_url": "HOLDFAST_STORAGE_URL",
    "tenant_storage_bytes": "HOLDFAST_TENANT_STORAGE_BYTES",
    "tenant_rows_bytes": "HOLDFAST_TENANT_ROWS_BYTES",
    "clamd": "HOLDFAST_CLAMD",
    "inspection_allow_weak": "HOLDFAST_INSPECTION_ALLOW_WEAK",
    "webhook_allow_private": "HOLDFAST_WEBHOOK_ALLOW_PRIVATE",
    "cache": "HOLDFAST_CACHE",
    "rate_limit": "HOLDFAST_RATE_LIMIT",
    "tenant_rate_limit": "HOLDFAST_TENANT_RATE_LIMIT",
    "bad_credentials_limit": "HOLDFAST_BAD_CREDENTIALS_LIMIT",
    "trusted_proxies": "HOLDFAST_TRUSTED_PROXIES",
    "address_connections": "HOLDFAST_ADDRESS_CONNECTIONS",
    "tenant_streams": "HOLDFAST_TENANT_STREAMS",
    "tenant_waits": "HOLDFAST_TENANT_WAITS",
    "inspections": "HOLDFAST_INSPECTIONS",
    "webhook_host_attempts": "HOLDFAST_WEBHOOK_HOST_ATTEMPTS",
    "cors_origins": "HOLDFAST_CORS_ORIGINS",
    "fault": "HOLDFAST_FAULT",
}
"""Every variable that Holdfast reads, by the field that it sets; `docs/operations.md` explains each."""

PORT_MAX = 65_535

JWT_SECRET_BYTES_MIN = 32
"""RFC 7518, section 3.2: an HS256 key has at least the size of the hash."""


RATE = re.compile(r"[1-9][0-9]{0,8}/(second|minute|hour|day)")
"""Up to 999,999,999, which nobody reaches: a limit, and never a number that Redis cannot count to."""

NO_LIMIT = "off"

BAD_CREDENTIALS_LIMIT = "60/minute"
"""From one address: a client whose key was revoked, and people who mistype, need fewer; guessing gets nowhere."""

ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{0,4}))?")
"""As browsers write it (RFC 6454, section 6.2): ASCII, lower case; of apps, too, such as `capacitor://localhost`."""

DEFAULT_PORTS = {("http", "80"), ("https", "443")}
"""Left out by browsers, so an origin with one of them would be that of no page."""

FAULT = "(before_commit|after_commit|after_push|mid_upload)(:[1-9][0-9]{0,8})?"
"""A point of `service/faults.py`, and at which passing of it the process ends."""

HOW_TO_MAKE = "Make one with: openssl rand -hex 32"

SERVICE_LINKS = ("HOLDFAST_PORT", "HOLDFAST_SERVICE_")
"""What Kubernetes adds to every container beside a Service that is called `holdfast`: nothing that anybody has set."""


class SettingsError(Exception):
    """The environment holds something that Holdfast cannot run with; the text names the variable and what to do."""


class LogLevel(StrEnum):
    """How much is logged: each request at `info`, only what needs a person at `warning` and above."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Switch(StrEnum):
    """Whether something is used."""

    ON = "on"
    OFF = "off"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator decided."""

    database_url: str
    database_owner_url: str | None = None
    redis_url: str
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=PORT_MAX)] = 8000
    metrics_port: Annotated[int, Meta(ge=1, le=PORT_MAX)] | None = None
    data_dir: Path = Path(".holdfast")
    secret: str | None = None
    log_level: LogLevel = LogLevel.INFO
    database_connections: Annotated[int, Meta(ge=1, le=500)] = CONNECTIONS_PER_PROCESS
    tenant_connections: Annotated[int, Meta(ge=1, le=500)] | None = None
    search_seconds: Annotated[float, Meta(ge=0.1, le=5)] | None = None
    jwt_secret: str | None = None
    jwt_jwks_url: str | None = None
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    storage_url: str | None = None
    tenant_storage_bytes: Annotated[int, Meta(ge=0)] | None = None
    tenant_rows_bytes: Annotated[int, Meta(ge=0)] | None = None
    clamd: str | None = None
    inspection_allow_weak: bool = False
    webhook_allow_private: bool = False
    cache: Switch = Switch.ON
    rate_limit: str | None = None
    tenant_rate_limit: str | None = None
    bad_credentials_limit: str = BAD_CREDENTIALS_LIMIT
    trusted_proxies: str | None = None
    address_connections: Annotated[int, Meta(ge=1, le=CONNECTIONS_SETTING_MAX)] = CONNECTIONS_PER_ADDRESS_MAX
    tenant_streams: Annotated[int, Meta(ge=1, le=STREAMS_MAX)] = STREAMS_PER_TENANT_MAX
    tenant_waits: Annotated[int, Meta(ge=1, le=WAITS_MAX)] = WAITS_PER_TENANT_MAX
    inspections: Annotated[int, Meta(ge=1, le=INSPECTIONS_SETTING_MAX)] = INSPECTIONS_MAX
    webhook_host_attempts: Annotated[int, Meta(ge=1, le=ATTEMPTS_SETTING_MAX)] = HOST_ATTEMPTS_MAX
    cors_origins: str | None = None
    fault: str | None = None

    @property
    def files_folder(self) -> Path:
        """Where files are kept when no `storage_url` is set: all processes of a deployment have to see it."""
        return self.data_dir / "files"

    @property
    def proxies(self) -> list[str]:
        """Who may say for whom a request is passed on."""
        return _listed(self.trusted_proxies)

    @property
    def origins(self) -> list[str]:
        """Whose pages browsers may let read what is answered: exact origins, or `*` alone for all; none: off."""
        return _listed(self.cors_origins)

    @property
    def bad_credentials(self) -> str | None:
        """How many bad credentials an address may send in which time; None: as many as it likes."""
        return None if self.bad_credentials_limit == NO_LIMIT else self.bad_credentials_limit

    @property
    def clamd_address(self) -> tuple[str, int] | None:
        """Host and port of the virus scanner, where there is one."""
        host, _, port = (self.clamd or "").rpartition(":")
        return (host.strip("[]"), int(port)) if host else None


def required_secrets(settings: Settings) -> list[bytes]:
    """What seals, and opens, for a process that does: the API, webhooks, `holdfast reseal`.

    Raises:
        SettingsError: there is no secret, or one that cannot be used.
    """
    if settings.secret is None:
        raise SettingsError(
            "HOLDFAST_SECRET is not set; kept answers and the secrets of webhooks are sealed with it. "
            f"{HOW_TO_MAKE}, and give all web and webhooks processes the same one."
        )
    try:
        return secrets_of(settings.secret)
    except ValueError:
        raise SettingsError(
            f"HOLDFAST_SECRET must be {SECRET_BYTES_MIN} random bytes or more, in hex or base64; while it changes, "
            f"up to {SECRETS_MAX} of them with commas between them, the one that seals first. {HOW_TO_MAKE}."
        ) from None


def _listed(text: str | None) -> list[str]:
    return [entry.strip() for entry in (text or "").split(",") if entry.strip()]


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings that `environment` gives; empty variables count as unset.

    Raises:
        SettingsError: something is missing or cannot be used.
    """
    given: dict[str, str] = {
        field: environment[variable] for field, variable in VARIABLES.items() if environment.get(variable)
    }
    for field in ("database_url", "redis_url"):
        if field not in given:
            raise SettingsError(
                f"{VARIABLES[field]} is not set. Set it, or use 'holdfast up', which starts the servers itself."
            )
    unknown = sorted(
        name
        for name in environment
        if name.startswith("HOLDFAST_") and name not in VARIABLES.values() and not name.startswith(SERVICE_LINKS)
    )
    if unknown:
        said = f"Unknown variable {unknown[0]}. Known are: {', '.join(sorted(VARIABLES.values()))}."
        raise SettingsError(with_nearest(said, unknown[0], VARIABLES.values()))
    try:
        settings = msgspec.convert(given, Settings, strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        message, _, where = str(error).rpartition(" - at `$.")
        raise SettingsError(f"{VARIABLES.get(where.rstrip('`'), where)}: {message or error}.") from None
    _check(settings)
    return settings


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(f"no setting has the type {kind}")


def _check(settings: Settings) -> None:
    _check_database(settings)
    if settings.redis_url.partition("://")[0] not in {"redis", "rediss", "unix"}:
        raise SettingsError("REDIS_URL must start with redis://, rediss:// or unix:// (redis://host:6379/0).")
    if settings.secret is not None:
        required_secrets(settings)
    if settings.jwt_secret is not None and len(settings.jwt_secret.encode()) < JWT_SECRET_BYTES_MIN:
        raise SettingsError(
            f"HOLDFAST_JWT_SECRET has fewer than {JWT_SECRET_BYTES_MIN} bytes, too few for HS256. "
            "Make one with: openssl rand -base64 48"
        )
    if settings.jwt_jwks_url is not None:
        _check_jwks_url(settings.jwt_jwks_url)
    if settings.storage_url is not None and re.fullmatch(r"s3://[^/]+(/.*)?", settings.storage_url) is None:
        raise SettingsError("HOLDFAST_STORAGE_URL must name a bucket, such as s3://bucket/prefix (or leave it unset).")
    if settings.clamd is not None and not _is_host_and_port(settings.clamd):
        raise SettingsError("HOLDFAST_CLAMD must be the scanner's host and port, such as localhost:3310.")

    if settings.fault is not None and re.fullmatch(FAULT, settings.fault) is None:
        raise SettingsError(
            "HOLDFAST_FAULT must be before_commit, after_commit, after_push or mid_upload, or one of these with the "
            "number of its passing, such as after_commit:3. Unset it wherever the service is to live."
        )
    if settings.metrics_port == settings.port:
        raise SettingsError("HOLDFAST_METRICS_PORT must be another port than PORT.")
    _check_limits(settings)
    _check_origins(settings)


def _check_jwks_url(url: str) -> None:
    try:
        scheme, host = urlsplit(url).scheme, urlsplit(url).hostname
    except ValueError:
        scheme, host = "", None
    if scheme not in {"https", "http"} or not host:
        raise SettingsError("HOLDFAST_JWT_JWKS_URL must be the https address of a JWKS document.")
    if scheme == "http" and not _is_loopback(host):
        raise SettingsError(
            "HOLDFAST_JWT_JWKS_URL begins with http://, so anybody on the way could put in keys of their own and sign "
            "tokens with them. Use https:// (http:// is taken for this machine alone, such as http://127.0.0.1:9000/keys)."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_database(settings: Settings) -> None:
    for variable, url in (
        ("DATABASE_URL", settings.database_url),
        ("HOLDFAST_DATABASE_OWNER_URL", settings.database_owner_url),
    ):
        if url is not None and re.match(r"postgres(ql)?(\+[^:]*)?://", url) is None:
            raise SettingsError(
                f"{variable} must start with postgresql:// (postgresql://user:password@host:5432/name)."
            )
    if settings.database_owner_url is not None:
        serving, owner = urlsplit(settings.database_url), urlsplit(settings.database_owner_url)
        if serving.username in {None, owner.username}:
            raise SettingsError(
                "HOLDFAST_DATABASE_OWNER_URL is set, so DATABASE_URL must name another role: the one that serves, "
                "and owns nothing."
            )
        if not unquote(serving.password or "").isascii():
            raise SettingsError("The password in DATABASE_URL must be of ASCII characters: openssl rand -hex 24")


def _check_limits(settings: Settings) -> None:
    for variable, rate in (
        ("HOLDFAST_RATE_LIMIT", settings.rate_limit),
        ("HOLDFAST_TENANT_RATE_LIMIT", settings.tenant_rate_limit),
        ("HOLDFAST_BAD_CREDENTIALS_LIMIT", settings.bad_credentials),
    ):
        if rate is not None and RATE.fullmatch(rate) is None:
            raise SettingsError(
                f"{variable} must be a number of requests for each second, minute, hour or day, such as 600/minute "
                "(or leave it unset)."
            )
    if not all(_is_network(proxy) for proxy in settings.proxies):
        raise SettingsError(
            "HOLDFAST_TRUSTED_PROXIES must be addresses or networks with commas between them, "
            "such as 10.0.0.7,192.168.0.0/24."
        )


def _check_origins(settings: Settings) -> None:
    if settings.cors_origins is None or settings.origins == ["*"]:
        return
    wrong = next((origin for origin in settings.origins if not _is_origin(origin)), None)
    if wrong is not None or not settings.origins:
        raise SettingsError(
            f"HOLDFAST_CORS_ORIGINS holds {wrong or 'nothing'!r}; it must be origins as browsers send them, with "
            "commas between them, such as https://app.example,http://localhost:5173 (no path, no slash at the end, no "
            "default port, lower case), or * alone for all."
        )


def _is_origin(text: str) -> bool:
    match = ORIGIN.fullmatch(text)
    return match is not None and (match["scheme"], match["port"]) not in DEFAULT_PORTS


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _is_host_and_port(address: str) -> bool:
    match = re.fullmatch(r".+:([0-9]{1,5})", address)
    return match is not None and 1 <= int(match[1]) <= PORT_MAX
