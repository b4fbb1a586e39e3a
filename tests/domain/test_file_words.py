"""What stands for files in a transcript is bounded for the whole, however often a file is named."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest
from random_conversations import file_of, message_of

from service.domain.file_words import NAMES_CHARACTERS_MAX, FileWords
from service.domain.message import Role
from service.domain.transcript import Format, transcript_of

REPORT = str(UUID(int=900))
TEXT = "the words of the report " * 1000


def test_a_text_stands_at_the_first_place_of_its_file_and_the_name_at_the_others():
    words = FileWords([file_of(REPORT)], {UUID(REPORT): "text"})

    assert words.next_for(REPORT) == "[attachment: report.pdf]\ntext\n[end of report.pdf]"
    assert words.next_for(REPORT) == "[attachment: report.pdf]"


def test_names_stand_until_there_is_no_room_for_more():
    long = msgspec.structs.replace(file_of(REPORT), filename="n" * 250)
    words = FileWords([long])
    named = [words.next_for(REPORT) for _ in range(NAMES_CHARACTERS_MAX // 250 + 2)]

    assert named[0] == named[-3] == f"[attachment: {long.filename}]"
    assert named[-2:] == ["[attachment]", "[attachment]"]


def test_a_file_that_is_not_known_has_no_name():
    assert FileWords().next_for(REPORT) == "[attachment]"


@pytest.mark.parametrize("wanted", Format)
def test_the_text_of_a_file_that_is_named_a_thousand_times_stands_in_a_transcript_once(wanted):
    parts = [{"type": "attachment", "attachment_id": REPORT}] * 100
    messages = [message_of(Role.USER, parts, files=[REPORT]) for _ in range(10)]
    transcript = msgspec.json.encode(transcript_of(messages, wanted, {UUID(REPORT): TEXT}))

    assert transcript.count(TEXT.encode()) == 1
    assert transcript.count(b"[attachment: report.pdf]") == 1000
    assert len(transcript) < 2 * len(TEXT) + 1000 * 30
