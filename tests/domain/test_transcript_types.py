"""The providers' own packages and published rules judge the transcripts of random conversations.

The packages declare what a request may hold as TypedDicts; pydantic checks against them, strictly and closed: an
unknown key is a fault as much as a missing one. What their APIs refuse beyond that stands in `provider_rules.py`, with
its sources. Each judge must refuse the planted faults below, or its silence would mean nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given, settings
from provider_rules import anthropic_faults, openai_faults
from random_conversations import conversations

from service.domain.message import Message
from service.domain.transcript import Format, transcript_of

EXAMPLES = 150
"""Of a hundred, too few have a result that comes late or was deleted."""

Judge = Callable[[list[dict[str, Any]]], list[str]]


def judge_of(package: str, name: str) -> Judge:
    """What tells why messages are not of a type of a provider's package; nothing: they are.

    The packages are imported here, when a test asks for them: that takes seconds, which other tests need not wait for.
    Where a type also takes the package's own response objects, which are open, pydantic makes one of what is not quite
    the dictionary: then the messages do not come back as they were.
    """
    pydantic = import_module("pydantic")
    kind = getattr(import_module(package), name)
    adapter = pydantic.TypeAdapter(list[kind], config=pydantic.ConfigDict(extra="forbid", strict=True))

    def judge(messages: list[dict[str, Any]]) -> list[str]:
        try:
            read = consumed(adapter.validate_python(messages))
        except pydantic.ValidationError as error:
            return [f"{entry['loc']}: {entry['msg']}" for entry in error.errors()]
        return [] if read == messages else [f"read as {read}"]

    return judge


def consumed(value: Any) -> Any:
    """The value with every iterator read to its end: pydantic looks at what an Iterable holds only when it is read."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return value
    if isinstance(value, Mapping):
        return {key: consumed(entry) for key, entry in value.items()}
    return [consumed(entry) for entry in value]


@pytest.fixture(scope="module")
def openai() -> Judge:
    return judge_of("openai.types.chat", "ChatCompletionMessageParam")


@pytest.fixture(scope="module")
def anthropic() -> Judge:
    return judge_of("anthropic.types", "MessageParam")


@settings(max_examples=EXAMPLES)
@given(messages=conversations())
def test_openai_takes_every_conversation(openai: Judge, messages: list[Message]):
    transcript = transcript_of(messages, Format.OPENAI)

    assert openai(transcript.messages) == []
    assert openai_faults(transcript.messages) == []
    assert transcript.system is None


@settings(max_examples=EXAMPLES)
@given(messages=conversations())
def test_anthropic_takes_every_conversation(anthropic: Judge, messages: list[Message]):
    transcript = transcript_of(messages, Format.ANTHROPIC)

    assert anthropic(transcript.messages) == []
    assert anthropic_faults(transcript.messages, transcript.system) == []


OPENAI: list[dict[str, Any]] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "hello"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": "{}"}},
            {"id": "call_2", "type": "function", "function": {"name": "search", "arguments": "{}"}},
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "found"},
    {"role": "tool", "tool_call_id": "call_2", "content": "found"},
]
ANTHROPIC: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "text", "text": "hello"}]},
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "I look"},
            {"type": "tool_use", "id": "toolu_1", "name": "search", "input": {}},
            {"type": "tool_use", "id": "toolu_2", "name": "search", "input": {}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "found", "is_error": False},
            {"type": "tool_result", "tool_use_id": "toolu_2", "content": "found", "is_error": False},
            {"type": "text", "text": "and?"},
        ],
    },
]
NOTHING = object()


def planted(messages: list[dict[str, Any]], path: str, value: Any) -> list[dict[str, Any]]:
    """A copy with another value at `path` (such as `2.tool_calls.0.id`), or without what stands there."""
    spoilt: Any = copy.deepcopy(messages)
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place = spoilt
    for step in way:
        place = place[step]
    if value is NOTHING:
        del place[last]
    else:
        place[last] = value
    return spoilt  # type: ignore[no-any-return]


