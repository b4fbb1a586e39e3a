"""Idempotency keys: claimed before the effect and answered with it, in the same transaction."""

from __future__ import annotations

from uuid import UUID

import asyncpg
import msgspec
import sqlalchemy as sa

from service.domain.errors import RequestInProgress
from service.store.engine import Statement, Tx
from service.store.tables import Id

KEPT_HOURS = 24
"""How long an answer is kept (API 1): longer than any client retries, short enough to stay small."""

CLAIM = Statement(
    sa.text(f"""
    INSERT INTO idempotency_keys (id, tenant_id, fingerprint, created_at)
    VALUES (:id, :tenant_id, '', statement_timestamp())
    ON CONFLICT (id) DO UPDATE
        SET fingerprint = '', created_at = excluded.created_at,
            session_id = NULL, message_ids = NULL, status = NULL, headers = NULL, body = NULL
        WHERE idempotency_keys.created_at < statement_timestamp() - interval '{KEPT_HOURS} hours'
    RETURNING true
    """)  # noqa: S608 - a constant of this module
)

KEEP = Statement(
    sa.text("""
    UPDATE idempotency_keys SET status = :status, headers = CAST(:headers AS jsonb), body = :body,
           session_id = :session_id, message_ids = CAST(:item_ids AS uuid[])
    WHERE id = :id
    """)
)

STANDING = Statement(
    sa.text("""
    SELECT fingerprint, status, headers, body, session_id, message_ids IS NOT NULL AS is_about_items
    FROM idempotency_keys WHERE id = :id
    """).bindparams(sa.bindparam("id", type_=sa.LargeBinary))
)

ERASE_ITEM = Statement(
    sa.text("""
    UPDATE idempotency_keys SET body = NULL, fingerprint = ''
    WHERE session_id = :session_id AND message_ids @> ARRAY[CAST(:item_id AS uuid)]
    """).bindparams(sa.bindparam("session_id", type_=Id))
)

ERASE_SESSION = Statement(
    sa.text("""
    UPDATE idempotency_keys SET body = NULL, fingerprint = '', headers = '{}', session_id = NULL, message_ids = NULL
    WHERE session_id = :session_id
    """).bindparams(sa.bindparam("session_id", type_=Id))
)

FORGET = Statement(
    sa.text(f"""
    WITH old AS (
        SELECT id FROM idempotency_keys
        WHERE created_at < statement_timestamp() - interval '{KEPT_HOURS} hours'
        ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ), gone AS (DELETE FROM idempotency_keys USING old WHERE idempotency_keys.id = old.id RETURNING 1)
    SELECT count(*) FROM gone
    """).bindparams(sa.bindparam("limit", type_=sa.Integer))  # noqa: S608 - a constant of this module
)


class Kept(msgspec.Struct, frozen=True):
    """The first answer to a key. `body` is None when what it told of has been deleted since.

    `fingerprint`: SHA-256 of what was sent, where a version before kept it beside the answer; empty where it is in it.

    `session_id`: the session that it tells of; None: of none, or of one that has been erased.
    """

    fingerprint: bytes
    status: int
    headers: dict[str, str]
    body: bytes | None
    session_id: UUID | None
    is_about_items: bool


class About(msgspec.Struct, frozen=True):
    """What an answer tells of, so that erasing the thing erases the answer's content too.

    `item_ids`: the messages, files and tool calls that it shows (in the column `message_ids`, which is older than
    these two). A call is named because its result goes with the tool message that brought it.
    """

    session_id: UUID | None = None
    item_ids: list[UUID] | None = None


async def claim(tx: Tx, key_id: bytes, tenant_id: str) -> Kept | None:
    """Take the key for this transaction; or the kept answer, when the key has been used already.

    A second request with the same key waits here until the first one commits or fails.

    Raises:
        RequestInProgress: the first one has not finished within the lock timeout.
    """
    try:
        claimed = await tx.value(CLAIM, id=key_id, tenant_id=tenant_id)
    except (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError) as error:
        raise RequestInProgress from error
    if claimed:
        return None
    row = await tx.row(STANDING, id=key_id)
    if row is None or row["status"] is None:
        raise RequestInProgress
    return Kept(
        fingerprint=row["fingerprint"],
        status=row["status"],
        headers=msgspec.json.decode(row["headers"], type=dict[str, str]),
        body=row["body"],
        session_id=row["session_id"],
        is_about_items=row["is_about_items"],
    )


async def keep(tx: Tx, key_id: bytes, *, status: int, headers: dict[str, str], body: bytes, about: About) -> None:
    """Store the answer beside its effect."""
    await tx.rows(
        KEEP,
        id=key_id,
        status=status,
        headers=msgspec.json.encode(headers).decode(),
        body=body,
        session_id=about.session_id,
        item_ids=about.item_ids,
    )


async def erase_item(tx: Tx, session_id: UUID, item_id: UUID) -> None:
    """Take what a deleted message or file held out of the answers that were kept; the keys stay taken."""
    await tx.rows(ERASE_ITEM, session_id=session_id, item_id=item_id)


async def erase_session(tx: Tx, session_id: UUID) -> None:
    """Take everything of a purged session out of the answers that were kept; the keys stay taken, so that no retry

    opens the session again.
    """
    await tx.rows(ERASE_SESSION, session_id=session_id)


async def forget(tx: Tx, limit: int) -> int:
    """Delete keys past their time, at most `limit`; how many."""
    return int(await tx.value(FORGET, limit=limit))
