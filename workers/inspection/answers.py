"""What the parent takes from its child, who is not trusted: every type has its limits, and nothing else passes."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from workers.inspection.messages import Layer
from workers.inspection.refusals import Refusal

PROPERTIES_MAX = 20

Count = Annotated[int, Meta(ge=0, le=2**53)]
Name = Annotated[str, Meta(pattern=r"^[a-z_]{1,40}\Z")]
Word = Annotated[str, Meta(max_length=100, pattern=r"^[\t -~]*\Z")]
Sentence = Annotated[str, Meta(max_length=300, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
MediaType = Annotated[str, Meta(max_length=255, pattern=r"^[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*\Z")]


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """One of the messages of `messages.Voice`."""


class LockedIn(Answer, frozen=True, tag="locked_in"):
    """Its first word."""

    layers: list[Layer]


class Found(Answer, frozen=True, tag="found"):
    """The type of the file."""

    content_type: MediaType


class Progress(Answer, frozen=True, tag="progress"):
    """How far it is."""

    done: Annotated[float, Meta(ge=0, le=1)]


class Understood(Answer, frozen=True, tag="understood"):
    """What came out."""

    properties: Annotated[dict[Name, Word | Count | bool], Meta(max_length=PROPERTIES_MAX)]
    has_text: bool
    has_thumbnail: bool


class Refused(Answer, frozen=True, tag="refused"):
    """Why nothing did."""

    code: Refusal
    sentence: Sentence
    cause: Word


AnyAnswer = LockedIn | Found | Progress | Understood | Refused