def test_both_judges_let_pass_what_is_right(openai: Judge, anthropic: Judge):
    assert openai(OPENAI) == []
    assert anthropic(ANTHROPIC) == []
    assert openai_faults(OPENAI) == []
    assert anthropic_faults(ANTHROPIC, "Be kind.") == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("1.role", "human"),
        ("1.role", NOTHING),
        ("1.content", NOTHING),
        ("1.content", None),
        ("1.content", 5),
        ("1.contents", "hello"),
        ("1.tool_calls", []),
        ("2.tool_calls", {"id": "call_1"}),
        ("2.tool_calls.1.id", NOTHING),
        ("2.tool_calls.1.id", 7),
        ("2.tool_calls.1.type", "tool"),
        ("2.tool_calls.1.type", NOTHING),
        ("2.tool_calls.1.name", "search"),
        ("2.tool_calls.1.function", NOTHING),
        ("2.tool_calls.1.function.arguments", {}),
        ("2.tool_calls.1.function.arguments", NOTHING),
        ("2.tool_calls.1.function.input", {}),
        ("3.tool_call_id", NOTHING),
        ("3.content", None),
        ("3.is_error", False),
    ],
)
def test_the_types_of_openai_refuse_a_planted_fault(openai: Judge, path: str, value: Any):
    assert openai(planted(OPENAI, path, value)) != []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("0.role", "tool"),
        ("0.role", NOTHING),
        ("0.content", NOTHING),
        ("0.content", None),
        ("0.name", "ada"),
        ("0.content.0.text", NOTHING),
        ("0.content.0.text", None),
        ("0.content.0.type", "words"),
        ("0.content.0.type", NOTHING),
        ("1.tool_calls", []),
        ("1.content.2.id", NOTHING),
        ("1.content.2.input", "{}"),
        ("1.content.2.input", NOTHING),
        ("1.content.2.arguments", {}),
        ("2.content.1.tool_use_id", NOTHING),
        ("2.content.1.tool_call_id", "toolu_2"),
        ("2.content.1.is_error", "no"),
        ("2.content.1.content", {"found": True}),
        ("2.content.1.content", [{"type": "text"}]),
    ],
)
def test_the_types_of_anthropic_refuse_a_planted_fault(anthropic: Judge, path: str, value: Any):
    assert anthropic(planted(ANTHROPIC, path, value)) != []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("4", NOTHING),
        ("2", NOTHING),
        ("3", {"role": "user", "content": "meanwhile"}),
        ("3.tool_call_id", "call_2"),
        ("4.tool_call_id", "call_3"),
        ("2.tool_calls.1.id", "call_1"),
        ("2.tool_calls.1.id", "x" * 41),
        ("2.tool_calls.1.id", "a.b"),
        ("2.tool_calls.1.id", "call_2\n"),
        ("2.tool_calls.1.function.name", "mail.send"),
        ("2.tool_calls.1.function.name", "x" * 65),
        ("2.tool_calls.1.function.name", ""),
        ("2.tool_calls.1.function.arguments", "[]"),
        ("2.tool_calls", []),
        ("2.role", "user"),
    ],
)
def test_the_rules_of_openai_refuse_a_planted_fault(path: str, value: Any):
    assert openai_faults(planted(OPENAI, path, value)) != []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("0", NOTHING),
        ("1", NOTHING),
        ("2", NOTHING),
        ("2.content.1", NOTHING),
        ("2.content.1.tool_use_id", "toolu_1"),
        ("2.content.1.tool_use_id", "toolu_3"),
        ("2.content.0", {"type": "text", "text": "first, a word"}),
        ("2.content.1.content", " "),
        ("2.content.2.text", ""),
        ("2.content.2.text", " \n"),
        ("2.role", "assistant"),
        ("1.content.0.text", "I look "),
        ("1.content.2.id", "toolu_1"),
        ("1.content.2.id", "functions.search:0"),
        ("1.content.2.id", ""),
        ("1.content.2.name", "mail.send"),
        ("1.content.2.name", "x" * 129),
        ("1.content.2.input", []),
        ("0.content", []),
    ],
)
def test_the_rules_of_anthropic_refuse_a_planted_fault(path: str, value: Any):
    assert anthropic_faults(planted(ANTHROPIC, path, value), None) != []


def test_the_rules_of_anthropic_refuse_a_system_prompt_of_white_space_and_words_before_results():
    words_first = planted(ANTHROPIC, "2.content", [ANTHROPIC[2]["content"][place] for place in (2, 0, 1)])

    assert anthropic_faults(ANTHROPIC, " ") != []
    assert anthropic_faults(words_first, None) != []
