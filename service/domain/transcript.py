"""Transcripts in the providers' own message formats, such that their APIs take them as they are.

A provider refuses a conversation in which a tool call has no result in its place. So every call gets one there: its
result, or a sentence that says why there is none. A result whose call is not among the messages is left out. Where only
a system message was said, Anthropic's format has no messages yet: the first word is the user's.

The rules, each of which a 400 enforces, and where they are published:

- OpenAI, Chat Completions (types of the `openai` package): an assistant message with `tool_calls` is followed directly
  by one `tool` message for each, and no other `tool` message stands anywhere; `arguments` is JSON text. A function's
  name is of `a-z, A-Z, 0-9, _ and -`, at most 64 (`FunctionDefinition.name`). A call's id is at most 40 characters
  (`string_above_max_length`, github.com/vercel/ai/issues/5171; newer models take 64).
- Anthropic, Messages (types of the `anthropic` package): the first turn is the user's and turns alternate (consecutive
  ones are combined, says `MessageCreateParams.messages`), `system` stands apart. All results come in the very next user
  turn and first in it (platform.claude.com/docs/en/agents-and-tools/tool-use/handle-tool-calls); `input` is an object;
  ids match `^[a-zA-Z0-9_-]+$` and are unique (github.com/langchain-ai/langchain/pull/37756,
  github.com/anthropics/claude-code/issues/20901); no text is empty or white space alone (…/claude-code/issues/23369);
  an assistant's last text does not end in white space.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, assert_never
from uuid import UUID

import msgspec

from service.domain.call_ids import CallIds
from service.domain.content_text import text_of
from service.domain.file_words import FileWords
from service.domain.json_text import parsed
from service.domain.message import Message, Role
from service.domain.tool_call import ENDED_WITHOUT_RESULT, CallStatus, ToolCall, why_cancelled
from service.domain.tool_name import shown_name

EMPTY = "(empty)"
CUT = "(the conversation began earlier)"
BEGINS = "(the assistant speaks first)"

NO_TEXTS: Mapping[UUID, str] = MappingProxyType({})
NO_FILES = FileWords((), NO_TEXTS)


class Format(StrEnum):
    """Whose message format."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    PLAIN = "plain"


class Transcript(msgspec.Struct, frozen=True, omit_defaults=True):
    """The messages, oldest first; `system` only where the provider wants it apart.

    `tool_names`: the tool's own name for each name that is not written as it is, only where there is one.
    """

    format: Format
    messages: list[dict[str, Any]]
    system: str | None = None
    tool_names: dict[str, str] = {}


class _Turn(msgspec.Struct, frozen=True):
    """A message as text, and the calls that it brought, each with what a model is told of it."""

    role: Role
    text: str
    calls: list[tuple[ToolCall, str]]


def transcript_of(messages: list[Message], wanted: Format, texts: Mapping[UUID, str] = NO_TEXTS) -> Transcript:
    """`messages` (oldest first, without tombstones) in the format that is wanted.

    `texts`: what stands in files, by their id; of the others the name is told.
    """
    turns = _turns(messages, texts)
    match wanted:
        case Format.OPENAI:
            return Transcript(wanted, _openai(turns), tool_names=_changed_names(turns))
        case Format.ANTHROPIC:
            return _anthropic(turns, is_cut=_is_cut(messages))
        case Format.PLAIN:
            return Transcript(wanted, _plain(turns))
        case _:
            assert_never(wanted)


def _turns(messages: list[Message], texts: Mapping[UUID, str]) -> list[_Turn]:
    """Every message but those of tools: their text stands behind the call that it completes or tells of.

    The newest is written first: what stands in a file is shown once, where it was referred to last.
    """
    files = FileWords((file for message in messages for file in message.attachments), texts)
    results: dict[str | None, str] = {}
    turns = []
    for message in reversed(messages):
        text = _text(message, files)
        if message.role is Role.TOOL:
            results.setdefault(message.tool_call_id, text)
        else:
            calls = [(call, _told(call, results, files)) for call in message.tool_calls]
            turns.append(_Turn(message.role, text, calls))
    return turns[::-1]


def _told(call: ToolCall, results: Mapping[str | None, str], files: FileWords) -> str:
    """The words that stand for a call's result: what its tool said in a message, or the result itself."""
    return results[str(call.id)] if _is_said(call, results) else result_of(call, files)


def _is_said(call: ToolCall, results: Mapping[str | None, str]) -> bool:
    """Whether a tool's message stands in the result's place: the result itself, or words about why there is none."""
    return call.status in {CallStatus.COMPLETED, *ENDED_WITHOUT_RESULT} and str(call.id) in results


