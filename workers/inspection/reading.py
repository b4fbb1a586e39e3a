"""One file being read: what is known of it so far, and where its text and its thumbnail go."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import BinaryIO

from workers.inspection.file_type import FileType
from workers.inspection.limits import CPU_SECONDS_FOR_TEXT
from workers.inspection.messages import Properties, Voice

UNFIT = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
"""Not in anybody's text: what JSON, PostgreSQL or UTF-8 cannot hold, and what steers a terminal."""

SECONDS_BETWEEN_PROGRESS = 0.25


class TextOutput:
    """A text file in UTF-8 that takes at most `bytes_max` and is cut at a character's boundary."""

    def __init__(self, file: BinaryIO, bytes_max: int) -> None:
        self._file = file
        self._room = bytes_max
        self.length = 0
        self.has_words = False
        self.is_cut = False

    def write(self, text: str) -> None:
        """Add text, as far as there is room; after a cut nothing more is taken."""
        if self.is_cut:
            return
        text = UNFIT.sub("", text)
        encoded = text.encode()
        if len(encoded) > self._room:
            self.is_cut = True
            text = encoded[: self._room].decode(errors="ignore")
            encoded = text.encode()
        self._file.write(encoded)
        self._room -= len(encoded)
        self.length += len(text)
        self.has_words = self.has_words or bool(text.strip())

    def cut(self) -> None:
        """Take no more, and tell that there would be more."""
        self.is_cut = True

    def flush(self) -> None:
        """Hand over to the kernel what was written, so that it outlives this process."""
        self._file.flush()


class Reading:
    """What a parser gets: the file, its type, and what it fills."""

    def __init__(
        self,
        source: Path,
        file_type: FileType,
        *,
        text: TextOutput,
        thumbnail: BinaryIO,
        voice: Voice,
    ) -> None:
        self.source = source
        self.file_type = file_type
        self.properties: Properties = {}
        self.text = text
        self.thumbnail = thumbnail
        self._voice = voice
        self._progress_said_at = time.monotonic()

    def say_progress(self, done: float) -> None:
        """Tell how much is done (0 to 1), but not all the time."""
        now = time.monotonic()
        if now - self._progress_said_at >= SECONDS_BETWEEN_PROGRESS:
            self._progress_said_at = now
            self._voice.progress(min(max(done, 0.0), 1.0))

    def say_understood(self) -> None:
        """Tell what is there by now. It stands, whatever becomes of this process."""
        self.text.flush()
        self.thumbnail.flush()
        if self.text.has_words:
            self.properties["text_length"] = self.text.length
            if self.text.is_cut:
                self.properties["text_truncated"] = True
        self._voice.understood(self.properties, has_text=self.text.has_words, has_thumbnail=self.thumbnail.tell() > 0)

    def is_out_of_time(self) -> bool:
        """Whether enough was computed for the text: what there is has to do."""
        return time.process_time() > CPU_SECONDS_FOR_TEXT
