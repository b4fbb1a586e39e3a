"""What tools say, over HTTP: of calls that were never executed, and in how many characters, whichever way it comes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, NamedTuple

import pytest

WORDS = "the user rejected this"
EMOJI = "\U0001f600"
LONGEST = 100_000
"""Characters of a result."""

AROUND_DATA = len('[{"type":"data","data":{"a":""}}]')
AROUND_OBJECT = len('{"a":""}')
AROUND_TEXTS = len('[{"type":"text","text":""},{"type":"text","text":""}]')


class Asked(NamedTuple):
    """A call that an assistant asked for, and the path of its session."""

    path: str
    call: dict[str, Any]

    @property
    def call_path(self) -> str:
        return f"{self.path}/tool-calls/{self.call['id']}"


Ask = Callable[..., Awaitable[Asked]]


@pytest.fixture
def ask(api, open_session) -> Ask:
    """`await ask(requires_approval=False)`: a new tool call, which waits for approval unless a field says otherwise."""

    async def asked(**fields: Any) -> Asked:
        path = f"/sessions/{(await open_session())['id']}"
        call = {"tool_name": "shell", "requires_approval": True, "provider_call_id": "call_1"} | fields
        answer = await api.post(f"{path}/messages", json={"role": "assistant", "content": "", "tool_calls": [call]})
        assert answer.status_code == 201, answer.text
        return Asked(path, answer.json()["tool_calls"][0])

    return asked


def told(name: str, content: Any = WORDS) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": name, "content": content}


async def end(api: Any, sql: Any, asked: Asked, status: str) -> None:
    """Let a pending call end without a result."""
    if status == "expired":
        await sql("UPDATE tool_calls SET expires_at = created_at WHERE id = CAST(:id AS uuid)", id=asked.call["id"])
    else:
        action = {"rejected": "reject", "cancelled": "cancel"}[status]
        answer = await api.post(asked.call_path, json={"action": action, "reason": "too dear"})
        assert answer.status_code == 200, answer.text


async def shown_in(api: Any, path: str) -> dict[str, Any]:
    """What each format of the context has in the place of the first call's result."""
    contexts = {
        form: (await api.get(f"{path}/context", params={"format": form})).json()["messages"]
        for form in ("openai", "anthropic", "plain")
    }
    return {
        "openai": contexts["openai"][1]["content"],
        "anthropic": contexts["anthropic"][2]["content"][0]["content"],
        "is_error": contexts["anthropic"][2]["content"][0]["is_error"],
        "plain": contexts["plain"][0]["tool_calls"][0]["result"],
    }


async def types_of(api: Any, path: str) -> list[str]:
    return [event["type"] for event in (await api.get(f"{path}/events")).json()["data"]]


@pytest.mark.parametrize("status", ["rejected", "expired", "cancelled"])
async def test_a_tools_message_about_a_call_that_was_never_executed_is_stored_and_shown(api, ask, sql, status):
    asked = await ask()
    await end(api, sql, asked, status)
    before, events = (await api.get(asked.call_path)).json(), await types_of(api, asked.path)

    batch = {"messages": [told("call_1"), {"content": "then do something else"}]}
    answer = await api.post(f"{asked.path}/messages/batch", json=batch)

    assert answer.status_code == 201
    assert [message["tool_call_id"] for message in answer.json()["data"]] == [asked.call["id"], None]
    assert (before["status"], before["result"]) == (status, None)
    assert (await api.get(asked.call_path)).json() == before
    assert await types_of(api, asked.path) == [*events, "message.created", "message.created"]
    assert await shown_in(api, asked.path) == {"openai": WORDS, "anthropic": WORDS, "is_error": True, "plain": WORDS}


async def test_a_call_that_the_policy_rejects_and_the_words_about_it_come_in_one_batch(api, open_session):
    path = f"/sessions/{(await open_session(config={'blocked_tools': ['rm']}))['id']}"
    call = {"tool_name": "rm", "provider_call_id": "call_1"}
    asking = {"role": "assistant", "content": "", "tool_calls": [call]}

    answer = await api.post(f"{path}/messages/batch", json={"messages": [asking, told("call_1")]})

    assert answer.status_code == 201
    assert [call["status"] for call in answer.json()["data"][0]["tool_calls"]] == ["rejected"]
    assert (await shown_in(api, path))["openai"] == WORDS


