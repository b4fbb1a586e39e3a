"""What can be watched, read from PostgreSQL as Server-Sent Events: a session's events, and those across sessions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from uuid import UUID

from service.cache import Teller
from service.channels import Frame, Source
from service.domain.caller import Caller, CallerKind
from service.domain.event import Event, EventType
from service.handlers.cursors import fingerprint, write_cursor
from service.handlers.encoding import encode
from service.handlers.messages import SEQ_MAX
from service.store import events, feed
from service.store.engine import Database, Tx
from service.store.feed import View
from service.wakeups import feed_key, session_key

LAST = frozenset({EventType.SESSION_ENDED, EventType.SESSION_EXPIRED})
"""Nothing follows these in a session."""


class SessionEvents:
    """The events of one session, by their `seq`. Whoever watches has been found to see the session."""

    def __init__(self, database: Database, tenant_id: str, session_id: UUID, teller: Teller | None = None) -> None:
        self.session_id = session_id
        self.key = session_key(session_id)
        self._database = database
        self._teller = teller
        self._everybody = Caller(tenant_id, "", CallerKind.SERVICE, frozenset())

    async def read(self, after: int, limit: int) -> list[Frame] | None:
        """The events behind `after`; None: the session has been purged."""
        async with self._database.connect() as tx:
            found = await self._page(tx, after, limit)
        if self._teller is not None and found != []:
            seq = SEQ_MAX if found is None else found[-1].seq  # no copy knows that its session is gone
            await self._teller.outdate([(self._everybody.tenant_id, self.session_id, seq)])
        if found is None:
            return None
        return [Frame(event.seq, server_sent(str(event.seq), event), event.type in LAST) for event in found]

    async def _page(self, tx: Tx, after: int, limit: int) -> list[Event] | None:
        """At most `limit` events, and no fewer because they are large: a reader that is given fewer has all."""
        found = await events.page(tx, self._everybody, self.session_id, after_seq=after, types=None, limit=limit)
        if found is None or not found.is_cut:
            return found
        rest = await self._page(tx, found[-1].seq, limit - len(found)) if len(found) < limit else []
        return None if rest is None else [*found, *rest]


class FeedEvents:
    """The events of all sessions that a caller may see, by their position."""

    def __init__(self, database: Database, view: View, teller: Teller | None = None) -> None:
        self.view = view
        self.key = feed_key(view.tenant_id, view.user_id)
        self._database = database
        self._teller = teller

    @cached_property
    def listing(self) -> bytes:
        """What ties an event's id to this view: with another's id nobody gets in."""
        return fingerprint("feed", self.view.tenant_id, self.view.user_id)

    async def read(self, after: int, limit: int) -> list[Frame] | None:
        """The events behind `after`; never None."""
        async with self._database.connect() as tx:
            found = await feed.page(tx, self.view, after=after, limit=limit)
        if self._teller is not None:
            await self._teller.outdate((self.view.tenant_id, event.session_id, event.seq) for _, event in found)
        return [Frame(position, server_sent(write_cursor(self.listing, position), event)) for position, event in found]


def server_sent(id_: str, event: Event) -> bytes:
    """An event as the HTML standard wants it on the wire; its JSON is what GET /events answers."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (id_.encode(), event.type.value.encode(), _on_one_line(encode(event)))


def _on_one_line(json: bytes) -> bytes:
    """A line break in JSON is white space: inside of a string it is written as an escape."""
    return json.translate(None, b"\r\n") if b"\n" in json or b"\r" in json else json


async def find_behind(database: Database, watched: Mapping[bytes, tuple[Source, int]]) -> Iterable[bytes]:
    """Which sources have something behind the positions given with them: two statements for however many."""
    sessions = [(source.session_id, at) for source, at in watched.values() if isinstance(source, SessionEvents)]
    views = [(source.view, at) for source, at in watched.values() if isinstance(source, FeedEvents)]
    found: list[bytes] = []
    async with database.connect() as tx:
        if sessions:
            found += [session_key(session_id) for session_id in await events.behind(tx, sessions)]
        if views:
            found += [feed_key(view.tenant_id, view.user_id) for view in await feed.behind(tx, views)]
    return found
