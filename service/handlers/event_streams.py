"""`/sessions/{id}/events/stream` and `/events/stream`: what happens, as it happens; and tickets for them."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.params import FromPath, QueryParameter
from msgspec import Meta

from service.channels import Source
from service.commands.tickets import NOT_VALID, issue_ticket, read_ticket, use_ticket
from service.domain import errors
from service.domain.caller import Scope
from service.domain.errors import Fault, InvalidCursor, InvalidRequest, SessionNotFound
from service.domain.ticket import Credential, Ticket, digest
from service.handlers.answer_headers import NO_STORE
from service.handlers.authentication import caller_of, credential_of, let_in, requires
from service.handlers.bodies import HoldfastRequest
from service.handlers.cursors import CURSOR_CHARACTERS_MAX, CursorText, read_cursor
from service.handlers.event_sources import FeedEvents, SessionEvents
from service.handlers.head_requests import wants_head_only
from service.handlers.identifiers import identifier
from service.handlers.messages import SEQ_MAX, Seq
from service.handlers.openapi import REFUSALS, STREAM
from service.handlers.parts import parts_of
from service.handlers.rate_limits import address_of, counted
from service.handlers.streaming import EventStream, StreamHead
from service.handlers.writing import Answer, write
from service.store import events, feed
from service.store.feed import View

READS = (Scope.SESSIONS_READ,)
LAST_EVENT_ID = "last-event-id"
BODY_LESS = (b"", b"{}")

TicketText = Annotated[
    str | None,
    QueryParameter(max_length=100, description="Instead of the `Authorization` header, which EventSource cannot send."),
]
LastEventId = Annotated[
    str | None,
    QueryParameter(
        name="lastEventId",
        max_length=CURSOR_CHARACTERS_MAX,
        description="The same as the header `Last-Event-ID`, which wins: what stand-ins for EventSource send.",
    ),
]
Position = Annotated[int, Meta(ge=0, le=SEQ_MAX)]


async def admit(request: Request[Any, Any, Any]) -> None:
    """What a stream does before anything else: valid credentials, or a ticket, which `_stream` uses up."""
    let_in(request, await counted(request, _proof(request)), READS)


admit.scopes = READS  # type: ignore[attr-defined]  # read by `scopes_of`


async def _proof(request: Request[Any, Any, Any]) -> Credential:
    parts, ticket, address = parts_of(request), _ticket_of(request), address_of(request)
    if ticket is None:
        return await parts.authenticator.credential_of(request.headers.get("authorization"), address)
    session_id = _session_of(request)

    async def look() -> Credential | None:
        async with parts.database.connect() as tx:
            return await read_ticket(tx, ticket, session_id)

    looked_for = digest(f"{session_id} {ticket}")  # a ticket is good for one stream, and may be tried at another before
    credential = await parts.authenticator.look_ups.find(looked_for, address, look)
    if credential is None or not await parts.authenticator.still_holds(credential):
        raise errors.Unauthenticated(NOT_VALID, denial=errors.Denial.TICKET_INVALID)
    return credential


def _ticket_of(request: Request[Any, Any, Any]) -> str | None:
    """The ticket that a caller comes with; None where it sends credentials, or nothing."""
    return None if request.headers.get("authorization") is not None else request.query_params.get("ticket")


def _session_of(request: Request[Any, Any, Any]) -> UUID | None:
    named: str | None = request.path_params.get("session_id")
    return None if named is None else identifier(named, errors.Unauthenticated)


@get(
    "/sessions/{session_id:str}/events/stream",
    before_request=admit,
    opt={
        REFUSALS: [SessionNotFound, InvalidCursor, errors.TooManyStreams],
        STREAM: "The session has ended, and you have had its last event: do not come back.",
    },
    operation_id="streamEvents",
)
async def stream_events(
    request: HoldfastRequest,
    session_id: FromPath[str],
    after_seq: Seq = None,
    last_event_id: LastEventId = None,
    ticket: TicketText = None,
) -> Response[bytes]:
    """Follow a session's events live, as Server-Sent Events, each once and in order.

    `id` is the event's `seq`, `event` its type, `data` the Event. With `Last-Event-ID`, `lastEventId` or `after_seq`
    (the first of them wins) all that followed comes first, however old; without, it begins now. A comment comes at
    least every 15 s. It ends after `session.ended` or `session.expired`, when the credentials end, and when the process
    stops or you read too slowly: come back with the last id.
    """
    del ticket  # read by `admit`, used up by `_stream`
    parts, caller, wanted = parts_of(request), caller_of(request), identifier(session_id, SessionNotFound)
    after = _last_seq(request, last_event_id, after_seq)
    async with parts.database.connect(caller.tenant_id) as tx:
        head = await events.head(tx, caller, wanted)
    if head is None:
        raise SessionNotFound
    if after is None:
        after = head.last_seq
    if after > head.last_seq:
        raise InvalidCursor("This session has no such event yet; start again with the last one that you have seen.")
    if head.has_ended and after == head.last_seq:
        await parts.cache.outdate([(caller.tenant_id, wanted, head.last_seq)])
        return Response(content=None, status_code=204)  # type: ignore[arg-type]
    return await _stream(request, SessionEvents(parts.database, caller.tenant_id, wanted, parts.cache), after)


def _last_seq(request: HoldfastRequest, last_event_id: str | None, after_seq: int | None) -> int | None:
    """Behind which event to begin; None: behind those there are.

    Raises:
        InvalidRequest: the Last-Event-ID is no event's number.
    """
    header = request.headers.get(LAST_EVENT_ID)
    last = header or last_event_id
    if not last:
        return after_seq
    if not (last.isascii() and last.isdigit() and len(last) <= len(str(SEQ_MAX)) and int(last) <= SEQ_MAX):
        place = "header.Last-Event-ID" if header else "query.lastEventId"
        raise InvalidRequest([Fault(place, "Must be the id of an event of this stream")])
    return int(last)


@get(
    "/events/stream",
    before_request=admit,
    opt={REFUSALS: [InvalidCursor, errors.TooManyStreams], STREAM: None},
    operation_id="streamAllEvents",
)
async def stream_all_events(
    request: HoldfastRequest,
    cursor: CursorText = None,
    last_event_id: LastEventId = None,
    ticket: TicketText = None,
) -> Response[bytes]:
    """Follow the events of all sessions that you may see, as Server-Sent Events, each once.

    Those of one session come in its order. `id` is opaque and yours: send it back as `Last-Event-ID`, `lastEventId` or
    `cursor` (the first of them wins), and all that followed comes first. It never ends by itself; all else is as with
    one session.
    """
    del ticket  # read by `admit`, used up by `_stream`
    parts, caller = parts_of(request), caller_of(request)
    source = FeedEvents(parts.database, View(caller.tenant_id, caller.sees_user), parts.cache)
    last = request.headers.get(LAST_EVENT_ID) or last_event_id or cursor
    after = None if last is None else read_cursor(last, source.listing, Position)
    async with parts.database.connect(caller.tenant_id) as tx:
        head = await feed.head(tx)
    if after is not None and after > head:
        raise InvalidCursor
    return await _stream(request, source, head if after is None else after)


async def _stream(request: HoldfastRequest, source: Source, after: int) -> Response[bytes]:
    if wants_head_only(request):
        return StreamHead(content=b"")
    parts, ticket = parts_of(request), _ticket_of(request)
    stream = EventStream(
        source,
        after,
        credential_of(request),
        streams=parts.streams,
        authenticator=parts.authenticator,
        metrics=parts.metrics,
    )
    if ticket is not None:  # last of all: whoever is told to wait comes back with it
        try:
            async with parts.database.connect() as tx:
                await use_ticket(tx, ticket, _session_of(request))
        except BaseException:
            stream.give_up()
            raise
    return stream


@post(
    "/sessions/{session_id:str}/events/ticket",
    before_request=requires(Scope.SESSIONS_READ),
    status_code=201,
    opt={REFUSALS: [SessionNotFound]},
    operation_id="createStreamTicket",
)
async def create_stream_ticket(request: HoldfastRequest, session_id: FromPath[str]) -> Response[Ticket]:
    """Get a ticket that opens this session's stream once, within a minute, for you: a browser's EventSource sends no

    headers, but it can open `…/events/stream?ticket=…`. The stream ends when the credentials that you send now do.
    """
    return await _ticket(request, identifier(session_id, SessionNotFound))


@post(
    "/events/ticket",
    before_request=requires(Scope.SESSIONS_READ),
    status_code=201,
    operation_id="createFeedTicket",
)
async def create_feed_ticket(request: HoldfastRequest) -> Response[Ticket]:
    """Get a ticket that opens the stream across sessions once, within a minute, for you."""
    return await _ticket(request, None)


async def _ticket(request: HoldfastRequest, session_id: UUID | None) -> Response[Ticket]:
    if (await request.body()).strip() not in BODY_LESS:
        raise InvalidRequest([Fault("body", "This call takes no body")])

    async def effect(tx: Any) -> Answer:
        ticket = await issue_ticket(tx, credential_of(request), session_id)
        return Answer.of(ticket, status=201, headers=NO_STORE, changed=False)

    return await write(request, effect)


HANDLERS = [stream_events, stream_all_events, create_stream_ticket, create_feed_ticket]
