"""POST, GET, PATCH and DELETE of a session, as API 2 has it."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from uuid import UUID

import pytest

DEFAULTS = {
    "max_messages": 10_000,
    "max_attachments": 100,
    "max_attachment_size": 10 * 1024 * 1024,
    "timeout_minutes": 60,
    "approval_timeout_seconds": None,
    "allowed_tools": [],
    "blocked_tools": [],
    "approval_tools": [],
    "enable_code_interpreter": True,
    "enable_mcp_tools": True,
    "enable_file_search": True,
    "system_prompt_override": None,
}
FIELDS = [
    "id",
    "user_id",
    "agent_id",
    "status",
    "title",
    "external_id",
    "config",
    "metadata",
    "tags",
    "message_count",
    "attachment_count",
    "pending_tool_call_count",
    "version",
    "created_at",
    "updated_at",
    "last_message_at",
    "expires_at",
    "ended_at",
    "end_reason",
]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def test_a_new_session_has_every_field_of_the_contract(api):
    answer = await api.post("/sessions", json={"agent_id": "agent"})

    session = answer.json()
    assert answer.status_code == 201
    assert list(session) == FIELDS
    assert answer.headers["location"] == f"/api/v1/sessions/{session['id']}"
    assert answer.headers["etag"] == '"1"'
    assert UUID(session["id"]).version == 7
    assert TIME.fullmatch(session["created_at"])
    assert TIME.fullmatch(session["expires_at"])
    expected = {
        "user_id": "service",
        "agent_id": "agent",
        "status": "created",
        "title": None,
        "external_id": None,
        "config": DEFAULTS,
        "metadata": {},
        "tags": [],
        "message_count": 0,
        "attachment_count": 0,
        "pending_tool_call_count": 0,
        "version": 1,
        "last_message_at": None,
        "ended_at": None,
        "end_reason": None,
    }
    assert {name: session[name] for name in expected} == expected


async def test_a_session_is_read_as_it_was_answered(api):
    wish = {
        "agent_id": "a" * 200,
        "user_id": "someone",
        "title": "",
        "external_id": "ticket/1042 ü",
        "config": {"timeout_minutes": 5, "allowed_tools": ["mail.*"], "approval_timeout_seconds": 1},
        "metadata": {"order": 1042, "nested": {"none": None, "list": []}},
        "tags": ["orders", "x" * 64],
        "activate": True,
    }

    made = (await api.post("/sessions", json=wish)).json()

    read = await api.get(f"/sessions/{made['id']}")
    assert read.json() == made
    assert read.headers["etag"] == '"1"'
    assert made["status"] == "active"
    assert {name: made[name] for name in wish if name not in {"config", "activate"}} == {
        name: wish[name] for name in wish if name not in {"config", "activate"}
    }
    assert made["config"] == DEFAULTS | wish["config"]
    lifetime = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert lifetime == timedelta(minutes=5)


async def test_a_system_prompt_is_message_one(api):
    wish = {"agent_id": "agent", "system_prompt": "Be brief."}

    session = (await api.post("/sessions", json=wish)).json()

    page = (await api.get(f"/sessions/{session['id']}/messages")).json()
    assert [(m["seq"], m["role"], m["content"]) for m in page["data"]] == [(1, "system", "Be brief.")]
    assert (session["message_count"], session["status"]) == (1, "created")
    assert session["last_message_at"] == session["created_at"]


@pytest.mark.parametrize("field", ["enable_code_interpreter", "enable_mcp_tools", "enable_file_search"])
async def test_switches_are_true_or_false(api, field):
    async def status(value):
        return (await api.post("/sessions", json={"agent_id": "a", "config": {field: value}})).status_code

    assert [await status(value) for value in (False, True, 1, "true", None)] == [201, 201, 400, 400, 400]


@pytest.mark.parametrize(
    ("field", "taken", "refused"),
    [
        ("agent_id", ["x", "é" * 200], ["", "x" * 201, None, 5]),
        ("user_id", ["x" * 200, None], ["", "x" * 201]),
        ("title", ["", "x" * 200, None], ["x" * 201, 5]),
        ("external_id", ["x" * 200, None], ["", "x" * 201]),
        ("if_exists", ["error", "return"], ["ERROR", None, ""]),
        ("system_prompt", ["x", "x" * 100_000, None], ["", "x" * 100_001]),
        ("metadata", [{}, {"k": "x" * (16 * 1024 - 8)}], [{"k": "x" * (16 * 1024 - 7)}, [], None, "{}"]),
        ("tags", [[], ["t"] * 32, ["t" * 64]], [["t"] * 33, ["t" * 65], [""], "t", None]),
        ("activate", [True, False], [1, "true", None]),
        ("config", [{}], [None, [], "{}"]),
    ],
)
async def test_fields_of_a_new_session_have_the_bounds_of_the_contract(api, field, taken, refused):
    async def status(value):
        return (await api.post("/sessions", json={"agent_id": "a"} | {field: value})).status_code

    assert [await status(value) for value in taken] == [201] * len(taken)
    assert [await status(value) for value in refused] == [400] * len(refused)


async def test_patch_merges_metadata_key_by_key(api, open_session):
    session = await open_session(metadata={"keep": 1, "drop": 2, "deep": {"keep": [1], "drop": None}, "list": [1, 2]})
    patch = {
        "metadata": {"drop": None, "deep": {"drop": None, "new": {"x": None, "y": 0}}, "list": [3], "absent": None}
    }

    answer = await api.patch(f"/sessions/{session['id']}", json=patch)

    assert answer.status_code == 200
    assert answer.json()["metadata"] == {"keep": 1, "deep": {"keep": [1], "new": {"y": 0}}, "list": [3]}
    assert answer.headers["etag"] == f'"{answer.json()["version"]}"' == '"2"'
    assert (await api.get(f"/sessions/{session['id']}")).json() == answer.json()


@pytest.mark.parametrize(("before", "after"), [(1, True), (True, 1), (0, False), (1, 1.0), (0.0, -0.0), ([1], [True])])
async def test_patch_tells_apart_what_python_takes_for_equal(api, open_session, before, after):
    session = await open_session(metadata={"flag": before})

    patched = await api.patch(f"/sessions/{session['id']}", json={"metadata": {"flag": after}})

    assert repr(patched.json()["metadata"]["flag"]) == repr(after)
    assert repr((await api.get(f"/sessions/{session['id']}")).json()["metadata"]["flag"]) == repr(after)


async def test_patch_keeps_what_it_does_not_name_and_null_takes_away(api, open_session):
    session = await open_session(title="t", tags=["a"], metadata={"k": 1}, config={"max_messages": 5})

    titled = (await api.patch(f"/sessions/{session['id']}", json={"title": None})).json()
    untagged = (await api.patch(f"/sessions/{session['id']}", json={"tags": None})).json()
    emptied = (await api.patch(f"/sessions/{session['id']}", json={"metadata": None})).json()
    reset = (await api.patch(f"/sessions/{session['id']}", json={"config": None})).json()

    assert (titled["title"], titled["tags"], titled["metadata"]) == (None, ["a"], {"k": 1})
    assert (untagged["tags"], untagged["metadata"]) == ([], {"k": 1})
    assert (emptied["metadata"], emptied["config"]["max_messages"]) == ({}, 5)
    assert reset["config"] == DEFAULTS


async def test_patch_of_config_changes_one_field_and_null_goes_back_to_the_default(api, open_session):
    session = await open_session(config={"max_messages": 5, "timeout_minutes": 7, "system_prompt_override": "x"})
    patch = {"config": {"max_messages": None, "system_prompt_override": None, "blocked_tools": ["rm"]}}

    patched = (await api.patch(f"/sessions/{session['id']}", json=patch)).json()

    assert patched["config"] == DEFAULTS | {"timeout_minutes": 7, "blocked_tools": ["rm"]}
    assert patched["expires_at"] == session["expires_at"]


async def test_patch_refuses_what_create_refuses(api, open_session):
    session = await open_session(metadata={"k": "x" * 16_000})
    path = f"/sessions/{session['id']}"

    refused = [
        await api.patch(path, json=patch)
        for patch in (
            {"title": "x" * 201},
            {"tags": [""]},
            {"config": {"max_messages": 0}},
            {"config": {"unknown": 1}},
            {"metadata": {"more": "x" * 500}},
            {"agent_id": "b"},
            {"status": "ended"},
            {"version": 7},
            {"external_id": "e"},
        )
    ]

    assert {answer.status_code for answer in refused} == {400}
    assert [answer.json()["errors"][0]["path"] for answer in refused] == [
        "body.title",
        "body.tags[0]",
        "body.config.max_messages",
        "body.config.unknown",
        "body.metadata",
        "body.agent_id",
        "body.status",
        "body.version",
        "body.external_id",
    ]
    assert (await api.get(path)).json() == session


async def test_delete_ends_a_session_and_again_changes_nothing(api, open_session):
    session = await open_session()
    path = f"/sessions/{session['id']}"

    first = await api.delete(path)
    ended = (await api.get(path)).json()
    second = await api.delete(path, params={"mode": "end"})

    assert (first.status_code, first.content) == (204, b"")
    assert (second.status_code, second.content) == (204, b"")
    assert (ended["status"], ended["end_reason"]) == ("ended", "requested")
    assert TIME.fullmatch(ended["ended_at"])
    assert (await api.get(path)).json() == ended


async def test_purge_erases_everything_of_the_session_and_nothing_else(api, open_session, sql):
    kept, purged = await open_session(), await open_session(external_id="again", system_prompt="Secret.")
    await api.post(f"/sessions/{purged['id']}/messages", json={"content": "x"}, headers={"Idempotency-Key": "k"})

    answer = await api.delete(f"/sessions/{purged['id']}", params={"mode": "purge"})

    assert (answer.status_code, answer.content) == (204, b"")
    for path in ("", "/messages", "/events"):
        assert (await api.get(f"/sessions/{purged['id']}{path}")).json()["code"] == "session_not_found"
    for table in ("messages", "events", "outbox", "idempotency_keys"):
        rows = await sql(f"SELECT FROM {table} WHERE session_id = CAST(:id AS uuid)", id=purged["id"])
        assert (table, len(rows)) == (table, 0)
    assert (await api.get(f"/sessions/{kept['id']}")).json() == kept
    assert (await api.post("/sessions", json={"agent_id": "a", "external_id": "again"})).status_code == 201
    assert (await api.delete(f"/sessions/{purged['id']}", params={"mode": "purge"})).status_code == 404


async def test_purge_needs_the_scope_admin(api, app, tenant, make_key, client_of, open_session):
    session = await open_session()
    async with client_of(app, await make_key(tenant, "sessions:read", "sessions:write")) as writer:
        refused = await writer.delete(f"/api/v1/sessions/{session['id']}", params={"mode": "purge"})

    assert (refused.status_code, refused.json()["required_scope"]) == (403, "admin")
    assert (await api.get(f"/sessions/{session['id']}")).json() == session


async def test_an_ended_session_can_be_read_and_purged_but_not_changed(api, open_session):
    session = await open_session()
    await api.delete(f"/sessions/{session['id']}")

    patched = await api.patch(f"/sessions/{session['id']}", json={"title": "late"})

    assert (patched.status_code, patched.json()["code"]) == (409, "session_ended")
    assert (patched.json()["current_status"], patched.json()["allowed"]) == ("ended", [])
    assert (await api.get(f"/sessions/{session['id']}")).json()["title"] is None
    assert (await api.delete(f"/sessions/{session['id']}?mode=purge")).status_code == 204
