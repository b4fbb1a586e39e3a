"""A context is bounded: by messages, by bytes, and always the newest are in it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from service.handlers.context import CONTEXT_BYTES_MAX

LARGE = 900_000
"""Bytes of one message, below the limit of a request; five of them are more than a context holds."""


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
    asking = {"role": "assistant", "content": "", "tool_calls": [{"tool_name": f"t{number}"} for number in range(6)]}
    calls = (await api.post(f"{path}/messages", json=asking)).json()["tool_calls"]
    for call in calls:
        done = {"action": "complete", "result": "y" * LARGE}
        assert (await api.post(f"{path}/tool-calls/{call['id']}", json=done)).status_code == 200

    context = (await api.get(f"{path}/context", params={"format": "openai"})).json()

    assert [message["role"] for message in context["messages"]] == ["assistant", *["tool"] * 6]
    assert all(len(message["content"]) == LARGE for message in context["messages"][1:])


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
