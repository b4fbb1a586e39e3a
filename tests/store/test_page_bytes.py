"""PostgreSQL sends no more of a page than fits on it, and one row."""

from __future__ import annotations

from typing import Any

from conversations import CAUSE, filed, opened, query

from service.commands.messages import append_messages
from service.domain.caller import Caller
from service.domain.message import DataPart, MessageDraft
from service.store import copies, message_pages, messages
from service.store.engine import Database, Statement, Tx
from service.store.page_bytes import PAGE_BYTES_MAX

MESSAGES, EACH_BYTES = 40, 700_000


class Weighed:
    """A handle that weighs what PostgreSQL sends."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self.bytes = 0

    async def rows(self, statement: Statement, **parameters: Any) -> list[Any]:
        rows = await self._tx.rows(statement, **parameters)
        self.bytes += sum(len(value) for row in rows for value in row.values() if isinstance(value, str))
        return rows


async def test_what_does_not_fit_on_a_page_is_not_sent(database: Database, caller: Caller):
    session = await opened(database, caller)
    for _ in range(MESSAGES):
        draft = MessageDraft(content=[DataPart(data={"k": "x" * EACH_BYTES})])
        async with database.begin() as tx:
            await append_messages(tx, caller, session.id, [draft], CAUSE)

    sent = {}
    async with database.connect() as tx:
        for order in ("asc", "desc"):
            weighed: Any = Weighed(tx)
            page = await message_pages.page(
                weighed, caller, session.id, order=order, after_seq=0, before_seq=2**53, role=None,
                include_deleted=False, limit=201,
            )  # fmt: skip
            assert page is not None
            sent[order] = (len(page), page.is_cut, weighed.bytes)
        weighed = Weighed(tx)
        newest = await copies.newest_messages(weighed, caller.tenant_id, session.id)
        assert newest is not None
        sent["copy"] = (len(newest.messages), newest.messages.is_cut, weighed.bytes)

    fitting = PAGE_BYTES_MAX // (EACH_BYTES + 2048)
    assert {name: cut for name, (*cut, _) in sent.items()} == {name: [fitting, True] for name in sent}
    assert max(size for *_, size in sent.values()) < (fitting + 2) * EACH_BYTES


async def test_a_context_reads_the_names_of_files_and_not_their_metadata(database: Database, caller: Caller):
    session = await opened(database, caller)
    file = await filed(database, caller, session.id, filename="a.txt", metadata={"k": "v"})
    async with database.begin() as tx:
        draft = MessageDraft(content="look", attachment_ids=[file.id])
        (sent,) = await append_messages(tx, caller, session.id, [draft], CAUSE)
        read = await messages.numbered(tx, caller, session.id, [sent.seq])

    assert read is not None
    assert [(file.filename, bytes(file.metadata)) for file in read[0].attachments] == [("a.txt", b"{}")]


async def test_a_size_is_what_the_stored_texts_have(database: Database, caller: Caller):
    session = await opened(database, caller, title="é", tags=["👩"], metadata={"k": "é"})
    draft = MessageDraft(content="é", metadata={"k": "👩"})
    async with database.begin() as tx:
        await append_messages(tx, caller, session.id, [draft], CAUSE)
        await append_messages(tx, caller, session.id, [draft, draft], CAUSE)

    sizes = await query(
        database,
        "SELECT size, octet_length(content::text) + octet_length(metadata::text) FROM messages WHERE session_id = $1",
        session.id,
    )
    assert len(sizes) == 3
    assert all(stored == measured for stored, measured in sizes)
    ((stored, measured),) = await query(
        database, "SELECT size, octet_length(metadata::text) FROM sessions WHERE id = $1", session.id
    )
    assert stored > measured
