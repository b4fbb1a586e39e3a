"""What common clients send as a matter of course is taken: OpenAI's null, EventSource's stand-ins, browsers' forms."""

from __future__ import annotations

import asyncio
import json

import pytest
from forms import FORM, file_part, form, part
from sockets import DEADLINE_SECONDS

CALLS = [{"tool_name": "search", "arguments": {}}]
JSON = {"Content-Type": "application/json"}
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture
async def path(open_session):
    return f"/sessions/{(await open_session())['id']}"


async def test_null_beside_tool_calls_is_the_empty_content(api, path):
    draft = {"role": "assistant", "tool_calls": CALLS}
    spoken = await api.post(f"{path}/messages", json=draft | {"content": None})
    batch = await api.post(f"{path}/messages/batch", json={"messages": [draft | {"content": None}]})
    empty = await api.post(f"{path}/messages", json=draft | {"content": ""})

    answers = [spoken.json(), *batch.json()["data"], empty.json()]
    assert [answer.status_code for answer in (spoken, batch, empty)] == [201, 201, 201]
    assert [answer["content"] for answer in answers] == ["", "", ""]
    page = (await api.get(f"{path}/messages")).json()["data"]
    assert [message["content"] for message in page] == ["", "", ""]
    context = (await api.get(f"{path}/context?format=openai")).json()["messages"]
    called = [message for message in context if message["role"] == "assistant"]
    assert len({json.dumps({**message, "tool_calls": None}) for message in called}) == 1


@pytest.mark.parametrize(
    "draft",
    [
        {"content": None},
        {"content": None, "role": "assistant"},
        {"content": None, "role": "assistant", "tool_calls": []},
        {"content": None, "role": "system"},
        {"content": None, "role": "tool", "tool_call_id": "x"},
        {"content": [None]},
        {"role": "assistant", "tool_calls": CALLS},
    ],
)
async def test_no_content_elsewhere_is_refused(api, path, draft):
    one = await api.post(f"{path}/messages", json=draft)
    batch = await api.post(f"{path}/messages/batch", json={"messages": [draft]})

    assert [answer.status_code for answer in (one, batch)] == [400, 400]
    assert one.json()["errors"][0]["path"].startswith("body.content")
    assert batch.json()["errors"][0]["path"].startswith("body.messages[0].content")


async def test_tool_calls_of_another_role_are_refused_with_and_without_null(api, path):
    answer = await api.post(f"{path}/messages", json={"content": None, "role": "user", "tool_calls": CALLS})

    assert [fault["path"] for fault in answer.json()["errors"]] == ["body.tool_calls"]


async def test_a_patch_is_taken_as_the_merge_patch_that_it_is(api, path):
    created = (await api.patch(path, json={"title": "t", "metadata": {"a": 1, "b": {"c": 2}}})).json()
    webhook = (await api.post("/webhooks", json={"url": "https://hooks.example.com", "description": "d"})).json()

    patched = await api.patch(path, content=b'{"title":null,"metadata":{"b":{"d":3},"a":null}}', headers=MERGE_PATCH)
    changed = await api.patch(
        f"/webhooks/{webhook['webhook']['id']}", content=b'{"description":null}', headers=MERGE_PATCH
    )

    assert (created["title"], patched.status_code, changed.status_code) == ("t", 200, 200)
    assert (patched.json()["title"], patched.json()["metadata"]) == (None, {"b": {"c": 2, "d": 3}})
    assert changed.json()["description"] is None


async def test_the_document_names_both_media_types_of_a_patch(app, client_of):
    async with client_of(app) as client:
        paths = (await client.get("/schema/openapi.json")).json()["paths"]

    for methods in paths.values():
        for method, operation in methods.items():
            if "requestBody" in operation and "application/json" in operation["requestBody"]["content"]:
                taken = {"application/json"} | ({"application/merge-patch+json"} if method == "patch" else set())
                assert set(operation["requestBody"]["content"]) == taken
            if method == "patch":
                assert "Accept-Patch" in operation["responses"]["415"]["headers"]


async def ids_of(api, path, params, headers=None):
    """The events of an ended session's stream, which ends by itself."""
    answer = await api.get(path, params=params, headers=headers)
    assert answer.status_code == 200, answer.text
    return [line.removeprefix("id: ") for line in answer.text.split("\n") if line.startswith("id: ")]


