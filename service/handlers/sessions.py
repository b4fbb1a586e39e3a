"""`/sessions`: open, list, read, change, move, end, erase."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, patch, post
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import UNSET, UnsetType

from service.commands import sessions as commands
from service.domain import errors
from service.domain.caller import Caller, CallerKind, Scope
from service.domain.errors import Fault, InvalidRequest, SessionNotFound
from service.domain.session import METADATA_BYTES_MAX, ConfigDraft, Session, Status
from service.handlers.authentication import caller_of, requires
from service.handlers.bodies import HoldfastRequest
from service.handlers.conditional import etag, expected_versions, is_unchanged
from service.handlers.connecting import reading, searching
from service.handlers.copies import CACHE_HEADER, snapshot_of
from service.handlers.cursors import (
    PAGE_ROWS_DEFAULT,
    CursorText,
    Limit,
    Page,
    fingerprint,
    page_of,
    read_cursor,
)
from service.handlers.encoding import JSON, respond
from service.handlers.identifiers import identifier
from service.handlers.json_filters import json_of
from service.handlers.openapi import ALSO, CACHED, CONDITIONAL, REFUSALS, SCOPES
from service.handlers.parts import parts_of
from service.handlers.queries import OPEN_PREFIX
from service.handlers.session_bodies import ChangeSession, CreateSession, IfExists, patch_of
from service.handlers.writing import Answer, cause_of, write
from service.store import session_pages
from service.store.idempotency import About

METADATA_PREFIX = "metadata."
METADATA_FILTERS_MAX = 10
"""Each costs a comparison per row; ten name any session that a caller could mean."""


class Sort(StrEnum):
    """The order of a listing; `-`: newest first."""

    CREATED_NEWEST = "-created_at"
    CREATED_OLDEST = "created_at"
    UPDATED_NEWEST = "-updated_at"
    UPDATED_OLDEST = "updated_at"


OPENING = {
    Scope.SESSIONS_WRITE: "to open a session",
    Scope.SESSIONS_ACT: "too, with a `system_prompt` or a `config` that is not the default",
}


@post(
    "/sessions",
    before_request=requires(Scope.SESSIONS_WRITE),
    status_code=201,
    opt={
        REFUSALS: [errors.AlreadyExists, errors.RowsFull],
        ALSO: {200: "The standing session (`if_exists=return`)."},
        SCOPES: OPENING,
    },
    operation_id="createSession",
)
async def create_session(request: HoldfastRequest, data: JSONBody[CreateSession]) -> Response[Session]:
    """Open a session.

    With `activate` it takes messages at once. With `external_id` it can be found again by your own name for it:
    `if_exists=return` answers 200 with the standing session instead of 409 `already_exists`, unless its policy would
    let tool calls through that `config` would not. A name belongs to a user: sessions of other users may bear the same
    one, and are never answered. It is free again once its session has ended. A session that a service key opens
    without `user_id` has the name of the key as its user.
    """
    caller = caller_of(request)
    if data.system_prompt is not None or data.config != ConfigDraft():
        caller.require(Scope.SESSIONS_ACT)
    opening = _opening(caller, data)
    quota = parts_of(request).row_quota
    await quota.refresh()

    async def effect(tx: Any) -> Answer:
        quota.refuse_if_full(caller.tenant_id)
        session, is_new = await commands.open_session(tx, caller, opening, cause_of(request))
        headers = {"ETag": etag(session.version)}
        if is_new:
            headers["Location"] = f"/api/v1/sessions/{session.id}"
        return Answer.of(
            session,
            status=201 if is_new else 200,
            headers=headers,
            changed=is_new,
            about=About(session_id=session.id),
        )

    # A name that is taken needs more than one statement.
    return await write(request, effect, one_statement=data.external_id is None)


def _opening(caller: Caller, data: CreateSession) -> commands.Opening:
    faults = []
    if data.user_id is not None and caller.kind is CallerKind.USER and data.user_id != caller.subject:
        faults.append(Fault("body.user_id", "Only service keys open sessions for others"))
    if data.metadata and len(msgspec.json.encode(data.metadata)) > METADATA_BYTES_MAX:
        faults.append(Fault("body.metadata", f"Larger than {METADATA_BYTES_MAX} bytes of JSON"))
    if faults:
        raise InvalidRequest(faults)
    return commands.Opening(
        user_id=data.user_id or caller.subject,
        agent_id=data.agent_id,
        title=data.title,
        external_id=data.external_id,
        return_existing=data.if_exists is IfExists.RETURN,
        config=data.config,
        system_prompt=data.system_prompt,
        metadata=data.metadata,
        tags=data.tags,
        activate=data.activate,
    )


Text = Annotated[str | None, QueryParameter(max_length=200)]
Moment = Annotated[datetime | None, QueryParameter(description="RFC 3339, with an offset.")]


@get(
    "/sessions",
    before_request=requires(Scope.SESSIONS_READ),
    opt={OPEN_PREFIX: METADATA_PREFIX},
    operation_id="listSessions",
)
async def list_sessions(
    request: HoldfastRequest,
    status: Annotated[list[Status] | None, QueryParameter(description="Repeatable: any of these.")] = None,
    agent_id: Text = None,
    user_id: Text = None,
    tag: Text = None,
    external_id: Text = None,
    created_after: Moment = None,
    created_before: Moment = None,
    updated_after: Moment = None,
    sort: Annotated[Sort, QueryParameter(description="`-`: newest first.")] = Sort.CREATED_NEWEST,
    limit: Limit = PAGE_ROWS_DEFAULT,
    cursor: CursorText = None,
) -> Response[Page[Session]]:
    """List the sessions that you may see.

    All filters must match. `metadata.<key>=<value>` finds a top-level key with this text as its value;
    `metadata.<key>=json:5` finds the JSON value 5, and any other likewise (`json:true`, `json:null`, `json:{"a":1}`,
    `json:"json:x"`). Filters other than `user_id`, `external_id` and `created_…` may have to look at many sessions:
    what takes longer than 2 s (`HOLDFAST_SEARCH_SECONDS`) is 503 `unavailable`.
    """
    caller = caller_of(request)
    filters = session_pages.Filters(
        status=tuple(status or ()),
        agent_id=agent_id,
        user_id=user_id,
        tag=tag,
        external_id=external_id,
        metadata=_metadata_filters(request),
        created_after=created_after,
        created_before=created_before,
        updated_after=updated_after,
    )
    listing = fingerprint("sessions", caller.tenant_id, caller.sees_user, filters, sort)
    position = None if cursor is None else read_cursor(cursor, listing, session_pages.Position)
    async with searching(request) if filters.is_search else reading(request) as tx:
        rows = await session_pages.page(tx, caller, filters, sort=sort, position=position, limit=limit + 1)
    page = page_of(rows, limit, listing, lambda row: session_pages.Position(row.sorted_at, row.session.id))
    sessions = Page([row.session for row in page.data], page.has_more, page.next_cursor)
    return respond(sessions)


def _metadata_filters(request: Request[Any, Any, Any]) -> tuple[tuple[str, str], ...]:
    """Keys, each with the JSON text of its value.

    Raises:
        InvalidRequest: there are too many, or one is no JSON.
    """
    filters = tuple(
        (name.removeprefix(METADATA_PREFIX), json_of(value, f"query.{name}"))
        for name, value in request.query_params.multi_items()
        if name.startswith(METADATA_PREFIX)
    )
    if len(filters) > METADATA_FILTERS_MAX:
        raise InvalidRequest([Fault("query.metadata", f"At most {METADATA_FILTERS_MAX} metadata filters")])
    return filters


@get(
    "/sessions/{session_id:str}",
    before_request=requires(Scope.SESSIONS_READ),
    opt={REFUSALS: [SessionNotFound], CONDITIONAL: ["If-None-Match"], CACHED: True},
    operation_id="getSession",
)
async def get_session(request: HoldfastRequest, session_id: FromPath[str]) -> Response[Session]:
    """Read a session. With `If-None-Match`, 304 when it has not changed."""
    wanted = identifier(session_id, SessionNotFound)
    session, outcome = await snapshot_of(request, wanted)
    headers = {"ETag": etag(session.version), CACHE_HEADER: outcome.value}
    if is_unchanged(request, session.version):
        return Response(content=None, status_code=304, headers=headers)  # type: ignore[arg-type]
    return Response(content=session.body, headers=headers, media_type=JSON)  # type: ignore[arg-type]


CHANGING = {
    Scope.SESSIONS_WRITE: "for `title`, `metadata` and `tags`",
    Scope.SESSIONS_ACT: "for `config`",
    Scope.TOOL_CALLS_DECIDE: "too, to loosen what `config` says of tools",
}


@patch(
    "/sessions/{session_id:str}",
    before_request=requires(Scope.SESSIONS_WRITE, Scope.SESSIONS_ACT),
    opt={
        REFUSALS: [SessionNotFound, errors.SessionEnded, errors.SessionExpired],
        CONDITIONAL: ["If-Match"],
        SCOPES: CHANGING,
    },
    operation_id="changeSession",
)
async def change_session(
    request: HoldfastRequest, session_id: FromPath[str], data: JSONBody[ChangeSession]
) -> Response[Session]:
    """Change title, metadata, tags or config by JSON merge patch; concurrent patches of other fields all survive.

    Loosening is whatever may let a tool call through that would not have got through: a pattern less in `blocked_tools`
    or `approval_tools` (but one may move from there into `blocked_tools`), one more in `allowed_tools`, or none left
    there, a longer `approval_timeout_seconds`, or none.
    """
    caller, wanted = _changer(request, data), identifier(session_id, SessionNotFound)
    versions = expected_versions(request)
    change = commands.Change(
        title=data.title,
        tags=[] if data.tags is None else data.tags,
        config=data.config if isinstance(data.config, UnsetType) else patch_of(data.config),
        metadata=data.metadata,
    )

    async def effect(tx: Any) -> Answer:
        session, changed = await commands.change_session(tx, caller, wanted, change, versions, cause_of(request))
        return Answer.of(session, status=200, headers={"ETag": etag(session.version)}, changed=changed, watched=wanted)

    return await write(request, effect)


def _changer(request: HoldfastRequest, data: ChangeSession) -> Caller:
    """The caller, who may change what `data` names, but for what the change turns out to be.

    Raises:
        InsufficientScope: naming the scope that is missing.
    """
    caller = caller_of(request)
    if data.config is not UNSET:
        caller.require(Scope.SESSIONS_ACT)
    if (data.title, data.metadata, data.tags) != (UNSET, UNSET, UNSET):
        caller.require(Scope.SESSIONS_WRITE)
    return caller


HANDLERS = [create_session, list_sessions, get_session, change_session]
