"""Tickets for streams in PostgreSQL: only their digests, for a minute, gone with their one use."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from service.domain.caller import Caller, CallerKind, Scope
from service.domain.ticket import TICKET_SECONDS, Credential
from service.store.engine import Statement, Tx, written_out

ADD = Statement(
    sa.text(f"""
    INSERT INTO stream_tickets (digest, tenant_id, session_id, subject, caller_kind, key_digest, token_ends, issuer,
                                expires_at)
    VALUES (:digest, :tenant_id, :session_id, :subject, :caller_kind, :key_digest, :token_ends, :issuer,
            statement_timestamp() + interval '{TICKET_SECONDS} seconds')
    RETURNING expires_at
    """)  # noqa: S608 - built from a constant
)

IS_VALID = """stream_tickets.digest = :digest AND session_id IS NOT DISTINCT FROM CAST(:session_id AS uuid)
      AND expires_at > statement_timestamp()"""

FIND = Statement(
    sa.text(f"""
    SELECT tenant_id, subject, caller_kind, key_digest, token_ends, issuer,
           (SELECT id FROM api_keys k WHERE k.digest = stream_tickets.key_digest) AS key_id
    FROM stream_tickets
    WHERE {IS_VALID}
    """)  # noqa: S608 - built from a constant
)

REDEEM = Statement(
    sa.text(f"""
    DELETE FROM stream_tickets
    WHERE {IS_VALID}
    RETURNING 1
    """)  # noqa: S608 - built from a constant
)
"""One statement: of any number of requests with the same ticket, one deletes the row."""

FORGET = Statement(
    sa.text("""
    WITH gone AS (DELETE FROM stream_tickets WHERE expires_at <= statement_timestamp() RETURNING 1)
    SELECT count(*) FROM gone
    """)
)


async def add(tx: Tx, digest: bytes, credential: Credential, session_id: UUID | None) -> datetime:
    """Store a ticket for the stream of a session, or (None) for the one across sessions; until when it can be used."""
    caller = credential.caller
    expires_at: datetime = await tx.value(
        ADD,
        digest=digest,
        tenant_id=caller.tenant_id,
        session_id=session_id,
        subject=caller.subject,
        caller_kind=caller.kind.value,
        key_digest=credential.key_digest,
        token_ends=credential.ends,
        issuer=credential.issuer,
    )
    return written_out(expires_at)


async def find(tx: Tx, digest: bytes, session_id: UUID | None) -> Credential | None:
    """What a ticket stands for; None: there is none for this stream, its time is over, or it was used."""
    row = await tx.row(FIND, digest=digest, session_id=session_id)
    if row is None:
        return None
    caller = Caller(
        tenant_id=row["tenant_id"],
        subject=row["subject"],
        kind=CallerKind(row["caller_kind"]),
        scopes=frozenset({Scope.SESSIONS_READ}),
    )
    return Credential(caller, row["key_digest"], row["token_ends"], row["key_id"], row["issuer"])


async def redeem(tx: Tx, digest: bytes, session_id: UUID | None) -> bool:
    """Use a ticket up; whether this was the one use of it."""
    return await tx.row(REDEEM, digest=digest, session_id=session_id) is not None


async def forget(tx: Tx) -> int:
    """Delete tickets that nobody used in time; how many."""
    return int(await tx.value(FORGET))
