"""Which objects are kept, and for whom: equal content of a tenant once, counted, and let go with its last reference.

An object is announced before it is written, for minutes that are renewed while it is written, and adopted in the
transaction that refers to it first. One without a row, or that the last reference let go of, is loose: the sweep
deletes it when it is due. A key is never used twice, so nothing can come back that the sweep is about to delete.
"""

from __future__ import annotations

from collections import Counter

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from service.domain.errors import StorageFull, StorageUnavailable
from service.store.engine import Statement, Tx

ANNOUNCED_SECONDS = 300
"""An object whose process has not renewed its announcement for so long is deleted: that process was killed."""

DELETION_SECONDS = 60
"""When deleting an object failed, or its worker died, it is tried again after this time."""

ANNOUNCE = Statement(
    sa.text(f"""
    INSERT INTO loose_blobs (key, due_at, is_doomed)
    SELECT key, statement_timestamp() + interval '{ANNOUNCED_SECONDS} seconds', false
    FROM unnest(CAST(:keys AS text[])) AS key
    """)  # noqa: S608 - a constant of this module
)

RENEW = Statement(
    sa.text(f"""
    UPDATE loose_blobs SET due_at = statement_timestamp() + interval '{ANNOUNCED_SECONDS} seconds'
    WHERE key = ANY (CAST(:keys AS text[])) AND NOT is_doomed
    RETURNING key
    """)  # noqa: S608 - a constant of this module
)

LET_GO = Statement(
    sa.text("""
    UPDATE loose_blobs SET due_at = statement_timestamp()
    WHERE key = ANY (CAST(:keys AS text[])) AND NOT is_doomed
    RETURNING key
    """)
)

GAIN = Statement(
    sa.text("""
    INSERT INTO blobs AS b (tenant_id, sha256, key, size, reference_count)
    VALUES (:tenant_id, :sha256, :key, :size, 1)
    ON CONFLICT (tenant_id, sha256) DO UPDATE SET reference_count = b.reference_count + 1
    RETURNING key
    """)
)

ADOPT = Statement(sa.text("DELETE FROM loose_blobs WHERE key = :key AND NOT is_doomed RETURNING key"))

HOLD = Statement(
    sa.text("""
    SELECT sha256, size, reference_count FROM blobs WHERE tenant_id = :tenant_id AND sha256 = ANY (:digests)
    ORDER BY sha256 FOR UPDATE
    """).bindparams(sa.bindparam("digests", type_=pg.ARRAY(sa.LargeBinary)))
)

LOWER = Statement(
    sa.text("""
    UPDATE blobs SET reference_count = reference_count - lost.count
    FROM unnest(CAST(:digests AS bytea[]), CAST(:counts AS integer[])) AS lost (sha256, count)
    WHERE tenant_id = :tenant_id AND blobs.sha256 = lost.sha256
    """)
)

DROP = Statement(
    sa.text("""
    WITH gone AS (DELETE FROM blobs WHERE tenant_id = :tenant_id AND sha256 = ANY (:digests) RETURNING key)
    INSERT INTO loose_blobs (key, due_at, is_doomed) SELECT key, statement_timestamp(), false FROM gone
    """).bindparams(sa.bindparam("digests", type_=pg.ARRAY(sa.LargeBinary)))
)

GROW = Statement(
    sa.text("""
    INSERT INTO tenant_storage AS t (tenant_id, bytes)
    SELECT :tenant_id, greatest(CAST(:bytes AS bigint), 0)
    WHERE CAST(:quota AS bigint) IS NULL OR CAST(:bytes AS bigint) <= CAST(:quota AS bigint)
       OR CAST(:bytes AS bigint) <= 0
    ON CONFLICT (tenant_id) DO UPDATE SET bytes = t.bytes + CAST(:bytes AS bigint)
    WHERE CAST(:quota AS bigint) IS NULL OR CAST(:bytes AS bigint) <= 0
       OR t.bytes + CAST(:bytes AS bigint) <= CAST(:quota AS bigint)
    RETURNING bytes
    """)
)

FIND = Statement(
    sa.text("SELECT key, size FROM blobs WHERE tenant_id = :tenant_id AND sha256 = :sha256").bindparams(
        sa.bindparam("sha256", type_=sa.LargeBinary)
    )
)

