"""Webhooks: where a tenant's events are sent, which of them, and with what they are signed."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from service.domain.event import EventType

WEBHOOKS_MAX = 50
"""Of one tenant: each event is a row for each of them that wants it."""

URL_CHARACTERS_MAX = 2000
"""What every server and proxy on the way takes."""

URL = re.compile(
    r"""(?P<scheme>https?)://
        (?P<host>[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_.])?|\[[0-9a-f:.]{2,45}\])
        (?::(?P<port>[0-9]{1,5}))?
        (?P<path>[/?][!"$-~]*)?""",
    re.IGNORECASE | re.VERBOSE,
)
"""Narrow on purpose: no user and password, no backslash, no space, so that no two parsers can read it differently."""

PORTS = frozenset({443, 8443})
"""Where HTTPS is served; any other port would make a scanner of other people's machines out of us."""

PORT_MAX = 65_535

SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with (Standard Webhooks)
SECRET_BYTES = 32
"""Standard Webhooks asks for 24 to 64; 32 is the strength of SHA-256."""

OLD_SECRET_HOURS = 24
"""How long the secret before a rotation still signs: a day to bring the new one to every receiver."""

Url = Annotated[str, Meta(min_length=1, max_length=URL_CHARACTERS_MAX)]
EventTypes = Annotated[list[EventType], Meta(max_length=len(EventType))]
Description = Annotated[str, Meta(max_length=200)]


class Ordering(StrEnum):
    """`session`: the events of a session arrive one after the other, as they happened; `none`: each as soon as it can.

    With `session`, one that fails holds up those of its session that follow, until it is delivered or given up.
    """

    SESSION = "session"
    NONE = "none"


class DisabledReason(StrEnum):
    """Why nothing is sent: somebody asked for it, the receiver said 410 Gone, or it has failed for five days."""

    REQUESTED = "requested"
    GONE = "gone"
    FAILING = "failing"


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint of a tenant. An empty `event_types` wants all. Its secret is shown when it is made, never again.

    `created_by` names `key:` and the id of an API key, or `user:` and the subject of a token; null where that was not
    kept.
    """

    id: UUID
    url: str
    event_types: list[EventType]
    description: str | None
    ordering: Ordering
    disabled: bool
    disabled_reason: DisabledReason | None
    disabled_at: datetime | None
    failing_since: datetime | None
    old_secret_expires_at: datetime | None
    created_at: datetime
    updated_at: datetime
    created_by: str | None


def fault_of_url(url: str, *, allows_private: bool) -> str | None:
    """What is wrong with the writing of `url`; None: nothing. Where it leads is looked at when its name is resolved."""
    if not url.isascii():
        return "Write the host of an international name in its ASCII form (xn--…), and other characters as %XX"
    match = URL.fullmatch(url)
    if match is None:
        return "Expected https://host/path without user, password, fragment or spaces"
    if allows_private:
        return None if int(match["port"] or "443") in range(1, PORT_MAX + 1) else "There is no such port"
    if match["scheme"].lower() != "https":
        return "Only https is taken"
    if int(match["port"] or "443") not in PORTS:
        return f"Only the ports {' and '.join(map(str, sorted(PORTS)))} are taken"
    return None


class Destination(msgspec.Struct, frozen=True):
    """Where a request to a URL goes, and what it asks for there."""

    is_tls: bool
    host: str
    port: int
    authority: str
    target: str

    @property
    def key(self) -> tuple[bool, str, int]:
        """The same for all that may use one connection."""
        return self.is_tls, self.host, self.port


def destination_of(url: str) -> Destination:
    """Where a URL without fault leads."""
    match = URL.fullmatch(url)
    if match is None:
        raise ValueError("this URL was never checked")
    is_tls, host, path = match["scheme"].lower() == "https", match["host"].lower(), match["path"] or "/"
    usual = 443 if is_tls else 80
    port = int(match["port"] or usual)
    return Destination(
        is_tls,
        host.strip("[]"),
        port,
        host if port == usual else f"{host}:{port}",
        path if path.startswith("/") else f"/{path}",
    )


def wants(event_types: Sequence[str], event_type: EventType) -> bool:
    """Whether an endpoint with these `event_types` is told of an event."""
    return not event_types or event_type in event_types


def new_secret() -> str:
    """A fresh secret, as Standard Webhooks writes it."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
