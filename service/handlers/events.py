"""`/sessions/{id}/events`: what happened, in order."""

from __future__ import annotations

from typing import Annotated

from litestar import Response, get
from litestar.params import FromPath, QueryParameter

from service.domain.caller import Scope
from service.domain.errors import SessionNotFound
from service.domain.event import Event, EventType
from service.handlers.authentication import caller_of, requires
from service.handlers.bodies import HoldfastRequest
from service.handlers.connecting import reading, searching
from service.handlers.cursors import (
    PAGE_ROWS_DEFAULT,
    CursorText,
    Limit,
    Page,
    fingerprint,
    page_of,
    read_cursor,
)
from service.handlers.encoding import respond
from service.handlers.identifiers import identifier
from service.handlers.messages import Seq, SeqPosition
from service.handlers.openapi import REFUSALS
from service.handlers.parts import parts_of
from service.store import events as store


@get(
    "/sessions/{session_id:str}/events",
    before_request=requires(Scope.SESSIONS_READ),
    opt={REFUSALS: [SessionNotFound]},
    operation_id="listEvents",
)
async def list_events(
    request: HoldfastRequest,
    session_id: FromPath[str],
    after_seq: Seq = None,
    types: Annotated[
        list[EventType] | None, QueryParameter(name="type", description="Repeatable: any of these.")
    ] = None,
    limit: Limit = PAGE_ROWS_DEFAULT,
    cursor: CursorText = None,
) -> Response[Page[Event]]:
    """Page through a session's events, oldest first, numbered 1, 2, 3 … without a gap."""
    caller, wanted = caller_of(request), identifier(session_id, SessionNotFound)
    listing = fingerprint("events", wanted, after_seq, types)
    after = after_seq or 0
    if cursor is not None:
        after = max(after, read_cursor(cursor, listing, SeqPosition))
    async with reading(request) if types is None else searching(request) as tx:
        rows = await store.page(tx, caller, wanted, after_seq=after, types=types, limit=limit + 1)
    if rows is None:
        raise SessionNotFound
    page = page_of(rows, limit, listing, lambda event: event.seq)
    if page.data:
        await parts_of(request).cache.outdate([(caller.tenant_id, wanted, page.data[-1].seq)])
    return respond(page)


HANDLERS = [list_events]