DOOM = Statement(
    sa.text(f"""
    WITH due AS (
        SELECT key FROM loose_blobs WHERE due_at <= statement_timestamp()
        ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    UPDATE loose_blobs SET is_doomed = true, due_at = statement_timestamp() + interval '{DELETION_SECONDS} seconds'
    FROM due WHERE loose_blobs.key = due.key
    RETURNING loose_blobs.key
    """).bindparams(sa.bindparam("limit", type_=sa.Integer))  # noqa: S608 - a constant of this module
)

FORGET = Statement(
    sa.text("DELETE FROM loose_blobs WHERE is_doomed AND key = ANY (:keys)").bindparams(
        sa.bindparam("keys", type_=pg.ARRAY(sa.Text))
    )
)


class Stored(msgspec.Struct, frozen=True):
    """An object that has been written: its digest, the key that it was announced under, and its size in bytes."""

    sha256: bytes
    key: str
    size: int


async def announce(tx: Tx, keys: list[str]) -> None:
    """Say that objects are about to be written, so that they are deleted should nobody adopt them."""
    await tx.rows(ANNOUNCE, keys=keys)


async def renew(tx: Tx, keys: list[str]) -> set[str]:
    """Announce objects for longer; which of them are still announced, and not adopted or taken by the sweep."""
    return {row["key"] for row in await tx.rows(RENEW, keys=keys)}


async def let_go(tx: Tx, keys: list[str]) -> set[str]:
    """Make objects due that no row will refer to; which of them were announced, and not adopted or swept."""
    return {row["key"] for row in await tx.rows(LET_GO, keys=keys)}


async def exchange(tx: Tx, tenant_id: str, *, gained: list[Stored], lost: list[bytes], quota: int | None) -> None:
    """Count a reference to each of `gained`, and one fewer to each of `lost`.

    Digests are taken in their order and the tenant's total last, so that no two transactions wait for each other.

    Raises:
        StorageFull: the tenant would hold more than `quota` bytes.
        StorageUnavailable: an object took so long that the sweep has taken it away.
    """
    growth = 0
    gone = Counter(lost)
    for stored in sorted(gained, key=lambda stored: stored.sha256):
        earlier = {sha256: gone.pop(sha256) for sha256 in list(gone) if sha256 < stored.sha256}
        growth -= await _lose(tx, tenant_id, earlier)
        growth += await _gain(tx, tenant_id, stored)
    growth -= await _lose(tx, tenant_id, gone)
    if growth and await tx.value(GROW, tenant_id=tenant_id, bytes=growth, quota=quota) is None:
        raise StorageFull("Your files have reached the storage that this tenant is allowed; delete some first.")


async def _gain(tx: Tx, tenant_id: str, stored: Stored) -> int:
    """How many bytes the tenant holds more: none where it has the same content already."""
    key = await tx.value(GAIN, tenant_id=tenant_id, sha256=stored.sha256, key=stored.key, size=stored.size)
    if key != stored.key:
        await let_go(tx, [stored.key])
        return 0
    if await tx.value(ADOPT, key=key) is None:
        raise StorageUnavailable("The file took so long that its upload was given up; send it again.")
    return stored.size


async def _lose(tx: Tx, tenant_id: str, counts: dict[bytes, int]) -> int:
    """How many bytes the tenant holds fewer: none of those that something else refers to."""
    if not counts:
        return 0
    held = await tx.rows(HOLD, tenant_id=tenant_id, digests=list(counts))
    if len(held) < len(counts):
        raise LookupError("a blob that something refers to is gone")
    kept = [row["sha256"] for row in held if row["reference_count"] > counts[row["sha256"]]]
    if kept:
        await tx.rows(LOWER, tenant_id=tenant_id, digests=kept, counts=[counts[sha256] for sha256 in kept])
    gone = {row["sha256"]: row["size"] for row in held if row["reference_count"] <= counts[row["sha256"]]}
    if gone:
        await tx.rows(DROP, tenant_id=tenant_id, digests=list(gone))
    return sum(gone.values())


async def find(tx: Tx, tenant_id: str, sha256: bytes) -> Stored | None:
    """The object that holds this content."""
    row = await tx.row(FIND, tenant_id=tenant_id, sha256=sha256)
    return None if row is None else Stored(sha256, row["key"], row["size"])


async def doom(tx: Tx, limit: int) -> list[str]:
    """Take at most `limit` loose objects that are due; from now on nobody can adopt them."""
    return [row["key"] for row in await tx.rows(DOOM, limit=limit)]


async def forget(tx: Tx, keys: list[str]) -> None:
    """Say that these objects have been deleted."""
    await tx.rows(FORGET, keys=keys)
