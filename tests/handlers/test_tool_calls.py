"""Tool calls over HTTP: asked, seen, approved, run, told to the model, and refused where they must be."""

from __future__ import annotations

import asyncio
import json

import pytest

from service.domain.api_key import DEFAULT_SCOPES


@pytest.fixture
async def session(api):
    config = {"approval_tools": ["shell*"], "blocked_tools": ["rm*"], "allowed_tools": ["shell*", "rm*", "search"]}
    return (await api.post("/sessions", json={"agent_id": "a", "activate": True, "config": config})).json()


def asking(*names: str) -> dict[str, object]:
    calls = [
        {"tool_name": name, "arguments": {"n": place}, "provider_call_id": f"call_{place}"}
        for place, name in enumerate(names)
    ]
    return {"role": "assistant", "content": "", "tool_calls": calls}


async def test_the_policy_decides_how_each_call_begins(api, session):
    answer = await api.post(f"/sessions/{session['id']}/messages", json=asking("shell.run", "rm", "search", "other"))

    calls = answer.json()["tool_calls"]
    assert answer.status_code == 201
    assert [call["status"] for call in calls] == ["pending", "rejected", "approved", "rejected"]
    assert [call["decided_by"] for call in calls] == [None, "policy", "policy", "policy"]
    listed = (await api.get(f"/sessions/{session['id']}/messages")).json()["data"][0]
    assert calls == listed["tool_calls"]
    assert (await api.get(f"/sessions/{session['id']}")).json()["pending_tool_call_count"] == 1


async def test_the_whole_walk(api, session):
    path = f"/sessions/{session['id']}"
    call = (await api.post(f"{path}/messages", json=asking("shell.run"))).json()["tool_calls"][0]
    inbox = (await api.get("/tool-calls", params={"status": "pending"})).json()
    waiting = asyncio.create_task(api.get(f"{path}/tool-calls/{call['id']}", params={"wait": 30}))
    approved = await api.post(
        f"{path}/tool-calls/{call['id']}", json={"action": "approve", "arguments": {"n": 7}, "reason": "careful"}
    )
    woken = await waiting
    again = await api.post(
        f"{path}/tool-calls/{call['id']}", json={"action": "approve", "arguments": {"n": 7}, "reason": "careful"}
    )
    other = await api.post(f"{path}/tool-calls/{call['id']}", json={"action": "reject"})
    started = await api.post(f"{path}/tool-calls/{call['id']}", json={"action": "start"})
    result = await api.post(f"{path}/messages", json={"role": "tool", "tool_call_id": "call_0", "content": "done"})
    context = (await api.get(f"{path}/context", params={"format": "openai"})).json()
    events = (await api.get(f"{path}/events")).json()["data"]

    assert [call["id"]] == [one["id"] for one in inbox["data"]]
    assert inbox["count"] == 1
    assert woken.json()["status"] == "approved"
    assert approved.json()["arguments"] == {"n": 7}
    assert approved.json()["original_arguments"] == {"n": 0}
    assert (200, approved.json()) == (again.status_code, again.json())
    assert (other.status_code, other.json()["code"]) == (409, "already_decided")
    assert started.json()["status"] == "running"
    assert (201, call["id"]) == (result.status_code, result.json()["tool_call_id"])
    assert [message["role"] for message in context["messages"]] == ["assistant", "tool"]
    assert context["messages"][1]["content"] == "done"
    assert [event["type"] for event in events] == [
        "session.created", "session.activated", "message.created", "tool_call.requested", "tool_call.approved",
        "tool_call.started", "message.created", "tool_call.completed",
    ]  # fmt: skip
    assert list(range(1, 9)) == [event["seq"] for event in events]


RANDOM_ID = "019aabcd-0000-7abc-8def-0123456789ab"
ARGUMENTS_BYTES_MAX = 256 * 1024


