"""Files as commands see them: counted, told of, referred to by messages, and gone without a trace."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from conversations import CAUSE, filed, inspected, let_its_time_pass, opened, query, said, service_of, user_of
from invariants import violations

from service.blobs import new_key
from service.commands.attachments import add_attachment, begin_upload, delete_attachment, retry_attachment
from service.commands.inspections import INTERRUPTED, claim_attachment, is_given_up, record_outcome
from service.commands.messages import append_messages, delete_message
from service.commands.sessions import end_session, move_session, purge_session
from service.domain.attachment import ATTEMPTS_MAX, Attachment, AttachmentStatus, AttachmentType, Outcome
from service.domain.caller import Caller
from service.domain.errors import (
    AttachmentLimitExceeded,
    AttachmentTooLarge,
    DomainError,
    InvalidTransition,
    SessionEnded,
    SessionExpired,
    SessionNotActive,
    SessionNotFound,
    StorageFull,
)
from service.domain.message import Message, MessageDraft
from service.domain.session import Move, Session, SessionConfig
from service.ids import new_id
from service.store import attachments, blobs, idempotency, message_pages
from service.store.attachments import NewAttachment
from service.store.blobs import Stored
from service.store.engine import Database
from service.store.idempotency import About
from service.store.inspections import LEASE_SECONDS, Claim
from workers.jobs.expire_sessions import sweep_expired_sessions

ENDED, EXPIRED, SUSPENDED = "ended", "expired", "suspended"
SMALL = SessionConfig(max_attachments=2, max_attachment_size=1024)


async def into(database: Database, caller: Caller, session: Session, state: str) -> None:
    if state == SUSPENDED:
        async with database.begin() as tx:
            await move_session(tx, caller, session.id, Move.SUSPEND, None, CAUSE)
    if state == ENDED:
        async with database.begin() as tx:
            await end_session(tx, caller, session.id, None, CAUSE)
    if state == EXPIRED:
        await let_its_time_pass(database, session.id)


async def deleted(database: Database, caller: Caller, file: Attachment) -> bool:
    async with database.begin() as tx:
        return await delete_attachment(tx, caller, file.session_id, file.id, CAUSE)


async def retried(database: Database, caller: Caller, file: Attachment) -> Attachment:
    async with database.begin() as tx:
        return await retry_attachment(tx, caller, file.session_id, file.id, CAUSE)


async def appended(database: Database, caller: Caller, session: Session, *drafts: MessageDraft) -> list[Message]:
    async with database.begin() as tx:
        return await append_messages(tx, caller, session.id, list(drafts), CAUSE)


async def look(database: Database, caller: Caller, file: Attachment) -> attachments.File | None:
    async with database.connect() as tx:
        _, found = await attachments.get(tx, caller, file.session_id, file.id)
    return found


async def told(database: Database, session: Session) -> list[tuple[str, dict[str, Any]]]:
    """The events that tell of files."""
    rows = await query(
        database,
        "SELECT type, data FROM events WHERE session_id = $1 AND type LIKE 'attachment.%' ORDER BY seq",
        session.id,
    )
    return [(row["type"], msgspec.json.decode(row["data"])) for row in rows]


async def count_of(database: Database, session: Session) -> int:
    rows = await query(database, "SELECT attachment_count FROM sessions WHERE id = $1", session.id)
    return int(rows[0][0])


async def bytes_of(database: Database, tenant: str) -> int:
    rows = await query(database, "SELECT bytes FROM tenant_storage WHERE tenant_id = $1", tenant)
    return rows[0][0] if rows else 0


async def is_whole(database: Database, session: Session) -> list[str]:
    async with database.connect() as tx:
        return await violations(tx._connection, session.id)


async def announced(database: Database, content: bytes) -> Stored:
    stored = Stored(hashlib.sha256(content).digest(), new_key(new_id()), len(content))
    async with database.connect() as tx:
        await blobs.announce(tx, [stored.key])
    return stored


async def loose_keys(database: Database, *keys: str) -> set[str]:
    rows = await query(database, "SELECT key FROM loose_blobs WHERE key = ANY($1)", list(keys))
    return {row["key"] for row in rows}


async def claimed(database: Database) -> Claim:
    async with database.begin() as tx:
        claim = await claim_attachment(tx)
    assert claim is not None
    return claim


async def let_leases_run_out(database: Database) -> None:
    await query(database, "UPDATE attachments SET due_at = due_at - make_interval(secs => $1)", float(LEASE_SECONDS))


async def recorded(database: Database, claim: Claim, outcome: Outcome, **products: Stored) -> bool:
    async with database.begin() as tx:
        return await record_outcome(tx, claim, outcome, **products)


async def test_a_new_file_is_counted_and_told_of_without_its_name(database: Database, caller: Caller):
    session = await opened(database, caller)

    file = await filed(database, caller, session.id, b"content", filename="secret.txt", metadata={"secret": 1})

    assert await count_of(database, session) == 1
    assert await bytes_of(database, caller.tenant_id) == 7
    assert await told(database, session) == [
        (
            "attachment.uploaded",
            {"attachment_id": str(file.id), "status": "uploaded", "content_type": "text/plain", "size": 7},
        )
    ]
    rows = await query(database, "SELECT event_type FROM outbox WHERE session_id = $1 ORDER BY id", session.id)
    assert [row["event_type"] for row in rows][-1] == "attachment.uploaded"
    assert await is_whole(database, session) == []


async def test_a_file_raises_the_sessions_version_and_leaves_its_end_where_it_was(database: Database, caller: Caller):
    session = await opened(database, caller)

    await filed(database, caller, session.id)

    rows = await query(database, "SELECT version, expires_at FROM sessions WHERE id = $1", session.id)
    assert tuple(rows[0]) == (session.version + 1, session.expires_at)


@pytest.mark.parametrize("activate", [True, False])
async def test_a_session_takes_files_before_its_first_message(database: Database, caller: Caller, activate: bool):
    session = await opened(database, caller, activate=activate)

    async with database.connect() as tx:
        await begin_upload(tx, caller, session.id, new_key(new_id()), may_be_known=False)
    await filed(database, caller, session.id)

    assert await count_of(database, session) == 1


@pytest.mark.parametrize(
    ("state", "refusal"), [(SUSPENDED, SessionNotActive), (ENDED, SessionEnded), (EXPIRED, SessionExpired)]
)
async def test_a_session_that_rests_or_is_over_takes_no_file_from_the_beginning_to_the_end(
    database: Database, caller: Caller, state: str, refusal: type[DomainError]
):
    session = await opened(database, caller)
    key = new_key(new_id())
    await into(database, caller, session, state)

    with pytest.raises(refusal):
        async with database.connect() as tx:
            await begin_upload(tx, caller, session.id, key, may_be_known=False)
    with pytest.raises(refusal):
        await filed(database, caller, session.id)

    assert await loose_keys(database, key) == set()
    assert await count_of(database, session) == 0
    assert await bytes_of(database, caller.tenant_id) == 0
    assert await told(database, session) == []


async def test_of_a_file_that_may_be_known_only_the_end_decides(database: Database, caller: Caller):
    session = await opened(database, caller)
    key = new_key(new_id())
    await into(database, caller, session, ENDED)

    async with database.connect() as tx:
        begun = await begin_upload(tx, caller, session.id, key, may_be_known=True)

    assert begun.id == session.id
    assert await loose_keys(database, key) == {key}
    with pytest.raises(SessionEnded):
        await filed(database, caller, session.id)


@pytest.mark.parametrize("may_be_known", [True, False])
async def test_a_session_that_is_not_there_for_the_caller_takes_no_file(
    database: Database, tenant: str, may_be_known: bool
):
    session = await opened(database, user_of(tenant, "mine"), user_id="mine")
    key = new_key(new_id())

    for caller in (user_of(tenant, "other"), service_of(f"{tenant}-other")):
        with pytest.raises(SessionNotFound):
            async with database.connect() as tx:
                await begin_upload(tx, caller, session.id, key, may_be_known=may_be_known)
        with pytest.raises(SessionNotFound):
            await filed(database, caller, session.id)
    assert await loose_keys(database, key) == set()
    assert await count_of(database, session) == 0


async def test_a_session_takes_as_many_files_and_as_large_ones_as_its_config_allows(database: Database, caller: Caller):
    session = await opened(database, caller, config=SMALL)
    first = await filed(database, caller, session.id, b"x" * 1024)

    with pytest.raises(AttachmentTooLarge):
        await filed(database, caller, session.id, b"x" * 1025)
    await filed(database, caller, session.id, b"")
    with pytest.raises(AttachmentLimitExceeded):
        await filed(database, caller, session.id, b"")
    with pytest.raises(AttachmentLimitExceeded):
        async with database.connect() as tx:
            await begin_upload(tx, caller, session.id, new_key(new_id()), may_be_known=False)
    await deleted(database, caller, first)
    await filed(database, caller, session.id, b"")

    assert await count_of(database, session) == 2
    assert await bytes_of(database, caller.tenant_id) == 0
    assert await is_whole(database, session) == []


async def test_a_file_beyond_the_quota_leaves_nothing(database: Database, caller: Caller):
    session = await opened(database, caller)
    stored = await announced(database, b"content")
    new = NewAttachment(filename="a", content_type="x/y", size=7, sha256=stored.sha256, metadata={})

    with pytest.raises(StorageFull):
        async with database.begin() as tx:
            await add_attachment(tx, caller, session.id, new, stored, 6, CAUSE)

    assert await count_of(database, session) == 0
    assert await bytes_of(database, caller.tenant_id) == 0
    assert await told(database, session) == []
    assert await loose_keys(database, stored.key) == {stored.key}
    async with database.begin() as tx:
        await add_attachment(tx, caller, session.id, new, stored, 7, CAUSE)
    assert await bytes_of(database, caller.tenant_id) == 7


async def test_a_deleted_file_is_told_of_once_and_frees_its_place_and_its_bytes(database: Database, caller: Caller):
    session = await opened(database, caller)
    file = await filed(database, caller, session.id, b"content")

    assert await deleted(database, caller, file) is True
    assert await deleted(database, caller, file) is False

    assert (await told(database, session))[1:] == [("attachment.deleted", {"attachment_id": str(file.id)})]
    assert await count_of(database, session) == 0
    assert await bytes_of(database, caller.tenant_id) == 0
    assert await look(database, caller, file) is None
    assert await is_whole(database, session) == []


@pytest.mark.parametrize(("state", "refusal"), [(ENDED, SessionEnded), (EXPIRED, SessionExpired)])
async def test_a_file_of_a_session_that_is_over_is_erased_without_an_event_and_not_processed_again(
    database: Database, caller: Caller, state: str, refusal: type[DomainError]
):
    session = await opened(database, caller)
    gone, stays = [await filed(database, caller, session.id) for _ in range(2)]
    await into(database, caller, session, state)

    with pytest.raises(refusal):
        await retried(database, caller, stays)
    assert await deleted(database, caller, gone) is True
    assert await deleted(database, caller, gone) is False

    assert [type_ for type_, _ in await told(database, session)] == ["attachment.uploaded"] * 2
    assert await look(database, caller, gone) is None
    assert await look(database, caller, stays) is not None
    assert await count_of(database, session) == 1
    assert await is_whole(database, session) == []


async def test_a_deleted_file_leaves_its_words_nowhere(own_database: Database, caller: Caller):
    word = "unmistakable"
    session = await opened(own_database, caller)
    text, thumbnail = await announced(own_database, b"text"), await announced(own_database, b"thumbnail")
    file = await filed(own_database, caller, session.id, b"content", filename=f"{word}.txt", metadata={word: word})
    async with own_database.begin() as tx:
        await idempotency.claim(tx, b"key", caller.tenant_id)
        about = About(session_id=session.id, item_ids=[file.id])
        await idempotency.keep(tx, b"key", status=201, headers={}, body=msgspec.json.encode(file), about=about)
    found = {"properties": {"language": word}, "content_type": "text/plain"}
    await inspected(own_database, caller.tenant_id, file, text=text, thumbnail=thumbnail, **found)
    await appended(own_database, caller, session, MessageDraft(content="look", attachment_ids=[file.id]))
    traces = (word, word.encode().hex(), file.sha256, text.sha256.hex(), thumbnail.sha256.hex())

    async def tables_with(trace: str) -> list[str]:
        tables = await query(own_database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return [
            name
            for (name,) in tables
            if (await query(own_database, f"SELECT 1 FROM {name} t WHERE t::text LIKE '%' || $1 || '%'", trace))
        ]

    before = {trace: await tables_with(trace) for trace in traces}
    await deleted(own_database, caller, file)

    assert all(before.values()), f"a trace was nowhere: nothing was tested: {before}"
    assert {trace: await tables_with(trace) for trace in traces} == {trace: [] for trace in traces}
    kept = await query(own_database, "SELECT body FROM idempotency_keys")
    assert kept[0]["body"] is None
    assert await is_whole(own_database, session) == []


async def test_a_purge_lets_go_of_every_object_of_the_session_and_of_no_other(own_database: Database, caller: Caller):
    erased, stays = await opened(own_database, caller), await opened(own_database, caller)
    text = await announced(own_database, b"text")
    first = await filed(own_database, caller, erased.id, b"content")
    await filed(own_database, caller, erased.id, b"content")
    await filed(own_database, caller, erased.id, b"its own")
    await filed(own_database, caller, stays.id, b"content")
    await inspected(own_database, caller.tenant_id, first, text=text)
    keys = {row["key"]: row["size"] for row in await query(own_database, "SELECT key, size FROM blobs")}

    async with own_database.begin() as tx:
        await purge_session(tx, caller, erased.id)

    rows = await query(own_database, "SELECT key, reference_count FROM blobs")
    assert [row["reference_count"] for row in rows] == [1]
    assert await bytes_of(own_database, caller.tenant_id) == 7
    assert await loose_keys(own_database, *keys) == keys.keys() - {rows[0]["key"]}
    async with own_database.connect() as tx:
        assert await violations(tx._connection) == []


async def test_a_file_can_be_named_again_after_its_message_was_deleted(database: Database, caller: Caller):
    session = await opened(database, caller)
    file = await filed(database, caller, session.id)
    (first,) = await appended(database, caller, session, MessageDraft(content="x", attachment_ids=[file.id]))
    async with database.begin() as tx:
        await delete_message(tx, caller, session.id, first.id, CAUSE)

    (second,) = await appended(database, caller, session, MessageDraft(content="x", attachment_ids=[file.id]))

    assert [entry.message_id for entry in second.attachments] == [second.id]


async def test_a_file_whose_first_message_is_deleted_names_the_next_one_that_refers_to_it(
    database: Database, caller: Caller
):
    session = await opened(database, caller)
    file = await filed(database, caller, session.id)
    first, second, third = await appended(
        database, caller, session, *(MessageDraft(content=text, attachment_ids=[file.id]) for text in "123")
    )

    named = []
    for message in (second, first, third):
        async with database.begin() as tx:
            await delete_message(tx, caller, session.id, message.id, CAUSE)
        found = await look(database, caller, file)
        named.append(None if found is None else found.attachment.message_id)

    assert named == [first.id, third.id, None]


async def test_a_page_of_messages_brings_the_files_of_each(database: Database, caller: Caller):
    session = await opened(database, caller)
    files = [await filed(database, caller, session.id) for _ in range(3)]
    await said(database, caller, session.id, "without")
    sent = await appended(
        database, caller, session, *(MessageDraft(content="x", attachment_ids=[file.id]) for file in files)
    )

    async with database.connect() as tx:
        page = await message_pages.page(
            tx, caller, session.id, order="asc", after_seq=0, before_seq=100, role=None, limit=10, include_deleted=False
        )

    assert page is not None
    assert page[1:] == sent
    assert [[file.id for file in message.attachments] for message in page] == [[], *([file.id] for file in files)]


async def test_an_outcome_is_told_of_once_and_its_objects_are_kept(own_database: Database, caller: Caller):
    session = await opened(own_database, caller)
    file = await filed(own_database, caller, session.id, b"content", content_type="text/x")
    text, thumbnail = await announced(own_database, b"text"), await announced(own_database, b"thumbnail")
    outcome = Outcome(
        status=AttachmentStatus.READY,
        content_type="application/pdf",
        attachment_type=AttachmentType.DOCUMENT,
        properties={"pages": 2, "share": 0.5, "language": "de", "is_signed": False},
        is_scanned=True,
    )

    assert await recorded(own_database, await claimed(own_database), outcome, text=text, thumbnail=thumbnail)

    found = await look(own_database, caller, file)
    assert found is not None
    assert (found.text_sha256, found.thumbnail_sha256, found.is_scanned) == (text.sha256, thumbnail.sha256, True)
    ready = found.attachment
    assert (ready.has_text, ready.has_thumbnail, ready.status) == (True, True, AttachmentStatus.READY)
    assert (ready.content_type, ready.declared_content_type) == ("application/pdf", "text/x")
    assert ready.attachment_type is AttachmentType.DOCUMENT
    assert msgspec.json.decode(ready.properties) == outcome.properties
    assert (await told(own_database, session))[1:] == [
        (
            "attachment.processed",
            {"attachment_id": str(file.id), "status": "ready", "content_type": "application/pdf", "size": 7},
        )
    ]
    events = await query(own_database, "SELECT actor_kind, actor_subject FROM events ORDER BY seq DESC LIMIT 1")
    assert tuple(events[0]) == ("system", "inspection")
    assert await loose_keys(own_database, text.key, thumbnail.key) == set()
    assert await bytes_of(own_database, caller.tenant_id) == 7 + 4 + 9
    assert await is_whole(own_database, session) == []


@pytest.mark.parametrize("status", [AttachmentStatus.FAILED, AttachmentStatus.QUARANTINED])
async def test_a_file_that_failed_or_was_quarantined_is_told_of_as_failed(
    own_database: Database, caller: Caller, status: AttachmentStatus
):
    session = await opened(own_database, caller)
    await filed(own_database, caller, session.id)

    await recorded(own_database, await claimed(own_database), Outcome(status=status, error="Why."))

    type_, said_of_it = (await told(own_database, session))[1]
    assert (type_, said_of_it["status"]) == ("attachment.failed", status)
    assert "error" not in said_of_it


async def test_an_outcome_of_a_lost_claim_changes_nothing(own_database: Database, caller: Caller):
    session = await opened(own_database, caller)
    await filed(own_database, caller, session.id)
    stale = await claimed(own_database)
    await let_leases_run_out(own_database)
    holder = await claimed(own_database)
    text = await announced(own_database, b"text")
    before = [await query(own_database, f"SELECT * FROM {table}") for table in ("attachments", "sessions", "events")]

    assert not await recorded(own_database, stale, Outcome(status=AttachmentStatus.FAILED, error="stale"), text=text)

    after = [await query(own_database, f"SELECT * FROM {table}") for table in ("attachments", "sessions", "events")]
    assert after == before
    assert await loose_keys(own_database, text.key) == {text.key}
    assert await recorded(own_database, holder, Outcome(status=AttachmentStatus.READY), text=text)
    assert not await recorded(own_database, holder, Outcome(status=AttachmentStatus.READY))
    assert await is_whole(own_database, session) == []


@pytest.mark.parametrize("how", ["purged", "deleted"])
async def test_an_outcome_of_a_file_that_is_gone_changes_nothing(own_database: Database, caller: Caller, how: str):
    session = await opened(own_database, caller)
    file = await filed(own_database, caller, session.id)
    claim = await claimed(own_database)
    if how == "deleted":
        await deleted(own_database, caller, file)
    else:
        async with own_database.begin() as tx:
            await purge_session(tx, caller, session.id)
    text = await announced(own_database, b"text")

    assert not await recorded(own_database, claim, Outcome(status=AttachmentStatus.READY), text=text)

    assert await loose_keys(own_database, text.key) == {text.key}
    async with own_database.connect() as tx:
        assert await violations(tx._connection) == []


@pytest.mark.parametrize("state", [ENDED, EXPIRED])
async def test_in_a_session_that_is_over_a_file_reaches_its_end_in_silence(
    own_database: Database, caller: Caller, state: str
):
    session = await opened(own_database, caller)
    file = await filed(own_database, caller, session.id)
    claim = await claimed(own_database)
    await into(own_database, caller, session, state)
    before = await query(own_database, "SELECT version, last_event_seq, updated_at FROM sessions")

    assert await recorded(own_database, claim, Outcome(status=AttachmentStatus.READY))

    found = await look(own_database, caller, file)
    assert found is not None
    assert found.attachment.status is AttachmentStatus.READY
    assert [type_ for type_, _ in await told(own_database, session)] == ["attachment.uploaded"]
    assert await query(own_database, "SELECT version, last_event_seq, updated_at FROM sessions") == before
    await sweep_expired_sessions(own_database)
    assert await is_whole(own_database, session) == []


async def test_in_a_suspended_session_a_file_reaches_its_end_with_its_event(own_database: Database, caller: Caller):
    session = await opened(own_database, caller)
    await filed(own_database, caller, session.id)
    await into(own_database, caller, session, SUSPENDED)

    assert await recorded(own_database, await claimed(own_database), Outcome(status=AttachmentStatus.READY))

    assert [type_ for type_, _ in await told(own_database, session)] == ["attachment.uploaded", "attachment.processed"]
    assert await is_whole(own_database, session) == []


async def test_what_came_out_of_a_file_is_counted_but_never_refused_for_the_quota(
    own_database: Database, caller: Caller
):
    """The quota is not known here, and the bytes are there: a file without its text would help nobody."""
    session = await opened(own_database, caller)
    await filed(own_database, caller, session.id, b"content")
    text = await announced(own_database, b"x" * 1000)

    assert await recorded(own_database, await claimed(own_database), Outcome(status=AttachmentStatus.READY), text=text)

    assert await bytes_of(own_database, caller.tenant_id) == 1007


async def test_a_failed_file_is_processed_again_and_its_first_objects_go(own_database: Database, caller: Caller):
    session = await opened(own_database, caller)
    file = await filed(own_database, caller, session.id, b"content")
    with pytest.raises(InvalidTransition):
        await retried(own_database, caller, file)
    failed = Outcome(status=AttachmentStatus.FAILED, error="Why.", properties={"pages": 1})
    await recorded(own_database, await claimed(own_database), failed)

    again = await retried(own_database, caller, file)

    assert again == file
    assert (await told(own_database, session))[-1] == (
        "attachment.uploaded",
        {
            "attachment_id": str(file.id),
            "status": "uploaded",
            "content_type": "text/plain",
            "size": 7,
            "retried": True,
        },
    )
    claim = await claimed(own_database)
    assert claim.attempt == 1
    assert await recorded(own_database, claim, Outcome(status=AttachmentStatus.READY))
    with pytest.raises(InvalidTransition):
        await retried(own_database, caller, file)
    assert await is_whole(own_database, session) == []


async def test_a_file_whose_workers_died_three_times_is_given_up_at_the_fourth_claim(
    own_database: Database, caller: Caller
):
    session = await opened(own_database, caller)
    file = await filed(own_database, caller, session.id)
    given_up = []
    for _ in range(ATTEMPTS_MAX + 1):
        claim = await claimed(own_database)
        given_up.append(is_given_up(claim))
        await let_leases_run_out(own_database)

    assert given_up == [False, False, False, True]
    assert await recorded(own_database, claim, INTERRUPTED)
    found = await look(own_database, caller, file)
    assert found is not None
    assert found.attachment.status is AttachmentStatus.FAILED
    assert "interrupted 3 times" in (found.attachment.error or "")
    again = await retried(own_database, caller, file)
    assert again.status is AttachmentStatus.UPLOADED
