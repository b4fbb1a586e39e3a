"""A context is bounded: by messages, by bytes, and always the newest are in it; what it names can be called."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from service.domain.tool_call import RESULT_CHARACTERS_MAX
from service.handlers.context import CONTEXT_BYTES_MAX

LARGE = 900_000
"""Bytes of one message, below the limit of a request; five of them are more than a context holds."""

LONGEST = "\U0001f600" * RESULT_CHARACTERS_MAX
"""A result of as many bytes as one can have."""
RESULTS = 12
"""More of them than a context holds."""


@pytest.fixture
def say(api):
    """`await say(path, number)`: a message of a size near the limit, which begins with its number."""

    async def say_(path: str, number: int) -> None:
        content = [{"type": "data", "data": {"number": number, "ballast": "x" * LARGE}}]
        answer = await api.post(f"{path}/messages", json={"content": content})
        assert answer.status_code == 201

    return say_


def numbers_of(context: dict[str, Any]) -> list[int]:
    return [msgspec.json.decode(message["content"])["number"] for message in context["messages"]]


async def test_what_is_too_much_leaves_the_oldest_out(api, open_session, say):
    path = f"/sessions/{(await open_session())['id']}"
    for number in range(6):
        await say(path, number)

    answer = await api.get(f"{path}/context")

    assert numbers_of(answer.json()) == [2, 3, 4, 5]
    assert len(answer.content) < CONTEXT_BYTES_MAX
    assert numbers_of((await api.get(f"{path}/context", params={"limit": 2})).json()) == [4, 5]


async def test_the_newest_message_is_there_however_large_its_results_are(api, open_session):
    path = f"/sessions/{(await open_session())['id']}"
    await api.post(f"{path}/messages", json={"content": "go"})
    asking = {"role": "assistant", "content": "", "tool_calls": [{"tool_name": "t"}] * RESULTS}
    calls = (await api.post(f"{path}/messages", json=asking)).json()["tool_calls"]
    for call in calls:
        done = {"action": "complete", "result": LONGEST}
        assert (await api.post(f"{path}/tool-calls/{call['id']}", json=done)).status_code == 200

    context = (await api.get(f"{path}/context", params={"format": "openai"})).json()

    assert RESULTS * len(LONGEST.encode()) > CONTEXT_BYTES_MAX
    assert [message["role"] for message in context["messages"]] == ["assistant", *["tool"] * RESULTS]
    assert all(message["content"] == LONGEST for message in context["messages"][1:])


async def test_deleted_messages_take_no_room(api, open_session, say):
    path = f"/sessions/{(await open_session())['id']}"
    await api.post(f"{path}/messages", json={"content": [{"type": "data", "data": {"number": -1}}]})
    for number in range(6):
        await say(path, number)
    for message in (await api.get(f"{path}/messages", params={"limit": 4})).json()["data"]:
        await api.delete(f"{path}/messages/{message['id']}")

    assert numbers_of((await api.get(f"{path}/context")).json()) == [-1, 0, 1]


async def test_a_session_without_messages_has_an_empty_context(api, open_session):
    path = f"/sessions/{(await open_session())['id']}"

    assert (await api.get(f"{path}/context")).json() == {"format": "plain", "messages": []}


async def ask(api, path: str, *names: str) -> list[dict[str, Any]]:
    asking = {"role": "assistant", "content": "", "tool_calls": [{"tool_name": name} for name in names]}
    return (await api.post(f"{path}/messages", json=asking)).json()["tool_calls"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("wanted", ["openai", "anthropic"])
async def test_a_call_by_the_name_that_a_context_shows_waits_and_is_rejected_like_the_first(api, open_session, wanted):
    config = {"approval_tools": ["mail.*"], "blocked_tools": ["db.drop"]}
    path = f"/sessions/{(await open_session(config=config))['id']}"
    first = await ask(api, path, "mail.send", "db.drop", "web.search")

    context = (await api.get(f"{path}/context", params={"format": wanted})).json()
    second = await ask(api, path, *context["tool_names"])
    mapped = await ask(api, path, *context["tool_names"].values())

    assert context["tool_names"] == {"mail_send": "mail.send", "db_drop": "db.drop", "web_search": "web.search"}
    for calls in (first, second, mapped):
        assert [(call["status"], call["reason"]) for call in calls] == [
            ("pending", "approval_tools has 'mail.*'"),
            ("rejected", "blocked_tools has 'db.drop'"),
            ("approved", "no approval is needed"),
        ]
