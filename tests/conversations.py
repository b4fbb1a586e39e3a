"""Conversations for tests: opened, spoken in, past their time."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
from eventually import until

from service.blobs import new_key
from service.commands.attachments import add_attachment
from service.commands.inspections import record_outcome
from service.commands.messages import append_messages
from service.commands.sessions import Opening, open_session
from service.commands.tool_calls import act_on_tool_call
from service.domain.attachment import Attachment, AttachmentStatus, Outcome
from service.domain.caller import Caller, CallerKind, Scope
from service.domain.event import Actor, ActorKind, Cause
from service.domain.message import Message, MessageDraft, Role
from service.domain.session import Session, SessionConfig
from service.domain.tool_call import Action, Request, ToolCall, ToolCallDraft
from service.ids import new_id
from service.store import blobs
from service.store.attachments import NewAttachment
from service.store.blobs import Stored
from service.store.engine import Database
from service.store.inspections import Claim

CAUSE = Cause(actor=Actor(kind=ActorKind.SERVICE, subject="tests"), request_id="request-of-tests")


def service_of(tenant_id: str) -> Caller:
    """A service of a tenant, with every scope."""
    return Caller(tenant_id=tenant_id, subject="service", kind=CallerKind.SERVICE, scopes=frozenset({Scope.ADMIN}))


def user_of(tenant_id: str, user_id: str) -> Caller:
    """A user of a tenant, with every scope: it still sees its own sessions only."""
    return Caller(tenant_id=tenant_id, subject=user_id, kind=CallerKind.USER, scopes=frozenset({Scope.ADMIN}))


def opening(**fields: Any) -> Opening:
    """What a caller wants a new session to be: active, unless a field says otherwise."""
    wanted: dict[str, Any] = {
        "user_id": "user-1",
        "agent_id": "agent-1",
        "title": None,
        "external_id": None,
        "return_existing": False,
        "config": SessionConfig(),
        "system_prompt": None,
        "metadata": {},
        "tags": [],
        "activate": True,
    }
    return Opening(**wanted | fields)


async def opened(database: Database, caller: Caller, **fields: Any) -> Session:
    """A new session; see `opening`."""
    async with database.begin() as tx:
        session, _ = await open_session(tx, caller, opening(**fields), CAUSE)
    return session


async def said(database: Database, caller: Caller, session_id: UUID, *texts: str) -> list[Message]:
    """Messages that were appended together, as one statement on its own."""
    async with database.connect() as tx:
        return await append_messages(tx, caller, session_id, [MessageDraft(content=text) for text in texts], CAUSE)


async def asked(
    database: Database, caller: Caller, session_id: UUID, *names: str, requires_approval: bool = True, **fields: Any
) -> list[ToolCall]:
    """The tool calls of a new assistant message, which wait for approval."""
    calls = [ToolCallDraft(tool_name=name, requires_approval=requires_approval, **fields) for name in names]
    draft = MessageDraft(role=Role.ASSISTANT, content="", tool_calls=calls)
    async with database.begin() as tx:
        (message,) = await append_messages(tx, caller, session_id, [draft], CAUSE)
    return message.tool_calls


async def acted(database: Database, caller: Caller, call: ToolCall, action: str, **fields: Any) -> ToolCall:
    """The call after one action of a caller."""
    request = Request(action=Action(action), by=caller.subject, **fields)
    async with database.begin() as tx:
        after, _ = await act_on_tool_call(tx, caller, call.session_id, call.id, request, CAUSE)
    return after


async def filed(
    database: Database, caller: Caller, session_id: UUID, content: bytes = b"words", **fields: Any
) -> Attachment:
    """A new file of a session, as if its bytes were stored: counted, though in no store."""
    wanted: dict[str, Any] = {"filename": "a.txt", "content_type": "text/plain", "metadata": {}} | fields
    stored = Stored(hashlib.sha256(content).digest(), new_key(new_id()), len(content))
    new = NewAttachment(size=stored.size, sha256=stored.sha256, **wanted)
    async with database.begin() as tx:
        await blobs.announce(tx, [stored.key])
        return await add_attachment(tx, caller, session_id, new, stored, None, CAUSE)


async def inspected(
    database: Database,
    tenant_id: str,
    file: Attachment,
    *,
    text: Stored | None = None,
    thumbnail: Stored | None = None,
    status: AttachmentStatus = AttachmentStatus.READY,
    **found: Any,
) -> None:
    """Let a file reach its end, as a worker does that has claimed it; `text` and `thumbnail` are announced objects."""
    (row,) = await query(
        database,
        """
        UPDATE attachments SET status = 'processing', attempt_count = attempt_count + 1, lease_token = lease_token + 1
        WHERE session_id = $1 AND id = $2 AND status = 'uploaded' RETURNING sha256, attempt_count, lease_token
        """,
        file.session_id,
        file.id,
    )
    claim = Claim(
        tenant_id,
        file.session_id,
        file.id,
        file.filename,
        file.declared_content_type,
        file.size,
        row["sha256"],
        row["attempt_count"],
        row["lease_token"],
        0.0,
    )
    async with database.begin() as tx:
        assert await record_outcome(tx, claim, Outcome(status=status, **found), text=text, thumbnail=thumbnail)


async def a_lock_is_awaited(database: Database, by: asyncio.Task[Any] | None = None) -> None:
    """Wait until somebody waits for a lock of a database that is one test's own, or `by` has ended without."""
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    async def is_so() -> bool:
        return (by is not None and by.done()) or bool(await query(database, waiting))

    await until(is_so)


