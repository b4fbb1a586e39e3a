"""Ids in upper case are the same ids (RFC 9562, section 4): taken everywhere, and answered in lower case."""

from __future__ import annotations

import pytest

ASKING = {"role": "assistant", "content": "", "tool_calls": [{"tool_name": "t", "provider_call_id": "call_A"}]}


@pytest.fixture
async def ids(api, open_session):
    """A session with one of everything, and what belongs to its tenant."""
    session = (await open_session())["id"]
    path = f"/sessions/{session}"
    message = (await api.post(f"{path}/messages", json=ASKING)).json()
    webhook = (await api.post("/webhooks", json={"url": "https://hooks.example.com"})).json()["webhook"]["id"]
    return {
        "session": session,
        "message": message["id"],
        "call": message["tool_calls"][0]["id"],
        "file": (await api.post(f"{path}/attachments", content=b"words")).json()["id"],
        "webhook": webhook,
        "delivery": (await api.post(f"/webhooks/{webhook}/test")).json()["id"],
        "key": (await api.post("/api-keys", json={"name": "x"})).json()["api_key"]["id"],
    }


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/sessions/{session}", None, 200),
        ("HEAD", "/sessions/{session}", None, 200),
        ("PATCH", "/sessions/{session}", {"title": "t"}, 200),
        ("POST", "/sessions/{session}/messages", {"content": "x"}, 201),
        ("POST", "/sessions/{session}/messages/batch", {"messages": [{"content": "x"}]}, 201),
        ("GET", "/sessions/{session}/messages", None, 200),
        ("GET", "/sessions/{session}/messages/{message}", None, 200),
        ("DELETE", "/sessions/{session}/messages/{message}", None, 204),
        ("GET", "/sessions/{session}/context", None, 200),
        ("GET", "/sessions/{session}/events", None, 200),
        ("POST", "/sessions/{session}/events/ticket", None, 201),
        ("GET", "/sessions/{session}/tool-calls", None, 200),
        ("GET", "/sessions/{session}/tool-calls/{call}", None, 200),
        ("POST", "/sessions/{session}/tool-calls/{call}", {"action": "start"}, 200),
        ("GET", "/sessions/{session}/attachments", None, 200),
        ("GET", "/sessions/{session}/attachments/{file}", None, 200),
        ("GET", "/sessions/{session}/attachments/{file}/metadata", None, 200),
        ("DELETE", "/sessions/{session}/attachments/{file}", None, 204),
        ("POST", "/sessions/{session}/suspend", None, 200),
        ("DELETE", "/sessions/{session}", None, 204),
        ("GET", "/webhooks/{webhook}", None, 200),
        ("GET", "/webhooks/{webhook}/deliveries", None, 200),
        ("POST", "/webhooks/{webhook}/deliveries/{delivery}/redeliver", None, 202),
        ("DELETE", "/webhooks/{webhook}", None, 204),
        ("DELETE", "/api-keys/{key}", None, 204),
    ],
)
async def test_a_path_takes_them_and_answers_in_lower_case(api, ids, method, path, body, status):
    shouted = {name: id_.upper() for name, id_ in ids.items()}

    answer = await api.request(method, path.format(**shouted), json=body)

    assert answer.status_code == status, answer.text
    assert [id_ for id_ in shouted.values() if id_ in answer.text + answer.headers.get("location", "")] == []


async def test_a_body_takes_them_and_answers_in_lower_case(api, ids):
    messages = f"/sessions/{ids['session']}/messages"
    drafts = [
        {"content": "x", "parent_id": ids["message"].upper()},
        {"content": "x", "attachment_ids": [ids["file"].upper()]},
        {"content": [{"type": "attachment", "attachment_id": ids["file"].upper()}]},
        {"content": "x", "role": "tool", "tool_call_id": ids["call"].upper()},
    ]

    answers = [(await api.post(messages, json=draft)).json() for draft in drafts]

    assert answers[0]["parent_id"] == ids["message"]
    assert answers[1]["attachments"][0]["id"] == ids["file"]
    assert answers[2]["content"] == [{"type": "attachment", "attachment_id": ids["file"]}]
    assert answers[3]["tool_call_id"] == ids["call"]


async def test_a_post_that_is_sent_again_with_its_id_in_the_other_case_has_no_second_effect(api, open_session):
    session = (await open_session())["id"]
    key = {"Idempotency-Key": "the-same"}

    first = await api.post(f"/sessions/{session}/messages", json={"content": "x"}, headers=key)
    again = await api.post(f"/sessions/{session.upper()}/messages", json={"content": "x"}, headers=key)

    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    assert again.json() == first.json()
    assert len((await api.get(f"/sessions/{session}/messages")).json()["data"]) == 1


async def test_a_copy_in_the_cache_and_its_etag_are_those_of_the_one_id(api, open_session):
    session = (await open_session())["id"]
    first = await api.get(f"/sessions/{session}")
    await api.patch(f"/sessions/{session.upper()}", json={"title": "changed"})

    answer = await api.get(f"/sessions/{session}", headers={"If-None-Match": first.headers["etag"]})
    unchanged = await api.get(f"/sessions/{session.upper()}", headers={"If-None-Match": answer.headers["etag"]})

    assert (answer.status_code, answer.json()["title"]) == (200, "changed")
    assert unchanged.status_code == 304


async def test_a_ticket_that_was_asked_for_in_one_case_opens_its_stream_in_the_other(app, client_of, api, open_session):
    session = (await open_session())["id"]
    tickets = [
        (await api.post(f"/sessions/{id_}/events/ticket")).json()["ticket"] for id_ in (session.upper(), session)
    ]
    await api.delete(f"/sessions/{session}")  # so that the streams end by themselves

    async with client_of(app) as page:
        answers = [
            await page.get(f"/api/v1/sessions/{id_}/events/stream", params={"after_seq": 0, "ticket": ticket})
            for id_, ticket in zip((session, session.upper()), tickets, strict=True)
        ]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert all("event: session.ended" in answer.text for answer in answers)


async def test_a_refusal_names_the_address_in_lower_case(api):
    answer = await api.get("/sessions/019AABCD-0000-7ABC-8DEF-0123456789AB/events")

    assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")
    assert answer.json()["instance"] == "/api/v1/sessions/019aabcd-0000-7abc-8def-0123456789ab/events"


async def test_what_is_no_id_keeps_its_case(api):
    await api.post("/sessions", json={"agent_id": "Agent", "external_id": "019AABCD-0000-7ABC-8DEF-0123456789AB"})

    found = await api.get("/sessions", params={"external_id": "019AABCD-0000-7ABC-8DEF-0123456789AB"})
    other = await api.get("/sessions", params={"external_id": "019aabcd-0000-7abc-8def-0123456789ab"})

    assert [session["external_id"] for session in found.json()["data"]] == ["019AABCD-0000-7ABC-8DEF-0123456789AB"]
    assert other.json()["data"] == []
