"""What a transcript tells: every word and result in its place, and the truth where there is none.

That the providers' APIs take it stands in `test_transcript_types.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from random_conversations import FILES, call_of, calls_in, conversations, message_of, raw

from service.domain.message import Message, Role
from service.domain.tool_call import CallStatus
from service.domain.transcript import NO_TEXTS, Format, result_of, transcript_of

FORMATS = pytest.mark.parametrize("wanted", Format)
REPORT, ODD, DELETED = FILES
"""Two files, and one that was deleted."""


def texts_of(messages: list[Message], wanted: Format, texts: Mapping[UUID, str] = NO_TEXTS) -> str:
    """All that a transcript says, as one text."""
    return json.dumps(transcript_of(messages, wanted, texts).messages, ensure_ascii=False)


@given(conversations())
def test_plain_and_openai_tell_every_result_in_the_order_of_the_calls(messages: list[Message]):
    openai = transcript_of(messages, Format.OPENAI).messages
    plain = transcript_of(messages, Format.PLAIN).messages
    told = [call for message in plain for call in message.get("tool_calls", [])]

    assert [message["role"] for message in plain] == [m.role for m in messages if m.role is not Role.TOOL]
    assert [(call["id"], call["status"]) for call in told] == [
        (str(call.id), call.status) for call in calls_in(messages)
    ]
    assert [message["content"] for message in openai if message["role"] == "tool"] == [call["result"] for call in told]


@given(conversations())
def test_no_call_is_left_out_and_none_is_told_twice(messages: list[Message]):
    openai, anthropic = (transcript_of(messages, wanted).messages for wanted in (Format.OPENAI, Format.ANTHROPIC))
    asked = [call["function"]["arguments"] for message in openai for call in message.get("tool_calls", [])]
    used = [block["input"] for turn in anthropic for block in turn["content"] if block["type"] == "tool_use"]

    assert asked == [bytes(call.arguments).decode() for call in calls_in(messages)]
    assert used == [json.loads(arguments) for arguments in asked]


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
        CallStatus.CANCELLED: "cancelled (boom)",
        CallStatus.FAILED: "failed: boom",
        CallStatus.COMPLETED: "RESULT",
    }

    assert words[status] in result_of(call)
    assert ("RESULT" in result_of(call)) is (status is CallStatus.COMPLETED)


WITHOUT_RESULT = pytest.mark.parametrize("status", [CallStatus.REJECTED, CallStatus.EXPIRED, CallStatus.CANCELLED])


def told(*messages: Message) -> dict[Format, Any]:
    """What each format has in the place of the first call's result."""
    shown = {wanted: transcript_of(list(messages), wanted).messages for wanted in Format}
    return {
        Format.OPENAI: shown[Format.OPENAI][1]["content"],
        Format.ANTHROPIC: shown[Format.ANTHROPIC][2]["content"][0],
        Format.PLAIN: shown[Format.PLAIN][0]["tool_calls"][0],
    }


@WITHOUT_RESULT
def test_a_tools_message_stands_in_the_place_of_the_result_that_a_call_never_got(status: CallStatus):
    call = call_of(3, status=status, decided_by="ada", reason="too dear")
    asking = message_of(Role.ASSISTANT, "", [call])
    older = message_of(Role.TOOL, "an older word", None, str(call.id), seq=2)

    shown = told(asking, older, message_of(Role.TOOL, "the user rejected this", None, str(call.id), seq=3))

    assert shown[Format.OPENAI] == "the user rejected this"
    assert (shown[Format.ANTHROPIC]["content"], shown[Format.ANTHROPIC]["is_error"]) == ("the user rejected this", True)
    assert (shown[Format.PLAIN]["result"], shown[Format.PLAIN]["status"]) == ("the user rejected this", status)


