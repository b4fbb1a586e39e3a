"""A message's content, or a tool's result, as the text that a model reads."""

from __future__ import annotations

import json
from typing import Any

from service.domain.file_words import FileWords


def text_of(value: Any, files: FileWords) -> str:
    """A stored content or result as text: text and attachment parts as lines, everything else as JSON.

    `files` has the words that stand for each file.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(_is_part(part) for part in value):
        return "\n".join(_part_text(part, files) for part in value)
    return json.dumps(value, ensure_ascii=False)


def _is_part(value: Any) -> bool:
    """Whether a value has the shape of a message's part; a result may be any JSON, and look much like one."""
    match value:
        case {"type": "text", "text": str()} | {"type": "attachment", "attachment_id": str()}:
            return True
        case {"type": "data", "data": _}:
            return True
        case _:
            return False


def _part_text(part: dict[str, Any], files: FileWords) -> str:
    match part["type"]:
        case "text":
            return str(part["text"])
        case "attachment":
            return files.next_for(part["attachment_id"])
        case _:
            return json.dumps(part["data"], ensure_ascii=False)