@pytest.fixture
def ask(api, open_session):
    """`await ask(session=…, requires_approval=False)`: the path and the document of a new tool call."""

    async def asked(session=None, **fields):
        session = session or await open_session()
        call = {"tool_name": "shell", "arguments": {"n": 1}, "requires_approval": True} | fields
        message = {"role": "assistant", "content": "", "tool_calls": [call]}
        answer = await api.post(f"/sessions/{session['id']}/messages", json=message)
        assert answer.status_code == 201, answer.text
        call = answer.json()["tool_calls"][0]
        return f"/sessions/{session['id']}/tool-calls/{call['id']}", call

    return asked


@pytest.mark.parametrize(
    ("steps", "action", "status"),
    [
        ([], {"action": "approve"}, "approved"),
        ([], {"action": "reject", "reason": "no"}, "rejected"),
        ([], {"action": "cancel", "reason": "never mind"}, "cancelled"),
        (["approve"], {"action": "start"}, "running"),
        (["approve"], {"action": "complete", "result": [1, None, {"é": 1.5}]}, "completed"),
        (["approve"], {"action": "complete", "result": None}, "completed"),
        (["approve"], {"action": "fail", "error": "boom"}, "failed"),
        (["approve"], {"action": "cancel"}, "cancelled"),
        (["approve", "start"], {"action": "complete", "result": "done"}, "completed"),
        (["approve", "start"], {"action": "fail", "error": "boom"}, "failed"),
        (["approve", "start"], {"action": "cancel"}, "cancelled"),
    ],
)
async def test_every_step_of_the_diagram_answers_with_the_call(api, ask, steps, action, status):
    path, asked = await ask()
    for step in steps:
        assert (await api.post(path, json={"action": step})).status_code == 200

    answer = await api.post(path, json=action)

    call = answer.json()
    assert (answer.status_code, call["status"], call["version"]) == (200, status, len(steps) + 2)
    assert call == (await api.get(path)).json()
    assert list(call) == list(asked)
    assert {name: call[name] for name in ("result", "error", "reason") if name in action} == {
        name: action[name] for name in ("result", "error", "reason") if name in action
    }


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({}, "body.action"),
        ({"action": "aprove"}, "body.action"),
        ({"action": "approve", "decided_by": "somebody else"}, "body.decided_by"),
        ({"action": "approve", "result": 1}, "body.result"),
        ({"action": "approve", "arguments": []}, "body.arguments"),
        ({"action": "reject", "arguments": {}}, "body.arguments"),
        ({"action": "reject", "reason": "x" * 2001}, "body.reason"),
        ({"action": "start", "reason": "x"}, "body.reason"),
        ({"action": "complete"}, "body.result"),
        ({"action": "complete", "result": 1, "error": "x"}, "body.error"),
        ({"action": "fail"}, "body.error"),
        ({"action": "fail", "error": ""}, "body.error"),
    ],
)
async def test_a_malformed_action_is_400_and_changes_nothing(api, ask, body, fault):
    path, call = await ask()

    answer = await api.post(path, json=body)

    assert (answer.status_code, [one["path"] for one in answer.json()["errors"]]) == (400, [fault])
    assert (await api.get(path)).json() == call


async def test_a_call_is_found_in_its_own_session_only(api, ask, open_session):
    path, call = await ask()
    elsewhere = f"/sessions/{(await open_session())['id']}/tool-calls/{call['id']}"
    nowhere = path.replace(call["id"], RANDOM_ID)

    for address in (elsewhere, nowhere):
        for answer in (await api.get(address), await api.post(address, json={"action": "approve"})):
            assert (answer.status_code, answer.json()["code"]) == (404, "tool_call_not_found")
    assert (await api.get(path)).json() == call