async def test_when_the_words_about_a_rejected_call_are_deleted_its_reason_is_shown(api, ask, sql):
    asked = await ask()
    await end(api, sql, asked, "rejected")
    reason = await shown_in(api, asked.path)
    message = (await api.post(f"{asked.path}/messages", json=told(asked.call["id"]))).json()
    shown = await shown_in(api, asked.path)

    assert (await api.delete(f"{asked.path}/messages/{message['id']}")).status_code == 204

    assert "too dear" in reason["openai"]
    assert shown["openai"] == WORDS
    assert await shown_in(api, asked.path) == reason


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        ([], "pending"),
        ([{"action": "approve"}, {"action": "complete", "result": 1}], "completed"),
        ([{"action": "approve"}, {"action": "fail", "error": "boom"}], "failed"),
    ],
)
async def test_a_tools_message_for_a_call_that_waits_or_has_an_outcome_is_409_with_its_batch(api, ask, steps, status):
    asked = await ask()
    for step in steps:
        assert (await api.post(asked.call_path, json=step)).status_code == 200

    answer = await api.post(f"{asked.path}/messages/batch", json={"messages": [{"content": "hi"}, told("call_1")]})

    assert (answer.status_code, answer.json()["code"]) == (409, "invalid_transition")
    assert answer.json()["current_status"] == status
    assert (await api.get(asked.path)).json()["message_count"] == 1


RESULTS: dict[str, Callable[[int], Any]] = {
    "text": lambda more: "y" * (LONGEST + more),
    "emoji": lambda more: EMOJI * (LONGEST + more),
    "data": lambda more: [{"type": "data", "data": {"a": "y" * (LONGEST - AROUND_DATA + more)}}],
    "texts": lambda more: [
        {"type": "text", "text": "y" * 50_000},
        {"type": "text", "text": EMOJI * (LONGEST - AROUND_TEXTS - 50_000 + more)},
    ],
}


@pytest.mark.parametrize("shape", RESULTS)
@pytest.mark.parametrize("door", ["complete", "message"])
async def test_a_result_has_one_limit_whichever_way_it_comes(api, ask, door, shape):
    """One character more is refused, and the same document with the longest result is taken."""
    asked = await ask(requires_approval=False)
    answers = []
    for more in (1, 0):
        result = RESULTS[shape](more)
        if door == "complete":
            answers.append(await api.post(asked.call_path, json={"action": "complete", "result": result}))
        else:
            answers.append(await api.post(f"{asked.path}/messages", json=told("call_1", result)))
    refused, taken = answers

    text = shape in {"text", "emoji"}
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
    assert refused.json()["errors"] == [
        {
            "path": "body.result" if door == "complete" else "body.content",
            "message": "Expected `str` of length <= 100000" if text else "Longer than 100000 characters of JSON",
        }
    ]
    assert taken.status_code == (200 if door == "complete" else 201)
    assert (await api.get(asked.call_path)).json()["result"] == RESULTS[shape](0)


async def test_an_object_as_a_result_is_counted_as_its_json(api, ask):
    asked = await ask(requires_approval=False)
    longest = {"a": "y" * (LONGEST - AROUND_OBJECT)}

    refused = await api.post(asked.call_path, json={"action": "complete", "result": {"a": longest["a"] + "y"}})
    taken = await api.post(asked.call_path, json={"action": "complete", "result": longest})

    assert (refused.status_code, [fault["path"] for fault in refused.json()["errors"]]) == (400, ["body.result"])
    assert (taken.status_code, taken.json()["result"]) == (200, longest)


async def test_a_session_shows_at_once_that_a_decision_has_moved_its_time(api, ask, sql):
    asked = await ask()
    before = [(await api.get(asked.path)).json()["expires_at"] for _ in range(2)]  # the second may be a copy

    await api.post(asked.call_path, json={"action": "approve"})
    shown = (await api.get(asked.path)).json()

    (row,) = await sql(
        "SELECT expires_at FROM sessions WHERE id = CAST(:id AS uuid)", id=asked.path.removeprefix("/sessions/")
    )
    assert shown["expires_at"] > before[0] == before[1]
    assert datetime.fromisoformat(shown["expires_at"]) == row["expires_at"]


async def test_a_kept_answer_that_shows_a_result_goes_with_the_message_that_brought_it(api, open_session):
    messages = f"/sessions/{(await open_session())['id']}/messages"
    asking = {"role": "assistant", "content": "", "tool_calls": [{"tool_name": "t", "requires_approval": True}]}
    (call,) = (await api.post(messages, json=asking)).json()["tool_calls"]
    path = f"{messages.removesuffix('/messages')}/tool-calls/{call['id']}"
    await api.post(path, json={"action": "approve"})
    result = await api.post(messages, json={"role": "tool", "tool_call_id": call["id"], "content": "a secret"})
    again = {"json": {"action": "approve"}, "headers": {"Idempotency-Key": "again"}}
    shown = await api.post(path, **again)

    await api.delete(f"{messages}/{result.json()['id']}")
    replayed = await api.post(path, **again)

    assert shown.json()["result"] == "a secret"
    assert (replayed.status_code, replayed.json()["code"]) == (404, "message_not_found")
