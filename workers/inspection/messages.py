"""What the child is told and what it can say, one JSON line a message.

It stands on the standard library alone, for the child starts anew with each file; `answers` is the parent's side of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, TypedDict

from workers.inspection.refusals import Refusal

TEXT_NAME = "text.txt"
THUMBNAIL_NAME = "thumbnail.webp"
"""The results, in the folder that the child is started in."""


class Task(NamedTuple):
    """What the parent wants, said on the child's standard input.

    `may_be_weak`: whether to read the file even where some of the locks do not hold.
    """

    source: str
    filename: str
    declared: str
    text_bytes_max: int
    parent: int
    may_be_weak: bool


class Layer(StrEnum):
    """The locks of `confinement`."""

    LIMITS = "limits"
    PRIVILEGES = "privileges"
    PARENT = "parent"
    LANDLOCK = "landlock"
    SECCOMP = "seccomp"


class Properties(TypedDict, total=False):
    """What can be known of a file; `docs/attachments.md` says which types have which."""

    width: int
    height: int
    pages: int
    pages_read: int
    slides: int
    sheets: int
    sheets_read: int
    rows: int
    columns: int
    delimiter: str
    entries: int
    language: str
    charset: str
    macros: bool
    text_length: int
    text_truncated: bool


class Voice:
    """Says messages to the parent, each at once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def locked_in(self, layers: Sequence[Layer]) -> None:
        """Say, before anything of the file was read, which locks hold."""
        self._say("locked_in", layers=layers)

    def found(self, content_type: str) -> None:
        """Say which type the bytes tell."""
        self._say("found", content_type=content_type)

    def progress(self, done: float) -> None:
        """Say how much of a long file is done, from 0 to 1."""
        self._say("progress", done=done)

    def understood(self, properties: Properties, *, has_text: bool, has_thumbnail: bool) -> None:
        """Say what came out. It stands, even if something optional then breaks this process, and may be said again."""
        self._say("understood", properties=properties, has_text=has_text, has_thumbnail=has_thumbnail)

    def refused(self, code: Refusal, sentence: str, cause: str) -> None:
        """Say why nothing came out; `cause` is the kind of error, for the log."""
        self._say("refused", code=code, sentence=sentence, cause=cause)

    def _say(self, kind: str, **content: object) -> None:
        os.write(self._descriptor, json.dumps({"type": kind} | content).encode() + b"\n")