async def test_an_event_sources_stand_in_sends_the_last_id_in_the_address(api, path):
    """Behind whatever the page's own address says, and behind the header that an EventSource itself sends."""
    await api.post(f"{path}/messages", json={"content": "x"})
    await api.delete(path)
    stream = f"{path}/events/stream"

    assert await ids_of(api, stream, {"after_seq": "0"}) == ["1", "2", "3", "4"]
    assert await ids_of(api, stream, {"lastEventId": "2"}) == ["3", "4"]
    assert await ids_of(api, stream, {"lastEventId": "2", "after_seq": "0"}) == ["3", "4"]
    assert await ids_of(api, stream, {"lastEventId": "", "after_seq": "1"}) == ["2", "3", "4"]
    assert await ids_of(api, stream, {"lastEventId": "1"}, {"Last-Event-ID": "3"}) == ["4"]
    assert await ids_of(api, stream, {"lastEventId": "1"}, {"Last-Event-ID": ""}) == ["2", "3", "4"]
    assert (await api.get(stream, params={"lastEventId": "4"})).status_code == 204


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "٣", "9" * 400, "9007199254740993"])
async def test_a_last_id_in_the_address_that_is_none_is_refused_there(api, path, last):
    await api.delete(path)  # so that a stream ends by itself
    answer = await api.get(f"{path}/events/stream", params={"lastEventId": last})

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert [fault["path"] for fault in answer.json()["errors"]] == ["query.lastEventId"]


async def test_an_id_that_no_event_has_yet_and_one_of_another_stream_are_refused(api, path):
    async with asyncio.timeout(DEADLINE_SECONDS):
        beyond = await api.get(f"{path}/events/stream", params={"lastEventId": "1000"})
        foreign = await api.get("/events/stream", params={"lastEventId": "1000"})

    assert [(answer.status_code, answer.json()["code"]) for answer in (beyond, foreign)] == [
        (400, "invalid_cursor"),
        (400, "invalid_cursor"),
    ]


@pytest.mark.parametrize("charset", [b"UTF-8", b"windows-1252", b"", b"x" * 10_000])
@pytest.mark.parametrize("first", [True, False])
async def test_a_forms_own_note_of_its_encoding_is_passed_over(api, path, charset, first):
    note, file = part('name="_charset_"', charset), file_part(b"words", "naïve.txt")
    parts = [note, file] if first else [file, note]

    answer = await api.post(
        f"{path}/attachments", content=form(*parts, part('name="metadata"', b'{"a":1}')), headers=FORM
    )

    assert answer.status_code == 201, answer.text
    assert (answer.json()["filename"], answer.json()["size"], answer.json()["metadata"]) == ("naïve.txt", 5, {"a": 1})


async def test_a_form_of_nothing_but_the_note_lacks_its_file(api, path):
    answer = await api.post(f"{path}/attachments", content=form(part('name="_charset_"', b"UTF-8")), headers=FORM)

    assert [(fault["path"], fault["message"]) for fault in answer.json()["errors"]] == [("body.file", "Required")]
    assert (await api.get(f"{path}/attachments")).json()["data"] == []


HALF = rb'{"content":"cut \ud83d"}'


async def test_half_of_an_emoji_is_said_to_be_that_and_where_it_is(api, path):
    """As `JSON.stringify({content: "cut 😀".slice(0, 5)})` writes it."""
    answers = [
        await api.post(f"{path}/messages", content=HALF, headers=JSON),
        await api.post(f"{path}/messages/batch", content=b'{"messages":[{"content":"x"},' + HALF + b"]}", headers=JSON),
        await api.patch(path, content=rb'{"metadata":{"k":["\ud83d"]}}', headers=JSON),
    ]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(400, "invalid_request")] * 3
    assert [answer.json()["errors"][0]["path"] for answer in answers] == [
        "body.content",
        "body.messages[1].content",
        "body.metadata.k[0]",
    ]
    assert answers[0].json()["detail"].startswith("body.content: Half of a character: `\\ud83d` at byte 16 ")
    assert all("Not JSON" not in answer.text for answer in answers)
