"""How many bytes of rows each tenant has: an estimate from a few blocks of each table, so that no write counts them.

A count that every write kept would be one row for all writes of a tenant, and they would wait for each other. Blocks
are read at random, as many of a large table as of a small one; what a tenant has in them is taken for its part of the
whole. Values are not unpacked for it: what counts is the room that they take.
"""

from __future__ import annotations

from collections import Counter

import sqlalchemy as sa

from service.store.engine import Statement, Tx

BLOCKS_MAX = 1000
"""Blocks of 8 KiB that are read of a table: 8 MiB, some 15,000 rows, a second on a slow disk. A table that has no more

is counted.
"""

WEIGHT = 4
"""A new sample moves an estimate by a quarter of the difference: one that is off by half moves it by an eighth."""

AGAIN_SECONDS = 45
"""Of several workers, the others leave an estimate alone that is younger."""

ROW_BYTES = {
    "sessions": "600 + pg_column_size(config) + pg_column_size(metadata)",
    "messages": "250 + coalesce(pg_column_size(content), 0) + pg_column_size(metadata)",
    "tool_calls": "900 + pg_column_size(arguments) + coalesce(pg_column_size(original_arguments), 0) "
    "+ coalesce(pg_column_size(result), 0)",
    "attachments": "600 + pg_column_size(metadata) + pg_column_size(properties)",
    "events": "500 + pg_column_size(data)",
    "webhook_deliveries": "700",
    "idempotency_keys": "250 + coalesce(pg_column_size(body), 0) + coalesce(pg_column_size(headers), 0)",
}
"""The bytes of a row of each table: its payloads as they are stored, and about what its other columns and its entries
in indexes take. Positions in the feed are reckoned with the events."""

IS_YOUNG = Statement(
    sa.text(f"""
    SELECT coalesce(max(estimated_at) > statement_timestamp() - interval '{AGAIN_SECONDS} seconds', false)
    FROM tenant_rows
    """)  # noqa: S608 - a constant of this module
)

BLOCKS = Statement(
    sa.text("""
    SELECT name, pg_relation_size(CAST(name AS regclass)) / current_setting('block_size')::bigint AS blocks
    FROM unnest(CAST(:names AS text[])) AS name
    """)
)

SAMPLES = {
    table: Statement(
        sa.text(f"""
        SELECT tenant_id, sum({row_bytes}) AS bytes FROM {table} TABLESAMPLE SYSTEM (CAST(:percent AS float4))
        GROUP BY tenant_id
        """)  # noqa: S608 - built from constants of this module
    )
    for table, row_bytes in ROW_BYTES.items()
}

RECORD = Statement(
    sa.text("""
    INSERT INTO tenant_rows AS t (tenant_id, bytes, estimated_at)
    SELECT found.tenant_id, found.bytes, statement_timestamp()
    FROM unnest(CAST(:tenant_ids AS text[]), CAST(:sizes AS bigint[])) AS found (tenant_id, bytes)
    ON CONFLICT (tenant_id) DO UPDATE SET
        bytes = t.bytes + (excluded.bytes - t.bytes) / CAST(:weight AS bigint), estimated_at = excluded.estimated_at
    """)
)

FADE = Statement(
    sa.text("""
    UPDATE tenant_rows SET bytes = bytes - bytes / CAST(:weight AS bigint)
    WHERE NOT tenant_id = ANY (CAST(:tenant_ids AS text[]))
    """)
)

FORGET = Statement(
    sa.text("""
    DELETE FROM tenant_rows
    WHERE NOT tenant_id = ANY (CAST(:tenant_ids AS text[])) AND (bytes < 1024 OR CAST(:weight AS bigint) = 1)
    """)
)

LARGEST = Statement(
    sa.text("SELECT tenant_id, bytes FROM tenant_rows ORDER BY bytes DESC LIMIT :limit").bindparams(
        sa.bindparam("limit", type_=sa.Integer)
    )
)

BEYOND = Statement(
    sa.text("SELECT tenant_id FROM tenant_rows WHERE bytes > :quota").bindparams(
        sa.bindparam("quota", type_=sa.BigInteger)
    )
)


async def is_young(tx: Tx) -> bool:
    """Whether another worker has just estimated."""
    return bool(await tx.value(IS_YOUNG))


async def sample(tx: Tx) -> tuple[dict[str, int], bool]:
    """The bytes of each tenant that was met, and whether all rows were looked at."""
    blocks = {row["name"]: row["blocks"] for row in await tx.rows(BLOCKS, names=list(SAMPLES))}
    found: Counter[str] = Counter()
    for table, statement in SAMPLES.items():
        part = min(1.0, BLOCKS_MAX / max(blocks[table], 1))
        for row in await tx.rows(statement, percent=100 * part):
            found[row["tenant_id"]] += round(row["bytes"] / part)
    return dict(found), max(blocks.values()) <= BLOCKS_MAX


async def record(tx: Tx, found: dict[str, int], *, is_whole: bool) -> None:
    """Store what a sample says; tenants that it did not meet have less, or, where it is whole, nothing."""
    weight, tenant_ids = 1 if is_whole else WEIGHT, sorted(found)  # in one order, should two workers do so at once
    await tx.rows(RECORD, tenant_ids=tenant_ids, sizes=[found[id_] for id_ in tenant_ids], weight=weight)
    await tx.rows(FADE, tenant_ids=tenant_ids, weight=weight)
    await tx.rows(FORGET, tenant_ids=tenant_ids, weight=weight)


async def largest(tx: Tx, limit: int) -> dict[str, int]:
    """The bytes of the tenants that have most."""
    return {row["tenant_id"]: row["bytes"] for row in await tx.rows(LARGEST, limit=limit)}


async def beyond(tx: Tx, quota: int) -> frozenset[str]:
    """The tenants that have more than `quota` bytes."""
    return frozenset(row["tenant_id"] for row in await tx.rows(BEYOND, quota=quota))
