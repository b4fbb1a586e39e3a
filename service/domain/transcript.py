"""Transcripts in the providers' own message formats, such that their APIs take them as they are.

A provider refuses a conversation in which a tool call has no result in its place. So every call gets one there: its
result, or a sentence that says why there is none. A result whose call lies before the window is left out.
Sources: the published types of OpenAI's Chat Completions and of Anthropic's Messages.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Any, assert_never

import msgspec

from service.domain.message import Message, Role
from service.domain.tool_call import CallStatus, ToolCall

NAME_CHARACTERS_MAX = 64
"""Both providers' limit for the name of a function."""

UNFIT_FOR_NAMES = re.compile(r"[^A-Za-z0-9_-]")
FIT_FOR_IDS = re.compile(r"[A-Za-z0-9_-]{1,64}")
EMPTY = "(empty)"
CUT = "(the conversation began earlier)"


class Format(StrEnum):
    """Whose message format."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    PLAIN = "plain"


class Transcript(msgspec.Struct, frozen=True, omit_defaults=True):
    """The messages, oldest first; `system` only where the provider wants it apart."""

    format: Format
    messages: list[dict[str, Any]]
    system: str | None = None


def transcript_of(messages: list[Message], wanted: Format) -> Transcript:
    """`messages` (oldest first, without tombstones) in the format that is wanted."""
    match wanted:
        case Format.OPENAI:
            return Transcript(wanted, _openai(messages))
        case Format.ANTHROPIC:
            return _anthropic(messages)
        case Format.PLAIN:
            return Transcript(wanted, _plain(messages))
        case _:
            assert_never(wanted)


def result_of(call: ToolCall) -> str:  # noqa: PLR0911 - one for each status
    """What a model is told of a call: its result, or why there is none."""
    why = f" ({call.reason})" if call.reason else ""
    match call.status:
        case CallStatus.COMPLETED:
            return "(the result was deleted)" if call.result is None else _text_of(msgspec.json.decode(call.result))
        case CallStatus.FAILED:
            return f"The tool call failed: {call.error}"
        case CallStatus.REJECTED:
            return f"The tool call was rejected by {call.decided_by}{why}. It was not executed."
        case CallStatus.EXPIRED:
            return "Nobody approved the tool call in time. It was not executed."
        case CallStatus.CANCELLED:
            return f"The tool call was cancelled{why}."
        case CallStatus.PENDING:
            return "The tool call waits for approval. It has not been executed."
        case CallStatus.APPROVED | CallStatus.RUNNING:
            return "The tool call has no result yet."
        case _:
            assert_never(call.status)


def _text_of(value: Any) -> str:
    """A stored content or result as text: text parts joined, everything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(_is_part(part) for part in value):
        return "\n".join(_part_text(part) for part in value)
    return json.dumps(value, ensure_ascii=False)


def _is_part(value: Any) -> bool:
    """Whether a value has the shape of a message's part; a result may be any JSON, and look much like one."""
    if not isinstance(value, dict):
        return False
    text = value.get("type") == "text" and isinstance(value.get("text"), str)
    return text or (value.get("type") == "data" and "data" in value)


def _part_text(part: dict[str, Any]) -> str:
    return str(part["text"]) if part["type"] == "text" else json.dumps(part["data"], ensure_ascii=False)


def _content(message: Message) -> str:
    return _text_of(msgspec.json.decode(message.content))


