"""A context has the newest messages, what they answer, and the system's; it is empty where nothing can be shown."""

from __future__ import annotations

from typing import Any

import pytest

from service.domain.tool_call import RESULT_CHARACTERS_MAX
from service.handlers.context import SYSTEM_BYTES_MAX

PROMPT = "Be kind."
WORDS = [str(number) for number in range(2, 301)]
"""What is said in the 299 messages behind the prompt, by the user and the assistant in turn."""

LARGE = 900_000
"""Bytes of a message, of which two of the system's fit into a context, and four in all."""

FOUR_BYTES = "\N{BALLOON}"
"""Twelve results of as many characters as one may have take 4.8 MB, and a context holds 4 MiB."""

FORMATS = pytest.mark.parametrize("wanted", ["openai", "anthropic", "plain"])


@pytest.fixture
def say(api):
    """`await say(path, *messages)`: append the messages in batches, and answer them."""

    async def say_(path: str, *messages: dict[str, Any]) -> list[dict[str, Any]]:
        said: list[dict[str, Any]] = []
        for first in range(0, len(messages), 100):
            answer = await api.post(f"{path}/messages/batch", json={"messages": messages[first : first + 100]})
            assert answer.status_code == 201, answer.text
            said += answer.json()["data"]
        return said

    return say_


@pytest.fixture
def context(api):
    """`await context(path, "openai", limit=5)`: the document."""

    async def read(path: str, wanted: str = "openai", **parameters: Any) -> dict[str, Any]:
        answer = await api.get(f"{path}/context", params={"format": wanted, **parameters})
        assert answer.status_code == 200, answer.text
        return answer.json()  # type: ignore[no-any-return]

    return read


def talk(words: list[str]) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[n % 2], "content": word} for n, word in enumerate(words)]


def asking(*names: str) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"tool_name": name, "provider_call_id": name} for name in names],
    }


def told(name: str, text: str | None = None) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": name, "content": text or f"result of {name}"}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def texts_of(document: dict[str, Any]) -> list[str]:
    """Every text of a context in its order, the system's first where it stands apart; "" for a message without."""
    texts = [document["system"]] if "system" in document else []
    for message in document["messages"]:
        content = message["content"] or ""
        texts += [content] if isinstance(content, str) else [block["text"] for block in content]
    return texts


@FORMATS
async def test_the_system_prompt_stays_beside_the_last_hundred_of_three_hundred_messages(
    open_session, say, context, wanted
):
    path = f"/sessions/{(await open_session(system_prompt=PROMPT))['id']}"
    await say(path, *talk(WORDS))

    document = await context(path, wanted)

    notices = ["(the conversation began earlier)"] if wanted == "anthropic" else []
    assert texts_of(document) == [PROMPT, *notices, *WORDS[-100:]]


async def test_where_the_assistant_comes_first_behind_a_prompt_what_was_left_out_is_said(open_session, say, context):
    path = f"/sessions/{(await open_session(system_prompt=PROMPT))['id']}"
    await say(path, *talk(["2", "3", "4", "5"]))

    assert texts_of(await context(path, "anthropic", limit=3)) == [
        PROMPT, "(the conversation began earlier)", "3", "4", "5",
    ]  # fmt: skip


async def test_the_systems_messages_stand_where_they_were_said_and_are_not_counted(open_session, say, context):
    path = f"/sessions/{(await open_session(system_prompt=PROMPT))['id']}"
    await say(path, *talk(["2", "3"]), system("Be brief."), *talk(["5", "6"]), system("Be quick."))

    assert texts_of(await context(path, limit=1)) == [PROMPT, "Be brief.", "6", "Be quick."]
    assert texts_of(await context(path, limit=3)) == [PROMPT, "3", "Be brief.", "5", "6", "Be quick."]


@FORMATS
@pytest.mark.parametrize("limit", range(1, 7))
async def test_a_window_goes_back_to_the_message_that_its_first_results_belong_to(
    api, open_session, say, context, wanted, limit
):
    path = f"/sessions/{(await open_session())['id']}"
    names = [f"tool_{number}" for number in range(5)]
    await say(path, {"content": "go"}, asking(*names), *map(told, names))

    document = await context(path, wanted, limit=limit)

    shown = str(document["messages"])
    assert all(f"result of {name}" in shown for name in names)
    assert ("go" in shown) is False
    assert texts_of(await context(path, "plain", limit=7)) == ["go", ""]


async def test_a_result_that_comes_late_brings_its_message_and_all_its_results(open_session, say, context):
    path = f"/sessions/{(await open_session())['id']}"
    await say(path, {"content": "go"}, asking("slow", "fast"), told("fast"), *talk(["4", "5", "6"]), told("slow"))

    one, two = await context(path, limit=1), await context(path, limit=2)

    assert [(message["role"], message["content"]) for message in one["messages"]] == [
        ("assistant", None), ("tool", "result of slow"), ("tool", "result of fast"),
    ]  # fmt: skip
    assert one["messages"] + [{"role": "user", "content": "6"}] == two["messages"]


async def test_a_file_of_a_result_is_named_where_its_message_lies_before_the_window(api, open_session, say, context):
    path = f"/sessions/{(await open_session())['id']}"
    upload = await api.post(f"{path}/attachments", files={"file": ("report.txt", b"words")})
    parts = [{"type": "attachment", "attachment_id": upload.json()["id"]}]
    await say(path, asking("fast", "slow"), told("fast") | {"content": parts}, {"content": "and?"}, told("slow"))

    assert texts_of(await context(path, limit=1))[1] == "[attachment: report.txt]"


async def test_results_whose_message_was_deleted_do_not_push_out_what_can_be_shown(api, open_session, say, context):
    path = f"/sessions/{(await open_session())['id']}"
    names = [f"tool_{number}" for number in range(5)]
    _, asked, *_ = await say(path, {"content": "go"}, asking(*names), *map(told, names))
    await api.delete(f"{path}/messages/{asked['id']}")

    assert texts_of(await context(path, limit=5)) == ["go"]


async def test_the_system_takes_half_of_a_context_at_most_and_the_newest_of_it_stay(api, open_session, context):
    path = f"/sessions/{(await open_session())['id']}"
    for number, role in enumerate(["user", "system", "system", "user", "system", "user", "user"]):
        content = [{"type": "data", "data": {"number": number, "ballast": "x" * LARGE}}]
        assert (await api.post(f"{path}/messages", json={"role": role, "content": content})).status_code == 201

    shown = texts_of(await context(path))

    assert SYSTEM_BYTES_MAX // LARGE == 2
    assert [text[: len('{"number": 0')] for text in shown] == [f'{{"number": {number}' for number in (2, 4, 5, 6)]


async def test_the_message_that_results_bring_takes_room_with_all_its_results(api, open_session, say, context):
    path = f"/sessions/{(await open_session())['id']}"
    asked = (await api.post(f"{path}/messages", json=asking(*"abcdefghijkl"))).json()["tool_calls"]
    for call in asked[:-1]:
        done = {"action": "complete", "result": FOUR_BYTES * RESULT_CHARACTERS_MAX}
        assert (await api.post(f"{path}/tool-calls/{call['id']}", json=done)).status_code == 200
    await say(path, told("l") | {"content": FOUR_BYTES * RESULT_CHARACTERS_MAX})

    alone = await context(path, limit=1)
    await say(path, {"content": "well?"})
    beside = await context(path, limit=2)

    assert [message["role"] for message in alone["messages"]] == ["assistant", *["tool"] * 12]
    assert texts_of(beside) == ["well?"]
