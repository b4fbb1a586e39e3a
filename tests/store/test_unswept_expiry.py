"""From the moment its time is over, a session reads as the sweep will store it, on every path."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from conversations import CAUSE, let_its_time_pass, opened, query, said, service_of

from service.commands.sessions import expire_sessions, move_session
from service.domain.caller import Caller
from service.domain.session import EndReason, Move, Session, Status
from service.handlers.encoding import encode
from service.store import session_pages, sessions
from service.store.engine import Database
from service.store.session_pages import Filters

TENANT = "tenant"
PAGE_MAX = 200


@pytest.fixture
def caller() -> Caller:
    """The only tenant of a database of its own: the sweep looks at all tenants."""
    return service_of(TENANT)


async def read_everywhere(database: Database, caller: Caller, session: Session) -> dict[str, Session | None]:
    """The session on every path that reads it."""
    async with database.begin() as tx:
        locked = await sessions.lock(tx, caller, session.id)
        listed = {
            sort: await session_pages.page(tx, caller, Filters(), sort=sort, position=None, limit=PAGE_MAX)
            for sort in ("created_at", "-created_at", "updated_at", "-updated_at")
        }
        return {
            "get": await sessions.get(tx, caller, session.id),
            "lock": None if locked is None else locked.session,
        } | {sort: next(row.session for row in rows if row.session.id == session.id) for sort, rows in listed.items()}


async def in_state(database: Database, caller: Caller, status: Status) -> Session:
    session = await opened(
        database, caller, external_id=f"mine-{status}", activate=status is not Status.CREATED, metadata={"k": [1.5]}
    )
    if status is not Status.CREATED:
        await said(database, caller, session.id, "a", "b")
    if status is Status.SUSPENDED:
        async with database.begin() as tx:
            await move_session(tx, caller, session.id, Move.SUSPEND, None, CAUSE)
    return session


@pytest.mark.parametrize("status", [Status.CREATED, Status.ACTIVE, Status.SUSPENDED])
async def test_an_unswept_session_reads_byte_for_byte_as_the_sweep_will_store_it(
    own_database: Database, caller: Caller, status: Status
):
    session = await in_state(own_database, caller, status)
    (before,) = {encode(read) for read in (await read_everywhere(own_database, caller, session)).values()}
    standing = msgspec.json.decode(before)
    await let_its_time_pass(own_database, session.id)

    unswept = await read_everywhere(own_database, caller, session)
    async with own_database.begin() as tx:
        swept = len(await expire_sessions(tx, caller.tenant_id, 10))
    afterwards = await read_everywhere(own_database, caller, session)

    assert swept == 1
    (shown,) = {encode(read) for read in unswept.values()}
    assert {encode(read) for read in afterwards.values()} == {shown}
    over = msgspec.json.decode(shown)
    assert (over["status"], over["end_reason"]) == ("ended", "expired")
    assert over["version"] == standing["version"] + 1
    assert over["ended_at"] == over["updated_at"] == over["expires_at"]


@pytest.mark.parametrize("swept", [False, True])
async def test_the_filters_see_an_expired_session_as_ended_whether_or_not_it_was_swept(
    own_database: Database, caller: Caller, *, swept: bool
):
    over, live = await opened(own_database, caller), await opened(own_database, caller)
    await let_its_time_pass(own_database, over.id)
    if swept:
        async with own_database.begin() as tx:
            await expire_sessions(tx, caller.tenant_id, 10)

    async def listed(**filters: object) -> list[object]:
        async with own_database.connect() as tx:
            rows = await session_pages.page(
                tx, caller, Filters(**filters), sort="created_at", position=None, limit=PAGE_MAX
            )
        return [row.session.id for row in rows]

    (ended_at,) = (await query(own_database, "SELECT expires_at FROM sessions WHERE id = $1", over.id))[0]
    (just_before,) = (await query(own_database, "SELECT $1::timestamptz - interval '1 microsecond'", ended_at))[0]
    assert await listed(status=(Status.ENDED,)) == [over.id]
    assert await listed(status=(Status.ACTIVE,)) == [live.id]
    assert await listed(status=(Status.ACTIVE, Status.ENDED)) == [over.id, live.id]
    assert await listed(status=(Status.CREATED, Status.SUSPENDED)) == []
    assert await listed(updated_after=just_before) == [over.id, live.id]
    assert await listed(updated_after=ended_at) == [live.id]


async def test_time_alone_ends_a_session_without_any_write(own_database: Database, caller: Caller):
    session = await opened(own_database, caller)
    await query(
        own_database,
        """
        UPDATE sessions SET expires_at = clock_timestamp() + interval '300 ms', updated_at = created_at
        WHERE id = $1
        """,
        session.id,
    )
    reads: list[Session] = []
    while not reads or reads[-1].status is not Status.ENDED:
        async with own_database.connect() as tx:
            read = await sessions.get(tx, caller, session.id)
            assert read is not None
            reads.append(read)

    assert {read.status for read in reads[:-1]} <= {Status.ACTIVE}
    assert reads[-1].end_reason is EndReason.EXPIRED
    assert all(later.version >= earlier.version for earlier, later in pairwise(reads))