class _Ids:
    """One id for each call, as the provider gave it where that is fit and not used twice in this transcript."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def of(self, call: ToolCall) -> str:
        theirs = call.provider_call_id or ""
        chosen = theirs if FIT_FOR_IDS.fullmatch(theirs) else str(call.id)
        if chosen in self._given:
            chosen = str(call.id)
        while chosen in self._given:  # somebody has named a call of theirs like this one of ours
            chosen += "-"
        self._given.add(chosen)
        return chosen


def _name(call: ToolCall) -> str:
    return UNFIT_FOR_NAMES.sub("_", call.tool_name)[:NAME_CHARACTERS_MAX]


def _openai(messages: list[Message]) -> list[dict[str, Any]]:
    ids = _Ids()
    written: list[dict[str, Any]] = []
    for message in messages:
        match message.role:
            case Role.SYSTEM | Role.USER:
                written.append({"role": message.role.value, "content": _content(message)})
            case Role.ASSISTANT:
                written += _openai_turn(message, ids)
            case Role.TOOL:
                continue  # its result stands behind the call that it completes
            case _:
                assert_never(message.role)
    return written


def _openai_turn(message: Message, ids: _Ids) -> list[dict[str, Any]]:
    text = _content(message)
    if not message.tool_calls:
        return [{"role": "assistant", "content": text}]
    named = [(ids.of(call), call) for call in message.tool_calls]
    calls = [
        {
            "id": id_,
            "type": "function",
            "function": {"name": _name(call), "arguments": bytes(call.arguments).decode()},
        }
        for id_, call in named
    ]
    results = [{"role": "tool", "tool_call_id": id_, "content": result_of(call)} for id_, call in named]
    return [{"role": "assistant", "content": text or None, "tool_calls": calls}, *results]


def _anthropic(messages: list[Message]) -> Transcript:
    ids = _Ids()
    turns: list[dict[str, Any]] = []
    system = []
    for message in messages:
        match message.role:
            case Role.SYSTEM:
                system.append(_content(message))
            case Role.USER:
                _add_turn(turns, "user", _anthropic_text(message) or [{"type": "text", "text": EMPTY}])
            case Role.ASSISTANT:
                _add_anthropic_turn(turns, message, ids)
            case Role.TOOL:
                continue  # its result stands behind the call that it completes
            case _:
                assert_never(message.role)
    if turns and turns[0]["role"] == "assistant":
        turns.insert(0, {"role": "user", "content": [{"type": "text", "text": CUT}]})
    return Transcript(Format.ANTHROPIC, turns, "\n\n".join(filter(str.strip, system)) or None)


def _add_anthropic_turn(turns: list[dict[str, Any]], message: Message, ids: _Ids) -> None:
    blocks = _anthropic_text(message)
    named = [(ids.of(call), call) for call in message.tool_calls]
    blocks += [
        {"type": "tool_use", "id": id_, "name": _name(call), "input": msgspec.json.decode(call.arguments)}
        for id_, call in named
    ]
    _add_turn(turns, "assistant", blocks or [{"type": "text", "text": EMPTY}])
    if named:
        results = [
            {
                "type": "tool_result",
                "tool_use_id": id_,
                "content": result_of(call).rstrip() or EMPTY,
                "is_error": call.status is not CallStatus.COMPLETED,
            }
            for id_, call in named
        ]
        _add_turn(turns, "user", results)


def _anthropic_text(message: Message) -> list[dict[str, Any]]:
    """The message's text as blocks. A block of white space alone is refused by the API, and so is trailing space."""
    text = _content(message).rstrip()
    return [{"type": "text", "text": text}] if text else []


def _add_turn(turns: list[dict[str, Any]], role: str, blocks: list[dict[str, Any]]) -> None:
    """Roles alternate: a further message of the same role goes on with the same turn, unless that would put results

    behind words, where the API refuses them.
    """
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def _plain(messages: list[Message]) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = []
    for message in messages:
        if message.role is Role.TOOL:
            continue
        turn: dict[str, Any] = {"role": message.role.value, "content": _content(message)}
        if message.tool_calls:
            turn["tool_calls"] = [
                {
                    "id": str(call.id),
                    "tool_name": call.tool_name,
                    "arguments": msgspec.json.decode(call.arguments),
                    "status": call.status.value,
                    "result": result_of(call),
                }
                for call in message.tool_calls
            ]
        written.append(turn)
    return written