def result_of(call: ToolCall, files: FileWords = NO_FILES) -> str:  # noqa: PLR0911 - one for each status
    """What a model is told of a call: its result, or why there is none."""
    match call.status:
        case CallStatus.COMPLETED:
            if call.result is None:
                return "(the result was deleted)"
            return text_of(parsed(call.result), files)
        case CallStatus.FAILED:
            return f"The tool call failed: {call.error}"
        case CallStatus.REJECTED:
            return f"The tool call was rejected by {call.decided_by}{_because(call.reason)}. It was not executed."
        case CallStatus.EXPIRED:
            return "Nobody approved the tool call in time. It was not executed."
        case CallStatus.CANCELLED:
            return f"The tool call was cancelled{_because(why_cancelled(call))}."
        case CallStatus.PENDING:
            return "The tool call waits for approval. It has not been executed."
        case CallStatus.APPROVED | CallStatus.RUNNING:
            return "The tool call has no result yet."
        case _:
            assert_never(call.status)


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""


def _text(message: Message, files: FileWords) -> str:
    """A message's content, and a line for each attachment of it that no part of the content places."""
    content = parsed(message.content)
    placed = {part.get("attachment_id") for part in content} if isinstance(content, list) else set()
    text = text_of(content, files)
    others = [files.next_for(str(file.id)) for file in message.attachments if str(file.id) not in placed]
    return "\n".join([text, *others] if text else others)


def _changed_names(turns: list[_Turn]) -> dict[str, str]:
    """Written name → the call's own, where they differ. Where two are written alike, the newest call's counts."""
    names = [call.tool_name for turn in turns for call, _ in turn.calls]
    return {shown_name(name): name for name in names if shown_name(name) != name}


def _is_cut(messages: list[Message]) -> bool:
    """Whether anything was said before the first message here that is not the system's, and is not here."""
    first = next(((place, said) for place, said in enumerate(messages) if said.role is not Role.SYSTEM), None)
    return first is not None and first[1].seq > first[0] + 1


def _openai(turns: list[_Turn]) -> list[dict[str, Any]]:
    ids = CallIds()
    written: list[dict[str, Any]] = []
    for turn in turns:
        if not turn.calls:
            written.append({"role": turn.role.value, "content": turn.text})
            continue
        named = [(ids.of(call), call, result) for call, result in turn.calls]
        calls = [
            {
                "id": id_,
                "type": "function",
                "function": {"name": shown_name(call.tool_name), "arguments": bytes(call.arguments).decode()},
            }
            for id_, call, _ in named
        ]
        written.append({"role": turn.role.value, "content": turn.text or None, "tool_calls": calls})
        written += [{"role": "tool", "tool_call_id": id_, "content": result} for id_, _, result in named]
    return written


def _anthropic(turns: list[_Turn], *, is_cut: bool) -> Transcript:
    ids = CallIds()
    written: list[dict[str, Any]] = []
    for turn in turns:
        match turn.role:
            case Role.USER:
                _add(written, "user", _text_blocks(turn.text))
            case Role.ASSISTANT:
                _add_assistant(written, turn, ids)
            case Role.SYSTEM | Role.TOOL:
                continue  # system messages stand apart, and no turn is a tool's
            case _:
                assert_never(turn.role)
    if written and written[0]["role"] == "assistant":
        written.insert(0, {"role": "user", "content": _text_blocks(CUT if is_cut else BEGINS)})
    system = [turn.text for turn in turns if turn.role is Role.SYSTEM and turn.text.strip()]
    return Transcript(Format.ANTHROPIC, written, "\n\n".join(system) or None, _changed_names(turns))


def _add_assistant(written: list[dict[str, Any]], turn: _Turn, ids: CallIds) -> None:
    """The assistant's words and calls, and all results as the next user turn, before anything that a user says."""
    text = turn.text.rstrip()
    named = [(ids.of(call), call, result) for call, result in turn.calls]
    calls = [
        {
            "type": "tool_use",
            "id": id_,
            "name": shown_name(call.tool_name),
            "input": parsed(call.arguments),
        }
        for id_, call, _ in named
    ]
    _add(written, "assistant", [*(_text_blocks(text) if text or not calls else []), *calls])
    if named:
        results = [
            {
                "type": "tool_result",
                "tool_use_id": id_,
                "content": result if result.strip() else EMPTY,
                "is_error": call.status is not CallStatus.COMPLETED,
            }
            for id_, call, result in named
        ]
        _add(written, "user", results)


def _text_blocks(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text if text.strip() else EMPTY}]


def _add(written: list[dict[str, Any]], role: str, blocks: list[dict[str, Any]]) -> None:
    """Turns alternate: a further message of the same role goes on with the same turn."""
    if written and written[-1]["role"] == role:
        written[-1]["content"] += blocks
    else:
        written.append({"role": role, "content": blocks})


def _plain(turns: list[_Turn]) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = []
    for turn in turns:
        plain: dict[str, Any] = {"role": turn.role.value, "content": turn.text}
        if turn.calls:
            plain["tool_calls"] = [
                {
                    "id": str(call.id),
                    "tool_name": call.tool_name,
                    "arguments": parsed(call.arguments),
                    "status": call.status.value,
                    "result": result,
                }
                for call, result in turn.calls
            ]
        written.append(plain)
    return written
