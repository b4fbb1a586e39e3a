"""`/sessions/{id}/context`: the last messages, ready to be sent to a model."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from litestar import Response, get
from litestar.params import FromPath, QueryParameter

from service.blobs import BlobMissing, BlobStore
from service.domain.caller import Scope
from service.domain.errors import SessionNotFound
from service.domain.message import Message
from service.domain.transcript import Format, Transcript, transcript_of
from service.handlers.authentication import caller_of, requires
from service.handlers.bodies import HoldfastRequest
from service.handlers.connecting import reading
from service.handlers.encoding import respond
from service.handlers.identifiers import identifier
from service.handlers.openapi import REFUSALS
from service.handlers.parts import parts_of
from service.store import attachments
from service.store import messages as store
from service.store.blobs import Stored
from service.store.windows import window

CONTEXT_MESSAGES_MAX = 1000
CONTEXT_MESSAGES_DEFAULT = 100
"""What models take at once is counted in tokens; this bounds what one answer may cost the database."""

CONTEXT_BYTES_MAX = 4 * 1024 * 1024
"""A million tokens of English, and more than most models take. Writing it takes 8 to 12 MB of memory, and 90 where

arguments consist of nothing but empty lists (measured). The texts of files have a bound of their own.
"""

SYSTEM_BYTES_MAX = CONTEXT_BYTES_MAX // 2
"""Of the system's messages: whatever they are, as much is left for the conversation."""

FILE_CHARACTERS_MAX = 1_000_000
FILE_CHARACTERS_DEFAULT = 20_000
"""About ten pages of each file: what is asked of it commonly stands there."""

FILES_CHARACTERS_MAX = 2_000_000
"""Of all files of an answer together, the newest first: more than models take at once. The others show their names."""

UTF8_BYTES_MAX = 4
"""Of one character."""

CUT = "[… cut after {count} characters]"


class Files(StrEnum):
    """What an attachment becomes: its name, or the text that was found in it."""

    NAME = "name"
    TEXT = "text"


@get(
    "/sessions/{session_id:str}/context",
    before_request=requires(Scope.SESSIONS_READ),
    opt={REFUSALS: [SessionNotFound]},
    operation_id="getContext",
)
async def get_context(
    request: HoldfastRequest,
    session_id: FromPath[str],
    wanted: Annotated[Format, QueryParameter(name="format", description="Whose message format.")] = Format.PLAIN,
    limit: Annotated[
        int,
        QueryParameter(
            ge=1,
            le=CONTEXT_MESSAGES_MAX,
            description="How many messages, counted from the newest. Those of the system are not counted: they stay.",
        ),
    ] = CONTEXT_MESSAGES_DEFAULT,
    files: Annotated[
        Files,
        QueryParameter(name="attachments", description="`text`: what was found in them, where each is first named."),
    ] = Files.NAME,
    max_attachment_chars: Annotated[
        int, QueryParameter(ge=1, le=FILE_CHARACTERS_MAX, description="Of each file's text, from its beginning.")
    ] = FILE_CHARACTERS_DEFAULT,
) -> Response[Transcript]:
    """Give the last messages as a model's provider wants them, oldest first, each tool call with its result behind it.

    A call that was rejected, expired, cancelled or is still open gets a result that says so, because providers refuse
    a conversation without. What a provider would refuse is replaced: characters other than `A-Z a-z 0-9 _ -` in the
    names of tools, names beyond 64 characters (they are cut), and ids of calls that are longer than 40, hold other
    characters or come twice (ours stand in their place). `tool_names` has the tool's own name for each name that is
    written otherwise: look up there what the model calls, and take the name as it is where it is not there. Of two
    tools that are written alike it has the one that was called last.

    `limit` counts user, assistant and tool messages. Beside them stand the messages of the system, in their places, and
    each assistant message whose results are among them, with all its results. The messages hold at most 4 MiB of stored
    JSON, or the newest one alone: the oldest are left out first. The system's take at most half of it (2 MiB and 1,000
    messages, the newest of them, or the newest one alone).
    """
    caller, session = caller_of(request), identifier(session_id, SessionNotFound)
    async with reading(request) as tx:
        seqs = await window(
            tx,
            caller.tenant_id,
            session,
            limit=limit,
            bytes_max=CONTEXT_BYTES_MAX,
            system_bytes_max=SYSTEM_BYTES_MAX,
        )
        rows = await store.numbered(tx, caller, session, seqs)
        if rows is None:
            raise SessionNotFound
        wanted_ids = _with_text(rows) if files is Files.TEXT else []
        stored = await attachments.texts_of(tx, session, wanted_ids) if wanted_ids else {}
    texts = await _read(parts_of(request).blobs, wanted_ids, stored, max_attachment_chars)
    return respond(transcript_of(rows[::-1], wanted, texts))


def _with_text(newest_first: list[Message]) -> list[UUID]:
    """The files that have a text, each once, those of the newest message first."""
    return list(dict.fromkeys(file.id for message in newest_first for file in message.attachments if file.has_text))


async def _read(blobs: BlobStore, ids: list[UUID], stored: dict[UUID, Stored], characters_max: int) -> dict[UUID, str]:
    """The beginnings of the texts, as long as there is room for them."""
    texts: dict[UUID, str] = {}
    room = FILES_CHARACTERS_MAX
    for id_ in ids:
        if id_ not in stored or not room:
            continue
        try:
            text = await _beginning(blobs, stored[id_], min(characters_max, room))
        except BlobMissing:  # deleted since its row was read
            continue
        texts[id_] = text
        room = max(0, room - len(text))
    return texts


async def _beginning(blobs: BlobStore, stored: Stored, characters: int) -> str:
    chunks = await blobs.get(stored.key, 0, min(stored.size, characters * UTF8_BYTES_MAX))
    read = b"".join([bytes(chunk) async for chunk in chunks])
    text = read.decode(errors="ignore")  # the last character may be cut in the middle
    if len(text) <= characters and len(read) == stored.size:
        return text
    return f"{text[:characters]}\n{CUT.format(count=characters)}"


HANDLERS = [get_context]
