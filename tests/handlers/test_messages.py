"""POST, GET and DELETE of messages, as API 3 has it."""

from __future__ import annotations

import re
from uuid import UUID, uuid4

import pytest

FIELDS = [
    "id",
    "session_id",
    "seq",
    "role",
    "content",
    "attachments",
    "tool_calls",
    "tool_call_id",
    "parent_id",
    "metadata",
    "usage",
    "created_at",
]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture
async def path(open_session):
    return f"/sessions/{(await open_session())['id']}/messages"


async def test_a_new_message_has_every_field_of_the_contract(api, path):
    answer = await api.post(path, json={"content": "Where is my order?"})

    message = answer.json()
    assert answer.status_code == 201
    assert list(message) == FIELDS
    assert answer.headers["location"] == f"/api/v1{path}/{message['id']}"
    assert UUID(message["id"]).version == 7
    assert TIME.fullmatch(message["created_at"])
    assert message == {
        "id": message["id"],
        "session_id": path.split("/")[2],
        "seq": 1,
        "role": "user",
        "content": "Where is my order?",
        "attachments": [],
        "tool_calls": [],
        "tool_call_id": None,
        "parent_id": None,
        "metadata": {},
        "usage": None,
        "created_at": message["created_at"],
    }
    assert (await api.get(f"{path}/{message['id']}")).json() == message


async def test_a_message_comes_back_as_it_was_sent(api, path):
    parent = (await api.post(path, json={"content": "first"})).json()
    draft = {
        "role": "assistant",
        "content": [{"type": "text", "text": "é"}, {"type": "data", "data": {"type": "x", "n": None}}],
        "parent_id": parent["id"],
        "metadata": {"model": "m", "list": [], "null": None},
        "usage": {"input_tokens": 0, "output_tokens": 2**53, "cost": 0.25},
    }

    message = (await api.post(path, json=draft)).json()

    assert {name: message[name] for name in draft} == draft
    assert (await api.get(f"{path}/{message['id']}")).json() == message
    assert (await api.get(path)).json()["data"] == [message, parent]


@pytest.mark.parametrize(
    ("draft", "fault"),
    [
        ({"tool_calls": [{"tool_name": "t", "arguments": {}}]}, "tool_calls"),
        ({"tool_call_id": "call-1"}, "tool_call_id"),
        ({"role": "tool"}, "tool_call_id"),
        ({"content": ""}, "content"),
        ({"role": "assistant", "content": ""}, "content"),
        ({"attachment_ids": ["x"]}, "attachment_ids[0]"),
        ({"content": [{"type": "attachment", "attachment_id": "x"}]}, "content[0].attachment_id"),
    ],
)
async def test_tool_calls_are_refused_where_they_do_not_belong_and_so_is_what_names_nothing(api, path, draft, fault):
    one = await api.post(path, json={"content": "x"} | draft)
    batch = await api.post(f"{path}/batch", json={"messages": [{"content": "x"}, {"content": "x"} | draft]})

    assert (one.status_code, one.json()["errors"][0]["path"]) == (400, f"body.{fault}")
    assert (batch.status_code, batch.json()["errors"][0]["path"]) == (400, f"body.messages[1].{fault}")
    assert (await api.get(path)).json()["data"] == []


@pytest.mark.parametrize("parent", ["unknown", "of another session", "of the same batch"])
async def test_a_parent_must_be_a_message_of_the_session(api, path, open_session, parent):
    elsewhere = f"/sessions/{(await open_session())['id']}/messages"
    other = (await api.post(elsewhere, json={"content": "x"})).json()
    parent_id = other["id"] if parent == "of another session" else str(uuid4())

    one = await api.post(path, json={"content": "x", "parent_id": parent_id})
    batch = await api.post(
        f"{path}/batch", json={"messages": [{"content": "x"}, {"content": "x", "parent_id": parent_id}]}
    )

    assert (one.status_code, one.json()["code"], one.json()["index"]) == (422, "invalid_reference", 0)
    assert (batch.status_code, batch.json()["code"], batch.json()["index"]) == (422, "invalid_reference", 1)
    assert (await api.get(path)).json()["data"] == []


async def test_a_batch_is_appended_whole_and_in_its_order(api, path):
    await api.post(path, json={"content": "before"})
    drafts = [{"content": f"b{n}", "role": ("user", "assistant")[n % 2], "metadata": {"n": n}} for n in range(100)]

    answer = await api.post(f"{path}/batch", json={"messages": drafts})

    appended = answer.json()["data"]
    assert answer.status_code == 201
    assert [message["seq"] for message in appended] == list(range(2, 102))
    assert [{name: message[name] for name in drafts[0]} for message in appended] == drafts
    page = (await api.get(path, params={"order": "asc", "limit": 200})).json()
    assert page["data"][1:] == appended


