"""A page ends at 8 MiB, too, and the next one goes on where it ended: no gap, nothing twice, one row at least."""

from __future__ import annotations

import json

import pytest

MIB = 1024 * 1024
FRAME_BYTES = 1024
"""What stands around the rows of a page."""


async def paged(api, path, **params):
    """All rows, and the bytes of each page."""
    found, sizes, cursor = [], [], None
    while True:
        answer = await api.get(path, params=params | ({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["data"]
        sizes.append(len(answer.content))
        cursor = page["next_cursor"]
        assert page["has_more"] is (cursor is not None)
        assert page["data"]
        if cursor is None:
            return found, sizes


def assert_cut(sizes, pages):
    """So many pages, each as full as it may be, but the last one."""
    assert len(sizes) == pages
    assert max(sizes) <= 8 * MIB + FRAME_BYTES
    assert min(sizes[:-1]) > 5 * MIB


@pytest.fixture
async def large(api, open_session):
    """The path of 24 messages of 760 KiB."""
    path = f"/sessions/{(await open_session())['id']}/messages"
    for _ in range(24):
        answer = await api.post(path, json={"content": [{"type": "data", "data": {"k": "x" * 760 * 1024}}]})
        assert answer.status_code == 201
    return path


@pytest.mark.parametrize("params", [{"limit": 200}, {"limit": 200, "order": "asc"}, {}], ids=["newest", "oldest", "50"])
async def test_a_page_of_large_messages_ends_at_8_mib(api, large, params):
    found, sizes = await paged(api, large, **params)

    seqs = list(range(1, 25))
    assert [message["seq"] for message in found] == (seqs if params.get("order") == "asc" else seqs[::-1])
    assert_cut(sizes, 3)


async def test_messages_that_were_stored_without_a_size_are_measured(api, large, sql):
    await sql("UPDATE messages SET size = NULL WHERE session_id = CAST(:id AS uuid)", id=large.split("/")[2])

    found, sizes = await paged(api, large, limit=200)

    assert len(found) == 24
    assert_cut(sizes, 3)


@pytest.fixture
async def called(api, open_session, sql):
    """A session with four messages of five calls each, of which every call has a result of 0.9 MB."""
    session = (await open_session())["id"]
    calls = [{"tool_name": f"t{n}"} for n in range(5)]
    for _ in range(4):
        answer = await api.post(
            f"/sessions/{session}/messages", json={"role": "assistant", "content": "", "tool_calls": calls}
        )
        assert answer.status_code == 201
    await sql(
        "UPDATE tool_calls SET result = to_json(repeat('x', :size)), size = :size WHERE session_id = CAST(:id AS uuid)",
        id=session,
        size=900_000,
    )
    return f"/sessions/{session}"


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_the_calls_of_messages_count_and_stay_whole(api, called, order):
    found, sizes = await paged(api, f"{called}/messages", order=order)

    seqs = [1, 2, 3, 4] if order == "asc" else [4, 3, 2, 1]
    assert [message["seq"] for message in found] == seqs
    assert [len(message["tool_calls"]) for message in found] == [5] * 4
    assert max(sizes) <= 8 * MIB + FRAME_BYTES
    assert len(sizes) == 4  # two messages have 9 MB


async def test_a_message_that_is_too_large_for_a_page_has_one_of_its_own(api, called, sql):
    await sql(
        "UPDATE tool_calls SET result = to_json(repeat('x', :size)), size = :size WHERE session_id = CAST(:id AS uuid)",
        id=called.split("/")[2],
        size=2_000_000,
    )

    found, sizes = await paged(api, f"{called}/messages")

    assert [message["seq"] for message in found] == [4, 3, 2, 1]
    assert [len(message["tool_calls"]) for message in found] == [5] * 4
    assert len(sizes) == 4


@pytest.mark.parametrize("route", ["of the session", "the inbox"])
async def test_a_page_of_large_calls_ends_at_8_mib(api, called, route):
    everything = {
        call["id"] for message in (await paged(api, f"{called}/messages"))[0] for call in message["tool_calls"]
    }

    found, sizes = await paged(api, f"{called}/tool-calls" if route == "of the session" else "/tool-calls")

    assert len(found) == 20
    assert {call["id"] for call in found} == everything
    assert_cut(sizes, 3)


async def test_a_page_of_large_sessions_ends_at_8_mib(api, open_session):
    config = {"system_prompt_override": "👩" * 100_000}
    opened = [(await open_session(config=config))["id"] for _ in range(24)]

    for sort in ("created_at", "-created_at", "updated_at"):
        found, sizes = await paged(api, "/sessions", sort=sort, limit=200)

        assert [session["id"] for session in found] == (opened[::-1] if sort.startswith("-") else opened)
        assert_cut(sizes, 2)


async def test_a_page_of_large_events_ends_at_8_mib(api, open_session, sql):
    session = (await open_session())["id"]
    for n in range(20):
        await api.patch(f"/sessions/{session}", json={"title": str(n)})
    await sql(
        "UPDATE events SET data = json_build_object('k', repeat('x', 500000)) WHERE session_id = CAST(:id AS uuid)",
        id=session,
    )

    found, sizes = await paged(api, f"/sessions/{session}/events", limit=200)

    assert [event["seq"] for event in found] == list(range(1, len(found) + 1))
    assert len(found) == 22
    assert_cut(sizes, 2)


async def test_the_files_that_messages_name_count_too(own_app):
    async with own_app() as own:
        await the_files_of_messages_count(own.api, own.sql)


async def the_files_of_messages_count(api, sql):
    session = (await api.post("/sessions", json={"agent_id": "a", "activate": True})).json()["id"]
    files = f"/sessions/{session}/attachments"
    headers = {"Content-Disposition": "attachment; filename=a.txt", "Content-Type": "text/plain"}
    await api.post(files, content=b"words", headers=headers)
    await api.post(f"/sessions/{session}/messages/batch", json={"messages": [{"content": "look"}] * 6})
    await sql(
        """
        INSERT INTO attachments (tenant_id, session_id, id, filename, content_type, declared_content_type, size, sha256,
            attachment_type, status, properties, metadata, uploaded_at, due_at, attempt_count, lease_token)
        SELECT tenant_id, session_id, gen_random_uuid(), filename, content_type, declared_content_type, size, sha256,
            attachment_type, status, properties, CAST(:metadata AS json), uploaded_at, due_at, 0, 0
        FROM attachments, generate_series(1, 600) WHERE session_id = CAST(:id AS uuid)
        """,
        id=session,
        metadata=json.dumps({"k": "x" * 20_000}),
    )
    await sql(
        """
        UPDATE messages m SET attachment_ids = named.ids FROM (
            SELECT n / 100 + 1 AS seq, array_agg(id) AS ids
            FROM (SELECT id, row_number() OVER (ORDER BY id) - 1 AS n FROM attachments
                  WHERE session_id = CAST(:id AS uuid) AND metadata::text <> '{}') numbered
            GROUP BY 1) named
        WHERE m.session_id = CAST(:id AS uuid) AND m.seq = named.seq
        """,
        id=session,
    )

    found, sizes = await paged(api, f"/sessions/{session}/messages", order="asc")

    assert [message["seq"] for message in found] == [1, 2, 3, 4, 5, 6]
    assert [len(message["attachments"]) for message in found] == [100] * 6
    assert_cut(sizes, 2)
