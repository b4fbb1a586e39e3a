from __future__ import annotations

from typing import Any

import msgspec
import pytest

from service.domain.message import MessageDraft, Role, attachments_of, faults_of, faults_of_batch
from service.ids import new_id


def draft_of(**fields: Any) -> MessageDraft:
    return msgspec.convert({"content": "hello"} | fields, MessageDraft)


def places_of(draft: MessageDraft) -> list[str]:
    return [fault.path for fault in faults_of(draft, "body")]


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.TOOL])
def test_every_role_but_tool_may_speak(role: Role):
    assert places_of(draft_of(role=role)) == []


def test_a_tool_may_speak_of_a_call_and_may_have_nothing_to_say():
    assert places_of(draft_of(role="tool", tool_call_id="call-1")) == []
    assert places_of(draft_of(role="tool", tool_call_id="call-1", content="")) == []


def test_an_assistant_may_bring_calls_without_words():
    empty = draft_of(role="assistant", content="", tool_calls=[{"tool_name": "t"}])

    assert places_of(empty) == []
    assert draft_of(role="assistant", content=None, tool_calls=[{"tool_name": "t"}]) == empty


def test_a_draft_with_everything_that_is_taken_has_no_fault():
    draft = draft_of(
        role="assistant",
        content=[
            {"type": "text", "text": "hi"},
            {"type": "data", "data": {"any": [None, 1.5, {}]}},
            {"type": "attachment", "attachment_id": str(new_id())},
        ],
        attachment_ids=[str(new_id())],
        parent_id=str(new_id()),
        metadata={"a": 1},
        tool_calls=[{"tool_name": "t", "arguments": {"a": None}, "requires_approval": True, "provider_call_id": "c"}],
        usage={"input_tokens": 1, "output_tokens": 0, "cost": 0.5},
    )

    assert places_of(draft) == []


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"tool_calls": [{"tool_name": "t"}]}, "body.tool_calls"),
        ({"role": "tool", "tool_call_id": "c", "tool_calls": [{"tool_name": "t"}]}, "body.tool_calls"),
        ({"tool_call_id": "c"}, "body.tool_call_id"),
        ({"role": "assistant", "tool_call_id": "c"}, "body.tool_call_id"),
        ({"role": "tool"}, "body.tool_call_id"),
        ({"content": ""}, "body.content"),
        ({"role": "assistant", "content": ""}, "body.content"),
        ({"content": None}, "body.content"),
        ({"role": "assistant", "content": None}, "body.content"),
        ({"role": "tool", "tool_call_id": "c", "content": None}, "body.content"),
        ({"metadata": {"a": "x" * 16_384}}, "body.metadata"),
    ],
)
def test_each_field_that_is_oversized_or_of_another_role_is_named(fields: dict[str, Any], place: str):
    assert places_of(draft_of(**fields)) == [place]


def test_all_faults_are_named_at_once_at_the_drafts_own_place():
    draft = draft_of(role="tool", tool_calls=[{"tool_name": "t"}], metadata={"a": "x" * 16_384})

    assert [fault.path for fault in faults_of(draft, "body.messages[7]")] == [
        "body.messages[7].tool_calls",
        "body.messages[7].tool_call_id",
        "body.messages[7].metadata",
    ]


def test_the_parts_of_a_result_have_the_limit_of_a_result_and_those_of_other_messages_do_not():
    around = len('[{"type":"data","data":{"a":""}}]')

    def parts(more: int) -> list[dict[str, Any]]:
        return [{"type": "data", "data": {"a": "x" * (100_000 - around + more)}}]

    assert places_of(draft_of(role="tool", tool_call_id="c", content=parts(0))) == []
    assert places_of(draft_of(role="tool", tool_call_id="c", content=parts(1))) == ["body.content"]
    assert places_of(draft_of(content=parts(1))) == []


def test_a_draft_refers_to_each_file_once_those_of_its_parts_first():
    first, second, third = (new_id() for _ in range(3))
    parts = [{"type": "attachment", "attachment_id": str(id_)} for id_ in (second, first, second)]

    draft = draft_of(content=[{"type": "text", "text": "x"}, *parts], attachment_ids=[str(third), str(first)])

    assert attachments_of(draft) == [second, first, third]
    assert attachments_of(draft_of(attachment_ids=[str(first), str(first)])) == [first]
    assert attachments_of(draft_of()) == []


def test_metadata_may_have_exactly_16_kib_of_json():
    fitting = {"a": "x" * (16_384 - len('{"a":""}'))}

    assert places_of(draft_of(metadata=fitting)) == []
    assert places_of(draft_of(metadata={"a": fitting["a"] + "x"})) == ["body.metadata"]


@pytest.mark.parametrize(
    "fields",
    [
        {"content": "x" * 100_001},
        {"content": []},
        {"content": [{"type": "text", "text": ""}]},
        {"content": [{"type": "text", "text": "x"}] * 101},
        {"content": [{"type": "video", "text": "x"}]},
        {"content": [{"type": "text", "text": "x", "more": 1}]},
        {"content": 7},
        {"role": "robot"},
        {"usage": {"input_tokens": -1}},
        {"usage": {"input_tokens": 2**53 + 1}},
        {"usage": {"cost": -0.1}},
        {"usage": {"tokens": 1}},
        {"metadata": []},
        {"parent_id": "1"},
        {"attachment_ids": ["1"]},
        {"attachment_ids": [None]},
        {"attachment_ids": {}},
        {"attachment_ids": [str(new_id())] * 101},
        {"content": [{"type": "attachment"}]},
        {"content": [{"type": "attachment", "attachment_id": "1"}]},
        {"content": [{"type": "attachment", "attachment_id": str(new_id()), "filename": "x"}]},
        {"tool_call_id": ""},
        {"tool_call_id": "x" * 201},
        {"tool_calls": [{}]},
        {"tool_calls": [{"tool_name": ""}]},
        {"tool_calls": [{"tool_name": "x" * 201}]},
        {"tool_calls": [{"tool_name": "t", "arguments": []}]},
        {"tool_calls": [{"tool_name": "t", "status": "approved"}]},
        {"tool_calls": [{"tool_name": "t", "provider_call_id": ""}]},
        {"tool_calls": [{"tool_name": "t"}] * 101},
        {"unknown": 1},
    ],
)
def test_what_no_message_can_be_is_no_draft(fields: dict[str, Any]):
    with pytest.raises(msgspec.ValidationError):
        draft_of(**fields)


def test_the_longest_text_counts_characters_not_bytes():
    assert draft_of(content="\U0001f600" * 100_000).content == "\U0001f600" * 100_000


def test_the_messages_of_a_batch_name_as_many_files_together_as_one_message_may():
    placed = [{"type": "attachment", "attachment_id": str(new_id())} for _ in range(100)]
    beside = [str(new_id()) for _ in range(100)]
    largest, small = draft_of(content=placed, attachment_ids=beside), draft_of(attachment_ids=beside[:1])
    faults = faults_of_batch([draft_of(), largest, draft_of(), small, small], "body.messages")

    assert faults_of_batch([largest], "body.messages") == []
    assert faults_of_batch([small] * 100, "body.messages") == []
    assert [fault.path for fault in faults] == ["body.messages[3]"]
    assert "more than 200 files" in faults[0].message


def test_a_file_that_several_messages_of_a_batch_name_counts_for_each():
    same = draft_of(attachment_ids=[str(new_id())])

    assert faults_of_batch([same] * 201, "body.messages")[0].path == "body.messages[200]"
