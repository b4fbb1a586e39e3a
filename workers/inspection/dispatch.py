"""Finds a file's type and hands the file to the one parser for it. The child imports it behind its locks."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import BinaryIO

from workers.inspection.messages import Task, Voice
from workers.inspection.reading import Reading, TextOutput
from workers.inspection.sniffing import find_type


def read(task: Task, voice: Voice, text: BinaryIO, thumbnail: BinaryIO) -> None:
    """Read a file and say what it is.

    Raises Unreadable, and whatever a parser raises over bytes that are not what they should be.
    """
    source = Path(task.source)
    file_type = find_type(source, task.filename, task.declared)
    voice.found(file_type.content_type)
    reading = Reading(source, file_type, text=TextOutput(text, task.text_bytes_max), thumbnail=thumbnail, voice=voice)
    if file_type.parser is not None:
        import_module(f"workers.inspection.{file_type.parser}").parse(reading)  # only what this file needs is loaded
    reading.say_understood()