async def test_an_agent_cannot_approve_its_own_call_and_a_decider_can_do_nothing_else(
    app, tenant, ask, make_key, client_of
):
    path, _ = await ask()
    agent_key = await make_key(tenant, *DEFAULT_SCOPES, name="agent")
    decider_key = await make_key(tenant, "tool_calls:decide", name="decider")
    async with client_of(app, agent_key) as agent, client_of(app, decider_key) as decider:
        address = f"/api/v1{path}"
        for action in ("approve", "reject"):
            refused = await agent.post(address, json={"action": action})
            assert (refused.status_code, refused.json()["required_scope"]) == (403, "tool_calls:decide")
        for action, needed in (("cancel", "sessions:write"), ("start", "sessions:act")):
            refused = await decider.post(address, json={"action": action})
            assert (refused.status_code, refused.json()["required_scope"]) == (403, needed)
        approved = await decider.post(address, json={"action": "approve"})
        started = await agent.post(address, json={"action": "start"})
        events = (await agent.get(f"/api/v1/sessions/{approved.json()['session_id']}/events")).json()["data"]

    assert (approved.status_code, approved.json()["decided_by"]) == (200, "decider")
    assert (started.status_code, started.json()["decided_by"]) == (200, "decider")
    assert [(event["type"], event["actor"]) for event in events[-2:]] == [
        ("tool_call.approved", {"kind": "service", "subject": "decider"}),
        ("tool_call.started", {"kind": "service", "subject": "agent"}),
    ]


async def test_arguments_of_256_kib_are_413_where_they_are_asked_for_and_where_they_are_edited(api, ask, open_session):
    def arguments(size):
        return {"x": "y" * (size - len('{"x":""}'))}

    session = await open_session()
    messages = f"/sessions/{session['id']}/messages"
    draft = {"role": "assistant", "content": "x", "tool_calls": [{"tool_name": "t", "arguments": arguments(10)}]}
    big = {"tool_name": "t", "arguments": arguments(ARGUMENTS_BYTES_MAX)}
    path, call = await ask(arguments=arguments(ARGUMENTS_BYTES_MAX - 1))
    refused = [
        await api.post(messages, json=draft | {"tool_calls": [big]}),
        await api.post(f"{messages}/batch", json={"messages": [draft, draft | {"tool_calls": [big]}]}),
        await api.post(path, json={"action": "approve", "arguments": arguments(ARGUMENTS_BYTES_MAX)}),
    ]

    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(413, "payload_too_large")] * 3
    assert (await api.get(messages)).json()["data"] == []
    assert (await api.get(path)).json() == call
    edited = {"action": "approve", "arguments": arguments(ARGUMENTS_BYTES_MAX - 1)}
    assert (await api.post(path, json=edited)).status_code == 200


async def test_a_wait_ends_without_a_decision_and_tells_that_there_is_none(api, ask):
    path, call = await ask()

    answer = await api.get(path, params={"wait": 1})

    assert (answer.status_code, answer.json()) == (200, call)
    for wait in (-1, 61, "x"):
        assert (await api.get(path, params={"wait": wait})).status_code == 400


async def test_who_waits_hears_that_the_time_for_approval_is_over(api, ask, open_session):
    session = await open_session(config={"approval_timeout_seconds": 1})
    path, call = await ask(session)

    answer = await api.get(path, params={"wait": 30})
    refused = await api.post(path, json={"action": "approve"})

    assert answer.json() == call | {"status": "expired", "version": 2}
    assert (refused.status_code, refused.json()["code"]) == (409, "invalid_transition")
    assert (refused.json()["current_status"], refused.json()["allowed"]) == ("expired", [])


