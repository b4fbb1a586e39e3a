"""Whatever happens, its event waits in the outbox until it is relayed: of every type, in the order of its session."""

from __future__ import annotations

from conversations import CAUSE, acted, asked, filed, inspected, let_its_time_pass, opened, query, said

from service.commands.attachments import delete_attachment
from service.commands.messages import delete_message
from service.commands.sessions import Change, change_session, end_session, move_session
from service.domain.attachment import AttachmentStatus
from service.domain.caller import Caller
from service.domain.event import EventType
from service.domain.session import Move, SessionConfig
from service.store.engine import Database
from workers.jobs.expire_sessions import sweep_expired_sessions
from workers.jobs.expire_tool_calls import sweep_late_tool_calls

TOLD = "SELECT session_id, seq, type, tenant_id FROM events ORDER BY session_id, seq"
WAITING = "SELECT session_id, event_seq, event_type, tenant_id FROM outbox ORDER BY session_id, id"


async def let_everything_happen(database: Database, caller: Caller) -> None:
    """One event of each type at least, in four sessions."""
    session = await opened(database, caller, activate=False, system_prompt="Be brief.")
    async with database.begin() as tx:
        await move_session(tx, caller, session.id, Move.ACTIVATE, None, CAUSE)
        await change_session(tx, caller, session.id, Change(title="Named"), None, CAUSE)
        await move_session(tx, caller, session.id, Move.SUSPEND, None, CAUSE)
        await move_session(tx, caller, session.id, Move.RESUME, None, CAUSE)
    (first, *_) = await said(database, caller, session.id, "one", "and two")
    async with database.begin() as tx:
        await delete_message(tx, caller, session.id, first.id, CAUSE)
    steps = [
        ("approve", "start", "complete"),
        ("approve", "start", "fail"),
        ("reject",),
        ("cancel",),
    ]
    for call, actions in zip(await asked(database, caller, session.id, "a", "b", "c", "d"), steps, strict=True):
        for action in actions:
            brings = {"complete": {"result": b"1"}, "fail": {"error": "broke"}}.get(action, {})
            await acted(database, caller, call, action, **brings)
    for status in (AttachmentStatus.READY, AttachmentStatus.FAILED):
        file = await filed(database, caller, session.id, status.encode())
        await inspected(database, caller.tenant_id, file, status=status)
        async with database.begin() as tx:
            await delete_attachment(tx, caller, session.id, file.id, CAUSE)
    async with database.begin() as tx:
        await end_session(tx, caller, session.id, None, CAUSE)

    late = await opened(database, caller, config=SessionConfig(approval_timeout_seconds=1))
    await asked(database, caller, late.id, "e")
    await query(database, "UPDATE tool_calls SET expires_at = now() - interval '1 s' WHERE session_id = $1", late.id)
    await sweep_late_tool_calls(database)

    for names in ([], ["f"]):  # with an open call, whose end is told before the session's
        over = await opened(database, caller)
        await asked(database, caller, over.id, *names) if names else None
        await let_its_time_pass(database, over.id)
    await sweep_expired_sessions(database)


async def test_every_event_waits_in_the_outbox_once_in_the_order_of_its_session(own_database: Database, caller: Caller):
    await let_everything_happen(own_database, caller)

    told, waiting = await query(own_database, TOLD), await query(own_database, WAITING)
    assert {row["type"] for row in told} == set(EventType)
    assert [tuple(row) for row in waiting] == [tuple(row) for row in told]
