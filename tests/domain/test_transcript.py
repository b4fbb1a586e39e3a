"""Whatever was said, the providers' APIs take the transcript: their rules, checked on random conversations."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.message import Message, Role
from service.domain.tool_call import CallStatus, ToolCall
from service.domain.transcript import Format, result_of, transcript_of

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SESSION = UUID(int=1)
FIT = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What both providers take as the name of a function and as the id of a call."""

PROVIDER_IDS = ["call_1", "call_2", "toolu_01", "", " ", "é", "x" * 65, "a b", str(UUID(int=3)), f"{UUID(int=3)}-"]
TEXTS = st.sampled_from(["hello", "", " ", "\n", "trailing \n", "é😀"]) | st.text(max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["type", "text", "data", "x"]), inner | st.sampled_from(["text", "data"]),
                      max_size=3),
    max_leaves=6,
)  # fmt: skip
PARTS = st.lists(
    st.builds(lambda text: {"type": "text", "text": text}, st.text(min_size=1, max_size=5))
    | st.builds(lambda value: {"type": "data", "data": {"x": value}}, VALUES),
    min_size=1,
    max_size=3,
)


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def call_of(number: int, **fields: Any) -> ToolCall:
    call = ToolCall(
        id=UUID(int=number),
        session_id=SESSION,
        message_id=UUID(int=2),
        provider_call_id=None,
        tool_name="search",
        arguments=raw({}),
        original_arguments=None,
        requires_approval=False,
        status=CallStatus.APPROVED,
        decided_by="policy",
        decided_at=NOW,
        reason=None,
        expires_at=None,
        started_at=None,
        executed_at=None,
        result=None,
        error=None,
        created_at=NOW,
        version=1,
    )
    return msgspec.structs.replace(call, **fields)