async def test_the_inbox_narrows_counts_and_pages_without_skip_or_repeat(
    app, api, ask, open_session, tenant, make_key, client_of
):
    ada, bob = [await open_session(user_id=name, agent_id=f"agent-{name}") for name in ("ada", "bob")]
    calls = [(await ask(session, tool_name=name))[1] for name in ("mail", "shell") for session in (ada, bob, ada)]
    ids = [call["id"] for call in calls][::-1]
    done_path = f"/sessions/{ada['id']}/tool-calls/{ids[0]}"
    await api.post(done_path, json={"action": "reject"})

    async def inbox(client=api, **params):
        found, cursor = [], None
        while True:
            page = (await client.get("/tool-calls", params=params | ({"cursor": cursor} if cursor else {}))).json()
            found += [call["id"] for call in page["data"]]
            cursor = page["next_cursor"]
            assert page["has_more"] is (cursor is not None)
            if cursor is None:
                return found, page["count"]

    assert await inbox(limit=1) == (ids, 6)
    assert await inbox(limit=2, status="pending") == (ids[1:], 5)
    assert await inbox(limit=2, status=["pending", "rejected"]) == (ids, 6)
    assert await inbox(status="rejected") == (ids[:1], 1)
    assert await inbox(status="expired") == ([], 0)
    assert await inbox(tool_name="shell", status="pending") == (ids[1:3], 2)
    assert await inbox(user_id="bob") == await inbox(agent_id="agent-bob") == ([ids[1], ids[4]], 2)
    async with client_of(app, await make_key(tenant, user="bob")) as own:
        own.base_url = api.base_url
        assert await inbox(own, limit=1) == ([ids[1], ids[4]], 2)
        assert await inbox(own, user_id="ada") == ([], 0)
    cursor = (await api.get("/tool-calls", params={"limit": 1})).json()["next_cursor"]
    for params in ({"status": "pending"}, {"user_id": "ada"}):
        other = await api.get("/tool-calls", params={"cursor": cursor, "limit": 1} | params)
        assert (other.status_code, other.json()["code"]) == (400, "invalid_cursor")


async def test_the_calls_of_a_session_are_listed_oldest_first_with_filters(api, ask, open_session):
    session = await open_session()
    calls = [(await ask(session, tool_name=name))[1] for name in ("a", "b", "a")]
    path = f"/sessions/{session['id']}/tool-calls"
    first = (await api.get(path, params={"limit": 2})).json()
    rest = (await api.get(path, params={"limit": 2, "cursor": first["next_cursor"]})).json()

    assert first["data"] + rest["data"] == calls
    assert rest["has_more"] is False
    assert (await api.get(path, params={"tool_name": "a"})).json()["data"] == [calls[0], calls[2]]
    assert (await api.get(path, params={"status": "approved"})).json()["data"] == []
    assert (await api.get(path, params={"status": "aproved"})).status_code == 400


async def test_a_deleted_message_takes_the_arguments_and_results_of_its_calls_with_it(api, open_session, sql, tenant):
    canary = "canary-of-a-call"
    session = await open_session()
    path = f"/sessions/{session['id']}"
    asked = {"tool_name": "t", "arguments": {"x": canary}, "requires_approval": True}
    message = (
        await api.post(
            f"{path}/messages",
            json={"role": "assistant", "content": canary, "tool_calls": [asked] * 2},
            headers={"Idempotency-Key": "asking"},
        )
    ).json()
    first, second = (f"{path}/tool-calls/{call['id']}" for call in message["tool_calls"])
    await api.post(first, json={"action": "approve", "arguments": {"y": canary}, "reason": canary})
    await api.post(first, json={"action": "complete", "result": canary}, headers={"Idempotency-Key": "done"})
    assert (await api.post(second, json={"action": "approve"})).status_code == 200

    assert (await api.delete(f"{path}/messages/{message['id']}")).status_code == 204

    calls = [(await api.get(address)).json() for address in (first, second)]
    assert [(call["status"], call["arguments"], call["result"]) for call in calls] == [
        ("completed", {}, None),
        ("cancelled", {}, None),
    ]
    for table in ("messages", "tool_calls", "events", "outbox"):
        rows = await sql(f"SELECT {table}::text AS row FROM {table} WHERE tenant_id = :tenant", tenant=tenant)
        assert not [row["row"] for row in rows if canary in row["row"]]
    replay = await api.post(
        first, json={"action": "complete", "result": canary}, headers={"Idempotency-Key": "done"}
    )  # fmt: skip
    assert (replay.status_code, replay.json()["code"]) == (404, "message_not_found")


