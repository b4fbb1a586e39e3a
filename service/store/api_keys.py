"""API keys in PostgreSQL: only their digests."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import msgspec
import sqlalchemy as sa

from service.domain.api_key import ApiKey
from service.domain.caller import Caller, CallerKind, Scope
from service.domain.ticket import Credential
from service.store.engine import Row, Statement, Tx, written_out, written_out_if_any

SCOPES = f"""CASE WHEN predates_act AND user_id IS NULL AND '{Scope.SESSIONS_WRITE}' = ANY(scopes)
         THEN scopes || '{Scope.SESSIONS_ACT}'::text ELSE scopes END AS scopes"""
"""A service's key from before `sessions:act` was a scope goes on speaking as the agent."""

COLUMNS = f"""id, name, user_id, {SCOPES}, hint, created_at, expires_at, revoked_at, created_by, revoked_by,
    last_used_at"""

ADD = Statement(
    sa.text(f"""
    INSERT INTO api_keys (id, tenant_id, name, user_id, scopes, digest, hint, created_by, created_at, expires_at,
                          predates_act)
    VALUES (:id, :tenant_id, :name, :user_id, CAST(:scopes AS text[]), :digest, :hint, :created_by,
            statement_timestamp(),
            least(statement_timestamp() + CAST(:lifetime AS interval), CAST(:ends AS timestamptz)), false)
    RETURNING {COLUMNS}
    """)  # noqa: S608 - built from constants of this module alone
)

FIND = Statement(
    sa.text(f"""
    SELECT id, tenant_id, name, user_id, {SCOPES} FROM api_keys
    WHERE digest = :digest AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > statement_timestamp())
    """)  # noqa: S608 - built from constants of this module alone
)

END = Statement(sa.text("SELECT expires_at FROM api_keys WHERE digest = :digest"))

PAGE = Statement(
    sa.text(f"""
    SELECT {COLUMNS} FROM api_keys
    WHERE tenant_id = :tenant_id AND (CAST(:before_id AS uuid) IS NULL OR id < CAST(:before_id AS uuid))
      AND (CAST(:user_id AS text) IS NULL OR user_id = CAST(:user_id AS text))
    ORDER BY id DESC LIMIT :limit
    """)  # noqa: S608 - built from constants of this module alone
)

ALL = Statement(sa.text(f"SELECT tenant_id, {COLUMNS} FROM api_keys ORDER BY tenant_id, created_at"))  # noqa: S608

REVOKE = Statement(
    sa.text("""
    UPDATE api_keys SET revoked_at = coalesce(revoked_at, statement_timestamp()),
                        revoked_by = CASE WHEN revoked_at IS NULL THEN CAST(:revoked_by AS text) ELSE revoked_by END
    WHERE id = :id AND (CAST(:tenant_id AS text) IS NULL OR tenant_id = CAST(:tenant_id AS text))
      AND (CAST(:user_id AS text) IS NULL OR user_id = CAST(:user_id AS text))
    RETURNING digest
    """)
)


USED_MINUTES_MIN = 5
"""A key's last use is written at most this often: who looks for unused keys thinks in days, and each write is a row."""

NOTE_USES = Statement(
    sa.text(f"""
    UPDATE api_keys SET last_used_at = statement_timestamp() - make_interval(secs => used.seconds_ago)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:seconds_ago AS float8[])) AS used (id, seconds_ago)
    WHERE api_keys.id = used.id
      AND (last_used_at IS NULL OR last_used_at < statement_timestamp() - make_interval(secs => used.seconds_ago)
                                                 - interval '{USED_MINUTES_MIN} minutes')
    """)  # noqa: S608 - built from a constant
)


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that is about to be stored."""

    id: UUID
    tenant_id: str
    name: str
    user_id: str | None
    scopes: list[Scope]
    digest: bytes
    hint: str
    lifetime: timedelta | None
    created_by: str | None
    ends: datetime | None


async def add(tx: Tx, new: NewKey) -> ApiKey:
    """Store a key's digest."""
    row = await tx.row(ADD, **msgspec.structs.asdict(new))
    if row is None:
        raise LookupError("an insert returned no row")
    return _key(row)


async def find(tx: Tx, digest: bytes) -> Credential | None:
    """What a live key proves; None when there is none, or it has expired or been revoked."""
    row = await tx.row(FIND, digest=digest)
    if row is None:
        return None
    user_id = row["user_id"]
    caller = Caller(
        tenant_id=row["tenant_id"],
        subject=row["name"] if user_id is None else user_id,
        kind=CallerKind.SERVICE if user_id is None else CallerKind.USER,
        scopes=frozenset(Scope(scope) for scope in row["scopes"]),
    )
    return Credential(caller, digest, key_id=row["id"])


async def end_of(tx: Tx, digest: bytes) -> datetime | None:
    """When a key expires; None: never."""
    end: datetime | None = await tx.value(END, digest=digest)
    return end


async def page(
    tx: Tx, tenant_id: str, *, before_id: UUID | None, limit: int, user_id: str | None = None
) -> list[ApiKey]:
    """A tenant's keys, newest first; with `user_id` those that act as that user."""
    rows = await tx.rows(PAGE, tenant_id=tenant_id, user_id=user_id, before_id=before_id, limit=limit)
    return [_key(row) for row in rows]


async def all_keys(tx: Tx) -> list[tuple[str, ApiKey]]:
    """Every tenant's keys, for the operator's command line."""
    return [(row["tenant_id"], _key(row)) for row in await tx.rows(ALL)]


async def revoke(
    tx: Tx, key_id: UUID, tenant_id: str | None, *, user_id: str | None = None, revoked_by: str | None = None
) -> bytes | None:
    """Make a key useless from now on (again: no change); its digest, or None when there is no such key."""
    digest: bytes | None = await tx.value(
        REVOKE, id=key_id, tenant_id=tenant_id, user_id=user_id, revoked_by=revoked_by
    )
    return digest


async def note_uses(tx: Tx, seconds_ago: dict[UUID, float]) -> None:
    """Write how long ago keys were used last, where what stands there is older by `USED_MINUTES_MIN`."""
    ids = sorted(seconds_ago)  # in one order for all, so that no two processes wait for each other in a circle
    await tx.rows(NOTE_USES, ids=ids, seconds_ago=[seconds_ago[key_id] for key_id in ids])


def _key(row: Row) -> ApiKey:
    return ApiKey(
        id=row["id"],
        name=row["name"],
        user_id=row["user_id"],
        scopes=[Scope(scope) for scope in row["scopes"]],
        hint=row["hint"],
        created_at=written_out(row["created_at"]),
        expires_at=written_out_if_any(row["expires_at"]),
        revoked_at=written_out_if_any(row["revoked_at"]),
        created_by=row["created_by"],
        revoked_by=row["revoked_by"],
        last_used_at=written_out_if_any(row["last_used_at"]),
    )