@WITHOUT_RESULT
def test_without_a_tools_message_the_reason_stands_in_the_place_of_the_result(status: CallStatus):
    call = call_of(3, status=status, decided_by="ada", reason="too dear")

    shown = told(message_of(Role.ASSISTANT, "", [call]))

    assert shown[Format.OPENAI] == shown[Format.PLAIN]["result"] == result_of(call)
    assert (shown[Format.ANTHROPIC]["content"], shown[Format.ANTHROPIC]["is_error"]) == (result_of(call), True)


@pytest.mark.parametrize(
    ("seq", "sentence"), [(1, "(the assistant speaks first)"), (2, "(the conversation began earlier)")]
)
def test_where_the_assistant_comes_first_a_sentence_says_truly_why(seq: int, sentence: str):
    written = transcript_of([message_of(Role.ASSISTANT, "hi", seq=seq)], Format.ANTHROPIC).messages

    assert written == [
        {"role": "user", "content": [{"type": "text", "text": sentence}]},
        {"role": "assistant", "content": [{"type": "text", "text": "hi"}]},
    ]


def test_a_system_message_before_the_assistant_is_no_earlier_conversation():
    said = [message_of(Role.SYSTEM, "Be kind."), message_of(Role.ASSISTANT, "hi", seq=2)]

    transcript = transcript_of(said, Format.ANTHROPIC)

    assert transcript.system == "Be kind."
    assert transcript.messages[0]["content"][0]["text"] == "(the assistant speaks first)"


@pytest.mark.parametrize(
    ("seqs", "sentence"),
    [((1, 2, 3), "(the assistant speaks first)"), ((1, 2, 4), "(the conversation began earlier)")],
)
def test_what_was_left_out_behind_the_system_messages_is_an_earlier_conversation(seqs: tuple[int, ...], sentence: str):
    roles = [Role.SYSTEM, Role.SYSTEM, Role.ASSISTANT]
    said = [message_of(role, "hi", seq=seq) for role, seq in zip(roles, seqs, strict=True)]

    assert transcript_of(said, Format.ANTHROPIC).messages[0]["content"][0]["text"] == sentence


@pytest.mark.parametrize("theirs", ["functions.search:0", "x" * 41, "é", "", "call_1\n"])
def test_an_id_that_a_provider_would_refuse_is_replaced_by_ours_on_both_ends(theirs: str):
    call = call_of(3, provider_call_id=theirs)
    said = [message_of(Role.ASSISTANT, "", [call])]

    _, asking, answering = transcript_of([message_of(Role.USER, "go"), *said], Format.OPENAI).messages
    _, using, resulting = transcript_of([message_of(Role.USER, "go"), *said], Format.ANTHROPIC).messages

    assert asking["tool_calls"][0]["id"] == answering["tool_call_id"] == str(call.id)
    assert using["content"][0]["id"] == resulting["content"][0]["tool_use_id"] == str(call.id)


def test_an_id_that_a_provider_gave_is_kept_and_the_second_call_of_that_id_gets_ours():
    calls = [call_of(3, provider_call_id="x" * 40), call_of(4, provider_call_id="x" * 40)]

    asking = transcript_of([message_of(Role.ASSISTANT, "", calls)], Format.OPENAI).messages[0]

    assert [call["id"] for call in asking["tool_calls"]] == ["x" * 40, str(UUID(int=4))]


def test_a_name_that_a_provider_would_refuse_is_written_with_underscores_and_cut():
    calls = [call_of(3, tool_name="mail.send größe"), call_of(4, tool_name="y" * 200)]

    asking = transcript_of([message_of(Role.ASSISTANT, "", calls)], Format.OPENAI).messages[0]

    assert [call["function"]["name"] for call in asking["tool_calls"]] == ["mail_send_gr__e", "y" * 64]


def asked_for(*names: str) -> list[Message]:
    calls = [call_of(number, tool_name=name) for number, name in enumerate(names, start=3)]
    return [message_of(Role.ASSISTANT, "", [call], seq=seq) for seq, call in enumerate(calls, start=1)]