async def test_a_batch_whose_answer_would_show_one_file_without_end_is_refused(api, path):
    draft = {"content": "x", "attachment_ids": [f"00000000-0000-7000-8000-{number:012}" for number in range(99)]}
    refused = await api.post(f"{path}/batch", json={"messages": [draft] * 3})
    taken = await api.post(f"{path}/batch", json={"messages": [draft] * 2})

    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (400, "body.messages[2]")
    assert (taken.status_code, taken.json()["code"]) == (422, "invalid_reference"), "the files are not there"


@pytest.mark.parametrize("count", [0, 101])
async def test_a_batch_holds_one_to_a_hundred_messages(api, path, count):
    answer = await api.post(f"{path}/batch", json={"messages": [{"content": "x"}] * count})

    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, "body.messages")


async def test_every_fault_of_a_batch_is_named_and_nothing_is_appended(api, path):
    drafts = [{"content": "fine"}, {"content": []}, {"role": "nobody", "content": "x"}, {"content": "x", "seq": 1}]

    answer = await api.post(f"{path}/batch", json={"messages": drafts})

    assert answer.status_code == 400
    assert [fault["path"] for fault in answer.json()["errors"]] == [
        "body.messages[1].content",
        "body.messages[2].role",
        "body.messages[3].seq",
    ]
    assert (await api.get(path)).json()["data"] == []


async def test_a_deleted_message_leaves_a_tombstone_without_content(api, path, sql):
    first = (await api.post(path, json={"content": "before"})).json()
    draft = {"content": "canary-of-deletion", "metadata": {"m": "canary-of-deletion"}, "usage": {"cost": 1}}
    gone = (await api.post(path, json=draft | {"parent_id": first["id"]})).json()
    last = (await api.post(path, json={"content": "after", "parent_id": gone["id"]})).json()

    answers = [await api.delete(f"{path}/{gone['id']}") for _ in range(2)]

    assert [(answer.status_code, answer.content) for answer in answers] == [(204, b"")] * 2
    assert (await api.get(path)).json()["data"] == [last, first]
    tombstone = (await api.get(f"{path}/{gone['id']}", params={"include_deleted": "true"})).json()
    assert TIME.fullmatch(tombstone["deleted_at"])
    assert tombstone == gone | {
        "content": None,
        "metadata": {},
        "usage": None,
        "deleted_at": tombstone["deleted_at"],
    }
    assert (await api.get(path, params={"include_deleted": "true"})).json()["data"] == [last, tombstone, first]
    plain = await api.get(f"{path}/{gone['id']}")
    assert (plain.status_code, plain.json()["code"]) == (404, "message_not_found")
    for table in ("messages", "events", "outbox", "sessions"):
        rows = await sql(f"SELECT {table}::text AS row FROM {table}")
        assert not [row["row"] for row in rows if "canary-of-deletion" in row["row"]]


async def test_a_deleted_message_keeps_its_number_and_frees_its_place(api, open_session):
    session = await open_session(config={"max_messages": 2})
    path = f"/sessions/{session['id']}/messages"
    first = (await api.post(path, json={"content": "1"})).json()
    await api.post(path, json={"content": "2"})

    await api.delete(f"{path}/{first['id']}")

    third = await api.post(path, json={"content": "3"})
    assert (third.status_code, third.json()["seq"]) == (201, 3)
    assert (await api.get(f"/sessions/{session['id']}")).json()["message_count"] == 2


async def test_a_message_of_another_session_is_not_found_here(api, path, open_session):
    elsewhere = f"/sessions/{(await open_session())['id']}/messages"
    other = (await api.post(elsewhere, json={"content": "x"})).json()

    answers = [await api.get(f"{path}/{other['id']}"), await api.delete(f"{path}/{other['id']}")]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, "message_not_found")] * 2
    assert (await api.get(f"{elsewhere}/{other['id']}")).json() == other


async def test_a_user_takes_back_its_own_words_and_neither_the_prompt_nor_what_the_agent_does(
    api, app, tenant, make_key, client_of
):
    opened = await api.post(
        "/sessions", json={"agent_id": "a", "user_id": "ada", "activate": True, "system_prompt": "Be careful"}
    )
    path = f"/sessions/{opened.json()['id']}/messages"
    call = {"role": "assistant", "content": "", "tool_calls": [{"tool_name": "t"}]}
    said = [(await api.post(path, json=body)).json()["id"] for body in (call, {"content": "mine"})]
    (prompt,) = [entry["id"] for entry in (await api.get(path)).json()["data"] if entry["role"] == "system"]
    async with client_of(app, await make_key(tenant, "sessions:read", "sessions:write", user="ada")) as ada:
        answers = [await ada.delete(f"/api/v1{path}/{id_}") for id_ in (prompt, *said)]

    assert [answer.status_code for answer in answers] == [403, 403, 204]
    assert {answer.json()["required_scope"] for answer in answers[:2]} == {"sessions:act"}
    assert [entry["role"] for entry in (await api.get(path)).json()["data"]] == ["assistant", "system"]
