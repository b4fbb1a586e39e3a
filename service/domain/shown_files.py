"""The words that stand for files in a transcript: a name wherever a file is referred to, and its text once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

from msgspec import UNSET

from service.domain.attachment import Attachment

NAME_CHARACTERS_MAX = 80
"""Of a name that is shown. A message may refer to a file a hundred times, so a name of 250 characters would weigh seven
times as much in the answer as what is stored of the references."""

NAME_END_CHARACTERS = 20
"""Of a name that is cut: its end says what kind of file it is."""


class ShownFiles:
    """Files by their id. `texts` has what stands in them: it is shown where a file is asked for first."""

    def __init__(self, files: Iterable[Attachment], texts: Mapping[UUID, str]) -> None:
        self._names = {str(file.id): _name_of(file) for file in files}
        self._texts = {str(id_): text for id_, text in texts.items()}

    def words_for(self, file_id: str) -> str:
        """The file's name on one line, and behind it, the first time, what stands in the file."""
        name = self._names.get(file_id)
        if name is None:
            return "[attachment]"
        text = self._texts.pop(file_id, None)
        if text is None:
            return f"[{name}]"
        return f"[{name}]\n{text}\n[end of {name.removeprefix('attachment: ')}]"


def _name_of(file: Attachment) -> str:
    if file.deleted_at is not UNSET:
        return "deleted attachment"
    name = " ".join(file.filename.split())
    if len(name) > NAME_CHARACTERS_MAX:
        name = f"{name[: NAME_CHARACTERS_MAX - NAME_END_CHARACTERS - 1]}…{name[-NAME_END_CHARACTERS:]}"
    return f"attachment: {name}"