async def test_a_deleted_tool_message_takes_the_result_of_its_call_with_it(api, ask, sql, tenant):
    canary = "canary-of-a-result"
    path, call = await ask(requires_approval=False)
    messages = f"/sessions/{call['session_id']}/messages"
    told = (await api.post(messages, json={"role": "tool", "tool_call_id": call["id"], "content": canary})).json()
    assert (await api.get(path)).json()["result"] == canary

    await api.delete(f"{messages}/{told['id']}")

    assert (await api.get(path)).json()["result"] is None
    context = await api.get(f"/sessions/{call['session_id']}/context", params={"format": "openai"})
    assert context.json()["messages"][1]["content"] == "(the result was deleted)"
    for table in ("messages", "tool_calls", "events", "outbox"):
        rows = await sql(f"SELECT {table}::text AS row FROM {table} WHERE tenant_id = :tenant", tenant=tenant)
        assert not [row["row"] for row in rows if canary in row["row"]]


async def test_a_batch_brings_calls_and_their_results_by_the_providers_ids(api, open_session):
    session = await open_session()
    path = f"/sessions/{session['id']}"
    asked = [{"tool_name": name, "provider_call_id": f"toolu_{name}"} for name in "ab"]
    told = [{"role": "tool", "tool_call_id": f"toolu_{name}", "content": name} for name in "ba"]
    drafts = [
        {"content": "do it"},
        {"role": "assistant", "content": "", "tool_calls": asked},
        *told,
        {"role": "assistant", "content": "done"},
    ]
    answer = await api.post(f"{path}/messages/batch", json={"messages": drafts})
    messages = answer.json()["data"]
    calls = (await api.get(f"{path}/tool-calls")).json()["data"]
    context = (await api.get(f"{path}/context", params={"format": "anthropic"})).json()

    assert answer.status_code == 201
    assert [message["seq"] for message in messages] == [1, 2, 3, 4, 5]
    assert [(call["status"], call["result"]) for call in calls] == [("completed", "a"), ("completed", "b")]
    assert [message["tool_call_id"] for message in messages[2:4]] == [calls[1]["id"], calls[0]["id"]]
    assert [turn["role"] for turn in context["messages"]] == ["user", "assistant", "user", "assistant"]
    assert [block["content"] for block in context["messages"][2]["content"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("told", "status", "code"),
    [
        ("call_0", 409, "invalid_transition"),
        ("call_9", 422, "invalid_reference"),
        (RANDOM_ID, 422, "invalid_reference"),
    ],
)
async def test_a_batch_with_a_result_that_cannot_be_taken_appends_nothing(api, session, told, status, code):
    path = f"/sessions/{session['id']}"
    drafts = [asking("shell.run"), {"role": "tool", "tool_call_id": told, "content": "x"}]

    answer = await api.post(f"{path}/messages/batch", json={"messages": drafts})

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (await api.get(f"{path}/messages")).json()["data"] == []
    assert (await api.get(f"{path}/tool-calls")).json()["data"] == []


@pytest.mark.parametrize("result", [[{"type": "text"}], [{"type": "text", "text": None}], [{"type": "data"}], [], {}])
@pytest.mark.parametrize("form", ["openai", "anthropic", "plain"])
async def test_a_result_of_any_shape_has_its_place_in_the_context(api, ask, form, result):
    path, call = await ask(requires_approval=False)
    await api.post(path, json={"action": "complete", "result": result})

    answer = await api.get(f"/sessions/{call['session_id']}/context", params={"format": form})

    assert answer.status_code == 200
    assert json.dumps(json.dumps(result)) in json.dumps(answer.json())
