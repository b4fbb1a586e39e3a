"""GET /sessions/{id}/events: what happened, in order, as API 6 has it."""

from __future__ import annotations

import asyncio
import re

import pytest

FIELDS = ["id", "type", "session_id", "seq", "occurred_at", "actor", "request_id", "data"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture
async def history(api, open_session):
    """A session to which everything has happened, and its events' path."""
    session = await open_session(system_prompt="Be brief.", activate=False)
    path = f"/sessions/{session['id']}"
    await api.post(f"{path}/activate", headers={"X-Request-Id": "activation-1"})
    message = (await api.post(f"{path}/messages", json={"content": "x"})).json()
    await api.post(
        f"{path}/messages/batch", json={"messages": [{"content": "y"}, {"role": "assistant", "content": "z"}]}
    )
    await api.patch(path, json={"title": "t", "metadata": {"k": 1}})
    await api.post(f"{path}/suspend")
    await api.post(f"{path}/resume")
    await api.delete(f"{path}/messages/{message['id']}")
    await api.delete(path)
    return session, message, f"{path}/events"


TYPES = [
    "session.created",
    "message.created",
    "session.activated",
    "message.created",
    "message.created",
    "message.created",
    "session.updated",
    "session.suspended",
    "session.resumed",
    "message.deleted",
    "session.ended",
]


async def test_every_change_has_its_event_in_order_and_without_gap(api, history):
    session, message, path = history

    events = (await api.get(path)).json()["data"]

    assert [event["type"] for event in events] == TYPES
    assert [event["seq"] for event in events] == list(range(1, len(TYPES) + 1))
    assert all(list(event) == FIELDS for event in events)
    assert {event["session_id"] for event in events} == {session["id"]}
    assert all(TIME.fullmatch(event["occurred_at"]) for event in events)
    assert [event["occurred_at"] for event in events] == sorted(event["occurred_at"] for event in events)
    assert {tuple(event["actor"].items()) for event in events} == {(("kind", "service"), ("subject", "service"))}
    assert events[2]["request_id"] == "activation-1"
    assert len({event["id"] for event in events}) == len(events)
    assert events[0]["data"] == {"agent_id": "agent", "user_id": "service"}
    assert events[3]["data"] == {"message_id": message["id"], "message_seq": 2, "role": "user"}
    assert events[6]["data"] == {"changed": ["title", "metadata"]}
    assert events[9]["data"] == {"message_id": message["id"], "message_seq": 2}
    assert events[10]["data"] == {"end_reason": "requested"}


@pytest.mark.parametrize(
    ("params", "seqs"),
    [
        ([("after_seq", 8)], [9, 10, 11]),
        ([("after_seq", 11)], []),
        ([("after_seq", 2**53)], []),
        ([("type", "message.created")], [2, 4, 5, 6]),
        ([("type", "message.created"), ("type", "session.ended")], [2, 4, 5, 6, 11]),
        ([("type", "message.created"), ("after_seq", 4)], [5, 6]),
        ([("type", "session.expired")], []),
    ],
)
@pytest.mark.parametrize("limit", [1, 2, 50])
async def test_filters_and_pages_give_exactly_what_they_say(api, history, params, seqs, limit):
    _, _, path = history
    found, cursor = [], None
    while True:
        query = [*params, ("limit", limit), *([("cursor", cursor)] if cursor else [])]
        page = (await api.get(path, params=query)).json()
        found += [event["seq"] for event in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert found == seqs


async def test_an_event_can_be_read_only_after_what_it_tells_of(api, open_session):
    session = await open_session()
    path = f"/sessions/{session['id']}"
    writers = [asyncio.create_task(api.post(f"{path}/messages", json={"content": f"{n}"})) for n in range(40)]
    last = 0
    while last < 40 and not any(writer.done() and writer.result().status_code != 201 for writer in writers):
        params = {"type": "message.created", "limit": 200}
        told = [event["data"] for event in (await api.get(f"{path}/events", params=params)).json()["data"]]
        there = {m["id"]: m["seq"] for m in (await api.get(f"{path}/messages", params={"limit": 200})).json()["data"]}
        assert [event["message_seq"] for event in told] == list(range(1, len(told) + 1))
        assert all(there[event["message_id"]] == event["message_seq"] for event in told)
        last = len(told)

    assert {answer.status_code for answer in await asyncio.gather(*writers)} == {201}


async def test_a_cursor_belongs_to_its_session_and_its_filters(api, history, open_session):
    _, _, path = history
    cursor = (await api.get(path, params={"limit": 2})).json()["next_cursor"]
    elsewhere = f"/sessions/{(await open_session())['id']}/events"

    refused = [
        await api.get(elsewhere, params={"cursor": cursor}),
        await api.get(path, params={"cursor": cursor, "after_seq": 1}),
        await api.get(path, params={"cursor": cursor, "type": "session.ended"}),
        await api.get(path.replace("events", "messages"), params={"cursor": cursor}),
    ]

    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(400, "invalid_cursor")] * 4


async def test_events_never_repeat_what_was_said(api, open_session):
    session = await open_session(system_prompt="canary-1", title="canary-2", metadata={"m": "canary-3"})
    path = f"/sessions/{session['id']}"
    await api.post(f"{path}/messages", json={"content": "canary-4", "metadata": {"m": "canary-5"}})
    await api.patch(path, json={"title": "canary-6"})

    assert "canary" not in (await api.get(f"{path}/events")).text
