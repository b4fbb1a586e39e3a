"""The two reads that the cache answers: a session, and the newest page of its messages."""

from __future__ import annotations

from uuid import UUID

from litestar import Request

from service import encoding
from service.cache import Outcome, Read
from service.copies.entries import Snapshot, Window
from service.copies.names import Kind
from service.domain.caller import Caller
from service.domain.errors import SessionNotFound
from service.handlers.authentication import caller_of
from service.handlers.connecting import refuse_without_room
from service.handlers.cursors import write_cursor
from service.handlers.parts import parts_of
from service.store import copies

CACHE_HEADER = "X-Cache"
BYPASSED = {CACHE_HEADER: Outcome.BYPASS.value}


async def snapshot_of(request: Request, session_id: UUID) -> tuple[Snapshot, Outcome]:  # type: ignore[type-arg]
    """A session as it is answered, from the cache or from PostgreSQL.

    Raises:
        SessionNotFound: the caller may see no such session.
        TooMuchUnread, ProcessFull: as `refuse_without_room`.
    """
    refuse_without_room(request)
    parts, caller = parts_of(request), caller_of(request)

    async def read(_: int | None) -> Read | None:
        async with parts.database.connect(caller.tenant_id) as tx:
            found = await copies.snapshot(tx, caller.tenant_id, session_id)
        if found is None:
            return None
        return Read(encoding.snapshot_of(found), found.seq, found.lasting_ms)

    entry, outcome = await parts.cache.read(Kind.SNAPSHOT, caller.tenant_id, session_id, read)
    if not isinstance(entry, Snapshot) or not _is_visible(caller, entry.user_id):
        raise SessionNotFound
    return entry, outcome


async def newest_page_of(
    request: Request,  # type: ignore[type-arg]
    session_id: UUID,
    limit: int,
    listing: bytes,
) -> tuple[bytes, Outcome]:
    """The newest `limit` messages, of `WINDOW_MESSAGES` at the most, as a page that goes on behind them.

    Raises:
        SessionNotFound: the caller may see no such session.
        TooMuchUnread, ProcessFull: as `refuse_without_room`.
    """
    refuse_without_room(request)
    parts, caller = parts_of(request), caller_of(request)

    async def read(most: int | None) -> Read | None:
        most = copies.WINDOW_MESSAGES if most is None else most
        async with parts.database.connect(caller.tenant_id) as tx:
            found = await copies.newest_messages(tx, caller.tenant_id, session_id, most)
        if found is None:
            return None
        return Read(encoding.window_of(found, most), found.seq, found.lasting_ms)

    less = limit if limit < copies.WINDOW_MESSAGES else None
    entry, outcome = await parts.cache.read(Kind.WINDOW, caller.tenant_id, session_id, read, limit=less)
    if not isinstance(entry, Window) or not _is_visible(caller, entry.user_id):
        raise SessionNotFound
    return page_bytes(entry, limit, listing), outcome


def _is_visible(caller: Caller, user_id: str) -> bool:
    return caller.sees_user is None or caller.sees_user == user_id


def page_bytes(window: Window, limit: int, listing: bytes) -> bytes:
    """The page that `Page` would be encoded as, put together from messages that are."""
    shown = window.messages[:limit]
    has_more = len(window.messages) > limit or window.has_more
    cursor = b'"%b"' % write_cursor(listing, shown[-1].seq).encode() if has_more else b"null"
    return b'{"data":[%b],"has_more":%b,"next_cursor":%b}' % (
        b",".join([message.body for message in shown]),
        b"true" if has_more else b"false",
        cursor,
    )
