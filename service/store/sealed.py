"""Everything that is stored sealed, walked through in steps: what carries another mark than it should.

A step looks at so many rows in the order of their ids and locks those that are to be sealed anew, without waiting for
any that is in use: so no request waits for more than a step, and no two wait for each other.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from service.store.engine import Row, Statement, Tx
from service.store.tables import Id

STEP_ROWS = 200
"""Answers have a few kB each, and 1 MiB at the most; a step takes milliseconds."""

COUNTED_ROWS = 10_000
"""Of kept answers, in one statement: all are counted, and each statement ends long before PostgreSQL ends it."""

ANSWERS_STEP = Statement(
    sa.text("""
    SELECT id FROM (SELECT id FROM idempotency_keys WHERE CAST(:after AS bytea) IS NULL OR id > CAST(:after AS bytea)
                    ORDER BY id LIMIT :rows) step ORDER BY id DESC LIMIT 1
    """).bindparams(sa.bindparam("rows", type_=sa.Integer))
)

ANSWERS_OTHER = """FROM idempotency_keys
    WHERE (CAST(:after AS bytea) IS NULL OR id > CAST(:after AS bytea)) AND id <= :last AND body IS NOT NULL
      AND substring(body FROM 1 FOR length(CAST(:mark AS bytea))) <> CAST(:mark AS bytea)"""

ANSWERS_COUNT = Statement(
    sa.text(f"SELECT count(*) {ANSWERS_OTHER}").bindparams(sa.bindparam("last", type_=sa.LargeBinary))
)

ANSWERS_TAKE = Statement(
    sa.text(f"SELECT id, tenant_id, body {ANSWERS_OTHER} ORDER BY id FOR UPDATE SKIP LOCKED").bindparams(
        sa.bindparam("last", type_=sa.LargeBinary)
    )
)

ANSWERS_PUT = Statement(
    sa.text("""
    UPDATE idempotency_keys SET body = new.body
    FROM unnest(CAST(:ids AS bytea[]), CAST(:bodies AS bytea[])) AS new (id, body) WHERE idempotency_keys.id = new.id
    """)
)

ANSWERS_MARKS = Statement(
    sa.text("""
    SELECT CASE WHEN substring(body FROM 1 FOR length(CAST(:magic AS bytea))) = CAST(:magic AS bytea)
                THEN substring(body FROM 1 FOR :length) ELSE CAST('' AS bytea) END AS mark, count(*) AS rows
    FROM idempotency_keys
    WHERE (CAST(:after AS bytea) IS NULL OR id > CAST(:after AS bytea)) AND id <= :last AND body IS NOT NULL GROUP BY 1
    """).bindparams(sa.bindparam("length", type_=sa.Integer), sa.bindparam("last", type_=sa.LargeBinary))
)

WEBHOOKS_STEP = Statement(
    sa.text("""
    SELECT id FROM (SELECT id FROM webhook_endpoints WHERE CAST(:after AS uuid) IS NULL OR id > CAST(:after AS uuid)
                    ORDER BY id LIMIT :rows) step ORDER BY id DESC LIMIT 1
    """).bindparams(sa.bindparam("rows", type_=sa.Integer))
)

WEBHOOKS_OTHER = """FROM webhook_endpoints
    WHERE (CAST(:after AS uuid) IS NULL OR id > CAST(:after AS uuid)) AND id <= :last AND deleted_at IS NULL
      AND (NOT starts_with(secret, :mark) OR NOT starts_with(old_secret, :mark))"""

WEBHOOKS_COUNT = Statement(sa.text(f"SELECT count(*) {WEBHOOKS_OTHER}").bindparams(sa.bindparam("last", type_=Id)))

WEBHOOKS_TAKE = Statement(
    sa.text(f"""
    SELECT id, tenant_id, secret,
           CASE WHEN old_secret_expires_at > statement_timestamp() THEN old_secret END AS old_secret
    {WEBHOOKS_OTHER} ORDER BY id FOR UPDATE SKIP LOCKED
    """).bindparams(sa.bindparam("last", type_=Id))
)
"""An old secret whose day is over is left out, and so it goes."""

WEBHOOKS_PUT = Statement(
    sa.text("""
    UPDATE webhook_endpoints SET secret = new.secret, old_secret = new.old_secret
    FROM unnest(CAST(:ids AS uuid[]), CAST(:secrets AS text[]), CAST(:old_secrets AS text[]))
        AS new (id, secret, old_secret) WHERE webhook_endpoints.id = new.id
    """).bindparams(
        sa.bindparam("ids", type_=pg.ARRAY(Id)),
        sa.bindparam("secrets", type_=pg.ARRAY(sa.Text)),
        sa.bindparam("old_secrets", type_=pg.ARRAY(sa.Text)),
    )
)

WEBHOOKS_MARKS = Statement(
    sa.text("""
    SELECT CASE WHEN starts_with(stored, :magic) THEN left(stored, :length) ELSE '' END AS mark,
           count(DISTINCT id) AS rows
    FROM webhook_endpoints, unnest(
        ARRAY[secret, CASE WHEN old_secret_expires_at > statement_timestamp() THEN old_secret END]) AS stored
    WHERE deleted_at IS NULL AND stored IS NOT NULL GROUP BY 1
    """).bindparams(sa.bindparam("length", type_=sa.Integer))
)
"""An old secret counts for as long as it signs."""


class Step(msgspec.Struct, frozen=True):
    """The rows of a step that are to be sealed anew and are locked now; `last`: where it ends, None: at the end of all.

    `in_use`: how many more of it are, and are locked by others.
    """

    last: Any
    rows: list[Row]
    in_use: int


class SealedWebhook(msgspec.Struct, frozen=True):
    """An endpoint's secrets as they are to be stored."""

    id: UUID
    secret: str
    old_secret: str | None


