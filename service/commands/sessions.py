"""What can be done to a session: open, change, move through its life, end, erase, expire."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from service.commands.tool_calls import cancel_open_calls
from service.domain import tool_call
from service.domain.caller import Caller, Scope
from service.domain.errors import AlreadyExists, Fault, InvalidRequest, SessionNotFound
from service.domain.event import EXPIRY, Cause, EventType, NewEvent
from service.domain.json_text import parsed
from service.domain.loosening import changed_fields, policy_sides, refuse_loosening, refuse_looser
from service.domain.merge_patch import merge
from service.domain.session import (
    METADATA_BYTES_MAX,
    EndReason,
    Metadata,
    Move,
    Session,
    SessionConfig,
    Status,
    after_move,
    event_of,
    refuse_change,
    refuse_other_version,
    renews_time,
)
from service.ids import new_id
from service.store import attachments, blobs, expiry, idempotency, inspections
from service.store import sessions as store
from service.store.engine import Tx

BY_TIME = Cause(actor=EXPIRY, request_id=None)

OPENING_ATTEMPTS_MAX = 3
"""A taken `external_id` is free a statement later if its session was ended meanwhile; thrice in a row it is not."""


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller wants a new session to be."""

    user_id: str
    agent_id: str
    title: str | None
    external_id: str | None
    return_existing: bool
    config: SessionConfig
    system_prompt: str | None
    metadata: Metadata
    tags: list[str]
    activate: bool


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller wants changed; UNSET fields stay. `config` and `metadata` are JSON merge patches."""

    title: str | UnsetType | None = UNSET
    tags: list[str] | UnsetType = UNSET
    config: dict[str, Any] | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET


async def open_session(tx: Tx, caller: Caller, opening: Opening, cause: Cause) -> tuple[Session, bool]:
    """Open a session; or find the one of the same user that bears its `external_id`. True: it is new.

    A name is free again once its session has ended. Should the session's time be over and nothing have recorded it
    yet, that is done here, in the same transaction.

    Raises:
        AlreadyExists: a session of this user bears the `external_id`, and was not asked for, or lets more tool calls
            through than what was asked for.
    """
    new = store.NewSession(
        id=new_id(),
        user_id=opening.user_id,
        agent_id=opening.agent_id,
        status=Status.ACTIVE if opening.activate else Status.CREATED,
        title=opening.title,
        external_id=opening.external_id,
        config=opening.config,
        metadata=opening.metadata,
        tags=opening.tags,
        system_prompt=opening.system_prompt,
        message_id=None if opening.system_prompt is None else new_id(),
    )
    for _ in range(OPENING_ATTEMPTS_MAX):
        session = await store.add(tx, caller.tenant_id, new, _opening_events(new), cause)
        if session is not None:
            return session, True
        name = opening.external_id or ""
        standing = await store.get_living(tx, caller.tenant_id, opening.user_id, name)
        if standing is not None and opening.return_existing:
            refuse_looser(opening.config, standing)
            return standing, False
        if standing is not None:
            break
        await _record_ends(tx, await expiry.lock_due_by_name(tx, caller.tenant_id, opening.user_id, name))
    raise AlreadyExists(
        "A session of this user with this external_id exists already; send if_exists=return to get it.",
        external_id=opening.external_id,
    )


def _opening_events(new: store.NewSession) -> list[NewEvent]:
    events = [_event(EventType.SESSION_CREATED, agent_id=new.agent_id, user_id=new.user_id)]
    if new.message_id is not None:
        events.append(_event(EventType.MESSAGE_CREATED, message_id=new.message_id, message_seq=1, role="system"))
    if new.status is Status.ACTIVE:
        events.append(_event(EventType.SESSION_ACTIVATED))
    return events


async def change_session(
    tx: Tx, caller: Caller, session_id: UUID, change: Change, versions: frozenset[int] | None, cause: Cause
) -> tuple[Session, bool]:
    """Apply a merge patch under the session's lock, so that concurrent patches of other fields all survive.

    A patch that changes nothing records nothing: then the second value is False.

    Raises:
        SessionNotFound, SessionExpired, SessionEnded, VersionMismatch.
        InvalidRequest: the merged metadata would be too large.
        InsufficientScope: the policy of tool calls would be looser, and the caller may not decide on them.
    """
    locked = await _locked(tx, caller, session_id)
    session = locked.session
    refuse_change(session)
    refuse_other_version(session, versions)
    changed = _patched(session, change)
    refuse_loosening(caller, session.config, changed.config)
    names = [
        name
        for name in ("title", "tags", "config", "metadata")
        if not _same(name, getattr(session, name), getattr(changed, name))
    ]
    if not names:
        return session, False
    event = _event(EventType.SESSION_UPDATED, changed=names, **_of_config(session.config, changed.config))
    saved = await store.save(
        tx, caller.tenant_id, changed, moment=locked.moment, renew=False, events=[event], cause=cause
    )
    return saved, True


def _of_config(before: SessionConfig, after: SessionConfig) -> dict[str, object]:
    """What the event of a change says of the config, where it changed: which fields, and the policy's on both sides."""
    fields, policy = changed_fields(before, after), policy_sides(before, after)
    told: dict[str, object] = {"changed_config": fields} if fields else {}
    return told | {"policy": policy} if policy else told