async def query(database: Database, text: str, *arguments: Any) -> list[asyncpg.Record]:
    """The rows of a query of the test's own."""
    async with database.connect() as tx:
        return await tx._connection.fetch(text, *arguments)


async def crowd(database_url: str, *statements: str) -> None:
    """Fill a database of the test's own with much at once: without the product's limits, on however slow a machine."""
    connection = await asyncpg.connect(database_url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def let_its_time_pass(database: Database, session_id: UUID) -> None:
    """Move all that a session has seen into the past, so that its time was over a second ago."""
    (row,) = await query(
        database, "SELECT expires_at - clock_timestamp() + interval '1 second' FROM sessions WHERE id = $1", session_id
    )
    await let_pass(database, session_id, row[0])


async def let_pass(database: Database, session_id: UUID, time: timedelta) -> None:
    """Move all that a session has seen into the past, by so much time."""
    shift = -time
    async with database.begin() as tx:
        await tx._connection.execute(
            """
            UPDATE sessions SET created_at = created_at + $2, updated_at = updated_at + $2,
                last_message_at = last_message_at + $2, expires_at = expires_at + $2, ended_at = ended_at + $2
            WHERE id = $1
            """,
            session_id,
            shift,
        )
        await tx._connection.execute(
            """
            UPDATE messages SET created_at = created_at + $2, deleted_at = deleted_at + $2 WHERE session_id = $1
            """,
            session_id,
            shift,
        )
        await tx._connection.execute(
            """
            UPDATE tool_calls SET created_at = created_at + $2, decided_at = decided_at + $2,
                started_at = started_at + $2, executed_at = executed_at + $2, expires_at = expires_at + $2
            WHERE session_id = $1
            """,
            session_id,
            shift,
        )
        await tx._connection.execute(
            """
            UPDATE attachments SET uploaded_at = uploaded_at + $2, processed_at = processed_at + $2,
                scanned_at = scanned_at + $2, deleted_at = deleted_at + $2, due_at = due_at + $2
            WHERE session_id = $1
            """,
            session_id,
            shift,
        )
        await tx._connection.execute(
            "UPDATE events SET occurred_at = occurred_at + $2 WHERE session_id = $1", session_id, shift
        )
        await tx._connection.execute(
            "UPDATE outbox SET recorded_at = recorded_at + $2 WHERE session_id = $1", session_id, shift
        )
