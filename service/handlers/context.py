"""`/sessions/{id}/context`: the last messages, ready to be sent to a model."""

from __future__ import annotations

from typing import Annotated

from litestar import Response, get
from litestar.params import FromPath, QueryParameter

from service.domain.caller import Scope
from service.domain.errors import SessionNotFound
from service.domain.transcript import Format, Transcript, transcript_of
from service.handlers.authentication import caller_of, requires
from service.handlers.bodies import HoldfastRequest
from service.handlers.encoding import respond
from service.handlers.identifiers import identifier
from service.handlers.messages import SEQ_MAX
from service.handlers.openapi import REFUSALS
from service.handlers.parts import parts_of
from service.store import messages as store

CONTEXT_MESSAGES_MAX = 1000
CONTEXT_MESSAGES_DEFAULT = 100
"""What models take at once is counted in tokens; this bounds what one answer may cost the database."""


@get(
    "/sessions/{session_id:str}/context",
    before_request=requires(Scope.SESSIONS_READ),
    opt={REFUSALS: [SessionNotFound]},
    operation_id="getContext",
)
async def get_context(
    request: HoldfastRequest,
    session_id: FromPath[str],
    wanted: Annotated[Format, QueryParameter(name="format", description="Whose message format.")] = Format.PLAIN,
    limit: Annotated[
        int, QueryParameter(ge=1, le=CONTEXT_MESSAGES_MAX, description="How many messages, counted from the newest.")
    ] = CONTEXT_MESSAGES_DEFAULT,
) -> Response[Transcript]:
    """Give the last messages as a model's provider wants them, oldest first, each tool call with its result behind it.

    A call that was rejected, expired, cancelled or is still open gets a result that says so, because providers refuse
    a conversation without.
    """
    session = identifier(session_id, SessionNotFound)
    async with parts_of(request).database.connect() as tx:
        rows = await store.page(
            tx,
            caller_of(request),
            session,
            order="desc",
            after_seq=0,
            before_seq=SEQ_MAX,
            role=None,
            include_deleted=False,
            limit=limit,
        )
    if rows is None:
        raise SessionNotFound
    return respond(transcript_of(rows[::-1], wanted))


HANDLERS = [get_context]