@pytest.mark.parametrize("wanted", [Format.OPENAI, Format.ANTHROPIC])
@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["mail.send", "search"], {"mail_send": "mail.send"}),
        (["y" * 65], {"y" * 64: "y" * 65}),
        (["mail/send", "mail.send"], {"mail_send": "mail.send"}),
        (["mail.send", "mail/send"], {"mail_send": "mail/send"}),
        (["mail.send", "mail_send"], {"mail_send": "mail.send"}),
        (["search", "y" * 64], {}),
    ],
)
def test_a_transcript_tells_the_own_name_of_each_tool_that_it_writes_otherwise(
    wanted: Format, names: list[str], told: dict[str, str]
):
    assert transcript_of(asked_for(*names), wanted).tool_names == told


@given(conversations())
def test_every_name_in_a_transcript_leads_back_to_the_own_name_of_a_call(messages: list[Message]):
    transcript = transcript_of(messages, Format.OPENAI)
    written = [call["function"]["name"] for message in transcript.messages for call in message.get("tool_calls", [])]
    own = [call.tool_name for call in calls_in(messages)]

    assert {*transcript.tool_names} <= {*written}
    assert {transcript.tool_names.get(name, name) for name in written} <= {*own}
    assert transcript_of(messages, Format.ANTHROPIC).tool_names == transcript.tool_names


def test_a_transcript_that_writes_every_name_as_it_is_tells_none():
    assert transcript_of(asked_for("mail.send"), Format.PLAIN).tool_names == {}
    assert b"tool_names" not in msgspec.json.encode(transcript_of(asked_for("search"), Format.OPENAI))


@FORMATS
def test_an_attachment_is_named_where_a_part_places_it(wanted: Format):
    parts = [
        {"type": "text", "text": "see"},
        {"type": "attachment", "attachment_id": REPORT},
        {"type": "text", "text": "and go"},
    ]

    assert "see\\n[attachment: report.pdf]\\nand go" in texts_of([message_of(Role.USER, parts, files=[REPORT])], wanted)


@FORMATS
def test_an_attachment_that_no_part_places_is_named_at_the_end(wanted: Format):
    assert '"look\\n[attachment: report.pdf]"' in texts_of([message_of(Role.USER, "look", files=[REPORT])], wanted)


@FORMATS
def test_a_deleted_attachment_says_so_and_an_odd_name_stays_on_one_line(wanted: Format):
    text = texts_of([message_of(Role.USER, "look", files=[DELETED, ODD])], wanted)

    assert '"look\\n[deleted attachment]\\n[attachment: a b].txt]"' in text


@FORMATS
def test_what_stands_in_a_file_is_shown_once_where_the_file_is_referred_to_last(wanted: Format):
    part = {"type": "attachment", "attachment_id": REPORT}
    call = call_of(3, status=CallStatus.COMPLETED, result=raw([part]))
    said = [
        message_of(Role.USER, [part, part], files=[REPORT]),
        message_of(Role.ASSISTANT, "", [call], seq=2),
        message_of(Role.USER, [{"type": "text", "text": "this one"}, part, part], seq=3, files=[REPORT]),
    ]
    name = "[attachment: report.pdf]"

    written = texts_of(said, wanted, {UUID(REPORT): "THE TEXT"})

    assert f"this one\\n{name}\\nTHE TEXT\\n[end of report.pdf]\\n{name}" in written
    assert written.count("THE TEXT") == 1
    assert written.count(name) == 5


@FORMATS
def test_an_attachment_of_a_result_is_named_with_the_result(wanted: Format):
    parts = [{"type": "attachment", "attachment_id": ODD}]
    call = call_of(3, status=CallStatus.COMPLETED, result=raw(parts))
    said = [
        message_of(Role.ASSISTANT, "", [call]),
        message_of(Role.USER, "still there?", seq=2),
        message_of(Role.TOOL, parts, None, str(call.id), seq=3, files=[ODD, REPORT]),
    ]

    assert "[attachment: a b].txt]\\n[attachment: report.pdf]" in texts_of(said, wanted)