async def answers_step(tx: Tx, after: bytes | None, mark: bytes) -> Step:
    """The next kept answers whose seal does not begin with `mark`."""
    return await _step(tx, (ANSWERS_STEP, ANSWERS_COUNT, ANSWERS_TAKE), after, mark)


async def put_answers(tx: Tx, bodies: dict[bytes, bytes]) -> None:
    """Store these in place of what they sealed before."""
    await tx.rows(ANSWERS_PUT, ids=list(bodies), bodies=list(bodies.values()))


async def webhooks_step(tx: Tx, after: UUID | None, mark: str) -> Step:
    """The next endpoints of whose secrets one does not begin with `mark`."""
    return await _step(tx, (WEBHOOKS_STEP, WEBHOOKS_COUNT, WEBHOOKS_TAKE), after, mark)


async def put_webhooks(tx: Tx, sealed: list[SealedWebhook]) -> None:
    """Store these secrets in place of what they were before."""
    await tx.rows(
        WEBHOOKS_PUT,
        ids=[one.id for one in sealed],
        secrets=[one.secret for one in sealed],
        old_secrets=[one.old_secret for one in sealed],
    )


async def marks_of_answers(tx: Tx, magic: bytes, length: int) -> Counter[bytes]:
    """How many kept answers have which mark, `length` bytes that begin with `magic`; b"": how many have none."""
    counts: Counter[bytes] = Counter()
    after = None
    while (last := await tx.value(ANSWERS_STEP, after=after, rows=COUNTED_ROWS)) is not None:
        for row in await tx.rows(ANSWERS_MARKS, magic=magic, length=length, after=after, last=last):
            counts[row["mark"]] += row["rows"]
        after = last
    return counts


async def marks_of_webhooks(tx: Tx, magic: str, length: int) -> dict[str, int]:
    """How many endpoints have a secret with which mark, `length` characters that begin with `magic`; "": with none."""
    return {row["mark"]: row["rows"] for row in await tx.rows(WEBHOOKS_MARKS, magic=magic, length=length)}


async def _step(tx: Tx, statements: tuple[Statement, Statement, Statement], after: Any, mark: Any) -> Step:
    ending, counting, taking = statements
    last = await tx.value(ending, after=after, rows=STEP_ROWS)
    if last is None:
        return Step(None, [], 0)
    wanted = await tx.value(counting, after=after, last=last, mark=mark)
    rows = await tx.rows(taking, after=after, last=last, mark=mark) if wanted else []
    return Step(last, rows, max(0, wanted - len(rows)))