def _patched(session: Session, change: Change) -> Session:
    fields: dict[str, Any] = {}
    if not isinstance(change.title, UnsetType):
        fields["title"] = change.title
    if not isinstance(change.tags, UnsetType):
        fields["tags"] = change.tags
    if not isinstance(change.config, UnsetType):
        merged = merge(msgspec.to_builtins(session.config), change.config)
        fields["config"] = msgspec.convert(merged, SessionConfig)
    if not isinstance(change.metadata, UnsetType):
        standing = parsed(session.metadata)
        text = msgspec.json.encode({} if change.metadata is None else merge(standing, change.metadata))
        if len(text) > METADATA_BYTES_MAX:
            raise InvalidRequest(
                [Fault("body.metadata", f"With this patch it would be larger than {METADATA_BYTES_MAX} bytes of JSON")]
            )
        fields["metadata"] = msgspec.Raw(text)
    return msgspec.structs.replace(session, **fields)


def _same(name: str, before: Any, after: Any) -> bool:
    if name == "metadata":  # compared as text: to Python, true equals 1
        return msgspec.json.encode(parsed(before)) == msgspec.json.encode(parsed(after))
    return bool(before == after)


async def move_session(
    tx: Tx, caller: Caller, session_id: UUID, move: Move, versions: frozenset[int] | None, cause: Cause
) -> Session:
    """Move a session along the diagram: one winner among any number of racers.

    Raises:
        SessionNotFound, SessionExpired, VersionMismatch.
        InvalidTransition: the diagram lacks this move.
    """
    locked = await _locked(tx, caller, session_id)
    refuse_other_version(locked.session, versions)
    moved = msgspec.structs.replace(locked.session, status=after_move(locked.session, move))
    return await _save_move(tx, caller, moved, move, locked.moment, cause)


async def end_session(tx: Tx, caller: Caller, session_id: UUID, versions: frozenset[int] | None, cause: Cause) -> bool:
    """End a session for good; ending one that has ended, or whose time is over, changes nothing (False).

    Raises:
        SessionNotFound, VersionMismatch.
    """
    locked = await _locked(tx, caller, session_id)
    if locked.session.status is Status.ENDED:
        return False
    refuse_other_version(locked.session, versions)
    await cancel_open_calls(tx, caller.tenant_id, session_id, tool_call.SESSION_ENDED, locked.moment, cause)
    ended = msgspec.structs.replace(
        locked.session,
        pending_tool_call_count=0,
        status=after_move(locked.session, Move.END),
        ended_at=locked.moment,
        end_reason=EndReason.REQUESTED,
    )
    await _save_move(tx, caller, ended, Move.END, locked.moment, cause)
    return True


async def _save_move(tx: Tx, caller: Caller, moved: Session, move: Move, moment: datetime, cause: Cause) -> Session:
    details = {"end_reason": moved.end_reason} if move is Move.END else {}
    return await store.save(
        tx,
        caller.tenant_id,
        moved,
        moment=moment,
        renew=renews_time(move),
        events=[_event(event_of(move), **details)],
        cause=cause,
    )


async def purge_session(tx: Tx, caller: Caller, session_id: UUID, versions: frozenset[int] | None = None) -> None:
    """Erase a session and everything that tells of it: messages, files, events, kept answers.

    Raises:
        InsufficientScope: only `admin` may erase.
        SessionNotFound, VersionMismatch.
    """
    caller.require(Scope.ADMIN)
    locked = await _locked(tx, caller, session_id)
    refuse_other_version(locked.session, versions)
    await idempotency.erase_session(tx, session_id)
    lost = await attachments.digests(tx, session_id)
    await store.erase(tx, caller.tenant_id, session_id)
    await blobs.exchange(tx, caller.tenant_id, gained=[], lost=lost, quota=None)
    await inspections.forget_session(tx, caller.tenant_id, session_id)


async def expire_sessions(tx: Tx, tenant_id: str, limit: int) -> list[UUID]:
    """Record the end of a tenant's sessions whose time is over, each with exactly one `session.expired`; which.

    Their open tool calls are cancelled before it, in the same transaction.
    """
    return await _record_ends(tx, await expiry.lock_due(tx, tenant_id, limit))


async def _record_ends(tx: Tx, due: list[expiry.Due]) -> list[UUID]:
    if not due:
        return []
    for session in due:
        await _cancel_calls_of_expired(tx, session.tenant_id, session.id, session.expires_at)
    ended = [session.id for session in due]
    await expiry.expire(tx, ended, [new_id() for _ in due], BY_TIME)
    return ended


async def record_end(tx: Tx, tenant_id: str, session: Session) -> None:
    """Record the end of a locked session if its time is over and no sweep has: what is erased then follows its end."""
    if session.end_reason is EndReason.EXPIRED:
        await _cancel_calls_of_expired(tx, tenant_id, session.id, session.expires_at)
        await expiry.expire(tx, [session.id], [new_id()], BY_TIME)


async def _cancel_calls_of_expired(tx: Tx, tenant_id: str, session_id: UUID, expired_at: datetime) -> None:
    await cancel_open_calls(tx, tenant_id, session_id, tool_call.SESSION_EXPIRED, expired_at, BY_TIME)


async def _locked(tx: Tx, caller: Caller, session_id: UUID) -> store.Locked:
    locked = await store.lock(tx, caller, session_id)
    if locked is None:
        raise SessionNotFound
    return locked


def _event(type_: EventType, **details: object) -> NewEvent:
    return NewEvent(id=new_id(), type=type_, data=details)