def message_of(
    role: Role, content: Any, calls: list[ToolCall] | None = None, tool_call_id: str | None = None
) -> Message:
    return Message(
        UUID(int=2), SESSION, 1, role, raw(content), [], calls or [], tool_call_id, None, raw({}), None, NOW,
    )  # fmt: skip


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Any order of roles, calls of every status, and tool messages whose calls are before the window or nowhere."""
    numbers = iter(range(3, 1000))
    messages = []
    for role in draw(st.lists(st.sampled_from(Role), max_size=12)):
        content = draw(TEXTS | PARTS)
        calls = []
        if role is Role.ASSISTANT:
            calls = [
                call_of(
                    next(numbers),
                    provider_call_id=draw(st.none() | st.sampled_from(PROVIDER_IDS)),
                    tool_name=draw(st.sampled_from(["search", "mail.send", "größe", "x" * 200, "..."])),
                    arguments=raw(draw(st.dictionaries(st.text(max_size=3), VALUES, max_size=2))),
                    status=draw(st.sampled_from(CallStatus)),
                    result=draw(st.none() | st.builds(raw, VALUES)),
                    error=draw(st.sampled_from(["boom", None])),
                    reason=draw(st.sampled_from(["because", None])),
                )
                for _ in range(draw(st.integers(0, 3)))
            ]
        messages.append(message_of(role, content, calls, "gone" if role is Role.TOOL else None))
    return messages


def calls_in(messages: list[Message]) -> list[ToolCall]:
    return [call for message in messages for call in message.tool_calls]


@given(conversations())
def test_openai_finds_each_result_right_behind_its_call_and_no_other(messages: list[Message]):
    written = transcript_of(messages, Format.OPENAI).messages
    seen: set[str] = set()
    awaited: list[str] = []
    results = []
    for message in written:
        if awaited:
            assert (message["role"], message["tool_call_id"]) == ("tool", awaited.pop(0))
            assert isinstance(message["content"], str)
            results.append(message["content"])
            continue
        assert message["role"] in {"system", "user", "assistant"}
        assert isinstance(message["content"], str) or message.get("tool_calls")
        for call in message.get("tool_calls", []):
            assert message["role"] == "assistant"
            assert call["type"] == "function"
            assert FIT.fullmatch(call["id"])
            assert call["id"] not in seen
            assert FIT.fullmatch(call["function"]["name"])
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
            seen.add(call["id"])
            awaited.append(call["id"])

    assert awaited == []
    assert results == [result_of(call) for call in calls_in(messages)]


@given(conversations())
def test_anthropic_finds_alternating_turns_and_each_result_first_in_the_next(messages: list[Message]):
    transcript = transcript_of(messages, Format.ANTHROPIC)
    turns = transcript.messages
    seen: set[str] = set()
    awaited: list[str] = []
    for place, turn in enumerate(turns):
        assert turn["role"] == ("user", "assistant")[place % 2]
        assert turn["content"]
        types = [block["type"] for block in turn["content"]]
        results = [block for block in turn["content"] if block["type"] == "tool_result"]
        assert types[: len(awaited)] == ["tool_result"] * len(awaited)
        assert [block["tool_use_id"] for block in results] == awaited
        awaited = []
        for block in turn["content"]:
            match block["type"]:
                case "text":
                    assert block["text"].strip()
                    assert not block["text"][-1].isspace()
                case "tool_use":
                    assert turn["role"] == "assistant"
                    assert FIT.fullmatch(block["id"])
                    assert block["id"] not in seen
                    assert FIT.fullmatch(block["name"])
                    assert isinstance(block["input"], dict)
                    seen.add(block["id"])
                    awaited.append(block["id"])
                case kind:
                    assert kind == "tool_result"
                    assert block["content"].strip()
                    assert isinstance(block["is_error"], bool)

    assert awaited == []
    assert len(seen) == len(calls_in(messages))
    assert transcript.system is None or transcript.system.strip()


@given(conversations())
def test_plain_gives_every_call_what_became_of_it(messages: list[Message]):
    written = transcript_of(messages, Format.PLAIN).messages
    told = [call for message in written for call in message.get("tool_calls", [])]

    assert [message["role"] for message in written] == [m.role for m in messages if m.role is not Role.TOOL]
    assert [(call["id"], call["status"], call["result"]) for call in told] == [
        (str(call.id), call.status, result_of(call)) for call in calls_in(messages)
    ]


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("words", "words"),
        ("", ""),
        (None, "null"),
        ([], "[]"),
        ({"a": [1, None]}, '{"a": [1, null]}'),
        ([{"type": "text", "text": "a"}, {"type": "data", "data": {"b": 1}}], 'a\n{"b": 1}'),
        ([{"type": "text"}], '[{"type": "text"}]'),
        ([{"type": "text", "text": 1}], '[{"type": "text", "text": 1}]'),
        ([{"type": "image", "url": "é"}], '[{"type": "image", "url": "é"}]'),
    ],
)
def test_a_result_is_text_where_it_is_text_and_json_otherwise(result: Any, text: str):
    assert result_of(call_of(3, status=CallStatus.COMPLETED, result=raw(result))) == text


@pytest.mark.parametrize("status", CallStatus)
def test_a_call_that_was_not_completed_says_so(status: CallStatus):
    call = call_of(3, status=status, decided_by="ada", reason="too dear", error="boom", result=raw("RESULT"))
    words = {
        CallStatus.PENDING: "waits for approval",
        CallStatus.APPROVED: "no result yet",
        CallStatus.RUNNING: "no result yet",
        CallStatus.REJECTED: "rejected by ada (too dear)",
        CallStatus.EXPIRED: "Nobody approved",
        CallStatus.CANCELLED: "cancelled (too dear)",
        CallStatus.FAILED: "failed: boom",
        CallStatus.COMPLETED: "RESULT",
    }

    assert words[status] in result_of(call)
    assert ("RESULT" in result_of(call)) is (status is CallStatus.COMPLETED)


def test_a_conversation_that_begins_with_the_assistant_says_that_it_was_cut():
    written = transcript_of([message_of(Role.ASSISTANT, "hi")], Format.ANTHROPIC).messages

    assert [turn["role"] for turn in written] == ["user", "assistant"]
