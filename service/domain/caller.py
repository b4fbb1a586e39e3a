"""Who is asking: a tenant's service or one of its users, and what the credentials allow."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from service.domain.errors import InsufficientScope

TENANT_CHARACTERS_MAX = 100
"""Long enough for any name, slug or UUID, short enough for every index entry."""

SUBJECT_CHARACTERS_MAX = 200
"""The same bound as `user_id`, because a user's sessions carry the subject as their `user_id`."""


class CallerKind(StrEnum):
    """A service sees its tenant's sessions; a user sees its own."""

    SERVICE = "service"
    USER = "user"


class Scope(StrEnum):
    """What credentials may do; `admin` holds all the others.

    `sessions:write` speaks as a user, `sessions:act` as the agent.
    """

    SESSIONS_READ = "sessions:read"
    SESSIONS_WRITE = "sessions:write"
    SESSIONS_ACT = "sessions:act"
    TOOL_CALLS_DECIDE = "tool_calls:decide"
    WEBHOOKS_MANAGE = "webhooks:manage"
    ADMIN = "admin"


class Caller(msgspec.Struct, frozen=True):
    """The identity that credentials prove: tenant, subject, kind and scopes."""

    tenant_id: str
    subject: str
    kind: CallerKind
    scopes: frozenset[Scope]

    @property
    def sees_user(self) -> str | None:
        """The only user whose rows this caller may see; None: all of the tenant's."""
        return self.subject if self.kind is CallerKind.USER else None

    def holds(self, scope: Scope) -> bool:
        """Whether the credentials carry `scope`, or all of them."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def require_any(self, scopes: Sequence[Scope]) -> None:
        """Refuse unless the credentials carry one of `scopes`.

        Raises:
            InsufficientScope: naming the scopes of which one is missing.
        """
        if any(self.holds(scope) for scope in scopes):
            return
        named = " or ".join(f"'{scope}'" for scope in scopes)
        raise InsufficientScope(f"These credentials lack the scope {named}.", required_scope=scopes[0])

    def require(self, scope: Scope) -> None:
        """Refuse unless the credentials carry `scope`.

        Raises:
            InsufficientScope: naming the scope that is missing.
        """
        self.require_any((scope,))
