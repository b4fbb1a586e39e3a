"""The words that stand for files in a transcript: the text of each file once, elsewhere its name, and not without end.

Any number of messages may refer to one file, and one message may place it a hundred times. So what stands for it is
bounded for the transcript as a whole, and not for each place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

from msgspec import UNSET

from service.domain.attachment import Attachment

NAMES_CHARACTERS_MAX = 500_000
"""Of all names of files in a transcript: two thousand of the longest, an eighth of the most that is said itself."""

UNNAMED = "[attachment]"
DELETED = "[deleted attachment]"


class FileWords:
    """What stands at the places of files: the text of each where it is asked for first."""

    def __init__(self, files: Iterable[Attachment] = (), texts: Mapping[UUID, str] | None = None) -> None:
        """`texts`: what stands in files, by their id; of the others stands the name."""
        self._names = {str(file.id): _name_of(file) for file in files}
        self._texts = {str(id_): text for id_, text in (texts or {}).items()}
        self._room = NAMES_CHARACTERS_MAX

    def next_for(self, file_id: str) -> str:
        """At the first place of a file its text, where that is wanted, and its name at the others.

        Where there is no room for another name, and of a file that is not known, no name.
        """
        if file_id not in self._names:
            return UNNAMED
        name = self._names[file_id]
        if name is None:
            return DELETED
        if len(name) > self._room:
            return UNNAMED
        self._room -= len(name)
        text = self._texts.pop(file_id, None)
        return f"[attachment: {name}]" if text is None else f"[attachment: {name}]\n{text}\n[end of {name}]"


def _name_of(file: Attachment) -> str | None:
    """The file's name on one line; None of a deleted one."""
    return None if file.deleted_at is not UNSET else " ".join(file.filename.split())
