"""The one way in which a request changes something: a transaction, and with an Idempotency-Key, exactly once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, Response

from service.copies.entries import Addition
from service.domain.errors import (
    DomainError,
    Fault,
    IdempotencyKeyReused,
    InvalidRequest,
    KeptAnswerLost,
    MessageNotFound,
    SessionNotFound,
)
from service.domain.event import Cause
from service.handlers.authentication import caller_of
from service.handlers.connecting import refuse_without_room
from service.handlers.encoding import JSON, encode
from service.handlers.identifiers import identifier
from service.handlers.kept_answers import opened, sealed
from service.handlers.parts import parts_of
from service.handlers.problems import REQUEST_ID_KEY
from service.log import get_logger
from service.seals import Unopened
from service.store import idempotency
from service.store.engine import Tx
from service.store.idempotency import About
from service.wakeups import session_key

REPLAYED = {"Idempotent-Replayed": "true"}
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
"""API 1: 1 to 255 visible ASCII characters."""
LOG = get_logger("http")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a change answers.

    `changed`: there are events to relay. `watched`: the session whose watchers have something to look at.
    `about`: whose erasure erases a kept answer. `addition`: what continues the copies of the session in the cache.
    """

    status: int
    body: bytes = b""
    headers: dict[str, str] = {}
    changed: bool = True
    watched: UUID | None = None
    about: About = About()
    addition: Addition | None = None

    @classmethod
    def of(cls, value: Any, *, status: int, headers: dict[str, str] | None = None, **rest: Any) -> Answer:
        """The answer whose body is `value` as JSON."""
        return cls(status=status, body=encode(value), headers=headers or {}, **rest)


Effect = Callable[[Tx], Awaitable[Answer]]


async def write(
    request: Request[Any, Any, Any],
    effect: Effect,
    *,
    one_statement: bool = False,
    fingerprint: bytes | None = None,
    erased: type[DomainError] = MessageNotFound,
) -> Response[Any]:
    """Run `effect` in a transaction, commit, see to the cache, wake who watches, ring the doorbell, answer.

    Whatever is answered, a refusal or a kept answer too, tells of the session: so nobody is shown an older copy of it
    once the answer is out.

    `one_statement`: the effect is a single statement, which is its own transaction: one round trip instead of three.
    A POST with an Idempotency-Key always runs in a transaction, together with the record of its answer.
    `fingerprint`: SHA-256 of what the caller sent, where that was a stream that is gone; else it is the body's.
    `erased`: what a repeated request is told when what the kept answer showed has been deleted since.

    Raises:
        InvalidRequest: the Idempotency-Key cannot be one.
        IdempotencyKeyReused, RequestInProgress, KeptAnswerLost: see `_once`.
        TooMuchUnread, ProcessFull: the caller has not taken what was answered before. Looked at in the transaction, so
            that not more such answers are made at once than there are connections to the database.
        whatever the effect refuses: then nothing has changed, and the key is free.
    """
    parts = parts_of(request)
    async with refusals_settled(request):
        answer, replayed = await _commit(request, effect, one_statement, fingerprint, erased)
    await _settle(request, answer, replayed)
    if replayed:
        parts.metrics.replays.inc()
    else:
        if answer.watched is not None:
            parts.waker.wake(session_key(answer.watched))
        if answer.changed:
            parts.doorbell.ring()
    return Response(
        content=answer.body or None,
        status_code=answer.status,
        headers=answer.headers | REPLAYED if replayed else answer.headers,
        media_type=JSON,
    )


@asynccontextmanager
async def refusals_settled(request: Request[Any, Any, Any]) -> AsyncIterator[None]:
    """What is refused in here tells of the session that the path names: no older copy of it is shown afterwards."""
    try:
        yield
    except DomainError:
        await _settle(request)
        raise


async def _commit(
    request: Request[Any, Any, Any],
    effect: Effect,
    one_statement: bool,
    fingerprint: bytes | None,
    erased: type[DomainError],
) -> tuple[Answer, bool]:
    """What `effect` answers, once it is committed; True: it was kept from the first request with this key."""
    parts, tenant_id = parts_of(request), caller_of(request).tenant_id
    key = request.headers.get("idempotency-key") if request.method == "POST" else None
    if key is None:
        async with parts.database.begin(tenant_id, one_statement=one_statement) as tx:
            refuse_without_room(request)
            return await effect(tx), False
    if IDEMPOTENCY_KEY.fullmatch(key) is None:
        raise InvalidRequest([Fault("header.Idempotency-Key", "Must be 1 to 255 visible ASCII characters")])
    sent = fingerprint or hashlib.sha256(await request.body()).digest()
    async with parts.database.begin(tenant_id) as tx:
        refuse_without_room(request)
        return await _once(tx, request, key, sent, effect, erased)


async def _settle(request: Request[Any, Any, Any], answer: Answer | None = None, replayed: bool = False) -> None:
    """Let no copy be shown that is older than what this request is about to tell of its session."""
    named = request.path_params.get("session_id")
    if named is not None:
        session_id = identifier(named, SessionNotFound)
    elif answer is not None and answer.about.session_id is not None and (replayed or not answer.changed):
        session_id = answer.about.session_id  # it stood already
    else:
        return
    addition = None if answer is None or replayed else answer.addition
    await parts_of(request).cache.settle(caller_of(request).tenant_id, session_id, addition)


async def _once(
    tx: Tx, request: Request[Any, Any, Any], key: str, fingerprint: bytes, effect: Effect, erased: type[DomainError]
) -> tuple[Answer, bool]:
    """The first answer to this key: made now, or kept since (then True).

    Raises:
        IdempotencyKeyReused: the key came with another body before.
        RequestInProgress: the first request with this key is still running.
        `erased`, SessionNotFound: what the kept answer showed has been deleted.
        KeptAnswerLost: it does not open with the secrets of this process.
    """
    caller, seals = caller_of(request), parts_of(request).seals
    key_id = _digest(
        caller.tenant_id, caller.kind.value, caller.subject, request.method, request.scope["path"],
        request.scope["query_string"].decode("latin-1"), key,
    )  # fmt: skip
    kept = await idempotency.claim(tx, key_id, caller.tenant_id)
    if kept is None:
        answer = await effect(tx)
        await idempotency.keep(
            tx,
            key_id,
            status=answer.status,
            headers=answer.headers,
            body=sealed(seals, caller.tenant_id, key_id, key, fingerprint, answer.body),
            about=answer.about,
        )
        return answer, False
    if kept.body is None and kept.is_about_items:
        raise erased("What the first answer to this Idempotency-Key showed has been deleted.")
    if kept.body is None:
        raise SessionNotFound("The session that this Idempotency-Key once opened or changed has been erased.")
    try:
        sent, body = opened(seals, caller.tenant_id, key_id, key, kept)
    except Unopened:
        LOG.warning("kept_answer.unopened", request_id=request.scope.get(REQUEST_ID_KEY))
        raise KeptAnswerLost from None
    if sent != fingerprint:
        raise IdempotencyKeyReused
    return Answer(status=kept.status, headers=kept.headers, body=body, about=About(session_id=kept.session_id)), True


def _digest(*parts: str) -> bytes:
    """SHA-256 over the parts, each with its length, so that no two lists of parts look alike."""
    whole = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogateescape")
        whole.update(len(encoded).to_bytes(8, "big"))
        whole.update(encoded)
    return whole.digest()


def cause_of(request: Request[Any, Any, Any]) -> Cause:
    """Who asked, and by which request: it goes on every event."""
    request_id: Any = request.scope.get(REQUEST_ID_KEY)
    return Cause.of(caller_of(request), request_id)
