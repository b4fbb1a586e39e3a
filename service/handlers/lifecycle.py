"""A session's life: activate, suspend, resume, end, erase."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from litestar import Response, delete, post
from litestar.params import FromPath, QueryParameter

from service.commands import sessions as commands
from service.domain import errors
from service.domain.caller import Scope
from service.domain.errors import Fault, InvalidRequest, SessionNotFound
from service.domain.session import Move, Session
from service.handlers.authentication import caller_of, requires
from service.handlers.bodies import HoldfastRequest
from service.handlers.conditional import etag, expected_versions
from service.handlers.identifiers import identifier
from service.handlers.openapi import CONDITIONAL, REFUSALS, SCOPES
from service.handlers.request_lines import MODE_KEY
from service.handlers.writing import Answer, cause_of, write
from service.store.idempotency import About

BODY_LESS = (b"", b"{}")
"""What may stand in the body of a route that takes none."""


class DeleteMode(StrEnum):
    """What DELETE does: end the session, or erase it (scope `admin`)."""

    END = "end"
    PURGE = "purge"


ENDING = {Scope.SESSIONS_WRITE: "to end", Scope.ADMIN: "to erase"}


@delete(
    "/sessions/{session_id:str}",
    before_request=requires(Scope.SESSIONS_WRITE),
    status_code=204,
    opt={REFUSALS: [SessionNotFound], CONDITIONAL: ["If-Match"], SCOPES: ENDING},
    operation_id="endSession",
)
async def end_session(
    request: HoldfastRequest,
    session_id: FromPath[str],
    mode: Annotated[
        DeleteMode, QueryParameter(description="`purge` erases everything (scope admin).")
    ] = DeleteMode.END,
) -> Response[None]:
    """End a session for good (ending an ended one changes nothing), or erase it with `mode=purge`."""
    caller, wanted = caller_of(request), identifier(session_id, SessionNotFound)
    versions = expected_versions(request)
    request.scope[MODE_KEY] = mode.value  # type: ignore[literal-required]  # ASGI lets apps add keys

    async def effect(tx: Any) -> Answer:
        if mode is DeleteMode.PURGE:
            await commands.purge_session(tx, caller, wanted, versions)
            return Answer(status=204, changed=False, watched=wanted)
        changed = await commands.end_session(tx, caller, wanted, versions, cause_of(request))
        return Answer(status=204, changed=changed, watched=wanted)

    return await write(request, effect)


MOVING = {
    REFUSALS: [SessionNotFound, errors.InvalidTransition, errors.SessionExpired],
    CONDITIONAL: ["If-Match"],
}


@post(
    "/sessions/{session_id:str}/activate",
    before_request=requires(Scope.SESSIONS_WRITE),
    status_code=200,
    opt=MOVING,
    operation_id="activateSession",
)
async def activate_session(request: HoldfastRequest, session_id: FromPath[str]) -> Response[Session]:
    """Make a created or suspended session active, with its full time again."""
    return await _move(request, session_id, Move.ACTIVATE)


@post(
    "/sessions/{session_id:str}/suspend",
    before_request=requires(Scope.SESSIONS_WRITE),
    status_code=200,
    opt=MOVING,
    operation_id="suspendSession",
)
async def suspend_session(request: HoldfastRequest, session_id: FromPath[str]) -> Response[Session]:
    """Let an active session rest: it takes no messages until it is resumed."""
    return await _move(request, session_id, Move.SUSPEND)


@post(
    "/sessions/{session_id:str}/resume",
    before_request=requires(Scope.SESSIONS_WRITE),
    status_code=200,
    opt=MOVING,
    operation_id="resumeSession",
)
async def resume_session(request: HoldfastRequest, session_id: FromPath[str]) -> Response[Session]:
    """Go on with a suspended session, with its full time again."""
    return await _move(request, session_id, Move.RESUME)


async def _move(request: HoldfastRequest, session_id: str, move: Move) -> Response[Session]:
    caller, wanted = caller_of(request), identifier(session_id, SessionNotFound)
    if (await request.body()).strip() not in BODY_LESS:
        raise InvalidRequest([Fault("body", "This call takes no body")])
    versions = expected_versions(request)

    async def effect(tx: Any) -> Answer:
        session = await commands.move_session(tx, caller, wanted, move, versions, cause_of(request))
        return Answer.of(
            session,
            status=200,
            headers={"ETag": etag(session.version)},
            watched=wanted,
            about=About(session_id=session.id),
        )

    return await write(request, effect)


HANDLERS = [end_session, activate_session, suspend_session, resume_session]
