"""How a copy is written down: the ready bytes of the answer, who may have them, and digests that only we can make.

A digest covers the key, the generation and the numbers that stand beside it, and is made with a secret of PostgreSQL.
So whatever else somebody, or a fault, leaves in Redis is no copy: garbage, half a copy, one moved from another session
or tenant, one with another number. Such a thing is refused, never an error and never an answer.
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from service.copies.scripts import CONTINUED_MAX, ENTRY_BYTES_MAX, GENERATION_BYTES, HEAD_BYTES, MARK, TIMES_DIGITS
from service.copies.scripts import SEQ_DIGITS as DIGITS

DIGEST_BYTES = 16
"""128 bits: nobody guesses one."""

MOVING_BYTES = 144
"""Room for two numbers and three times, filled up with spaces: what a message moves in its session."""

LENGTH_DIGITS = 8
MOVING = re.compile(
    rb'"message_count":(\d+),"attachment_count":\d+,"pending_tool_call_count":\d+,"version":(\d+),'
    rb'"created_at":"[^"]*","updated_at":("[^"]*"),"last_message_at":("[^"]*"|null),"expires_at":("[^"]*"),'
    rb'"ended_at":(?:"[^"]*"|null),"end_reason":(?:"[a-z]+"|null)\}\Z'
)
"""The end of a session's JSON, behind all that callers have written."""

SEQ_AT = len(MARK) + GENERATION_BYTES
TIMES_AT = SEQ_AT + DIGITS
FIRST_TIME = b"0" * TIMES_DIGITS


class Snapshot(msgspec.Struct, frozen=True):
    """A session as `GET /sessions/{id}` answers it, and whose it is."""

    user_id: str
    version: int
    body: bytes


class Spoken(msgspec.Struct, frozen=True):
    """One message as pages show it."""

    seq: int
    body: bytes


class Window(msgspec.Struct, frozen=True):
    """The newest messages of a session, newest first, and whose it is. `has_more`: there are older ones."""

    user_id: str
    has_more: bool
    messages: list[Spoken]


class Moved(msgspec.Struct, frozen=True):
    """What one message moves in its session's snapshot. Times as JSON."""

    message_count: int
    version: int
    moment: bytes
    expires_at: bytes


class Addition(msgspec.Struct, frozen=True):
    """A message that was appended, as answered, and what it moved; `before` and `after`: the session's last event."""

    before: int
    after: int
    moved: Moved
    spoken: Spoken


class _SnapshotHead(msgspec.Struct, frozen=True, array_like=True):
    user_id: str
    cuts: list[int]


class _WindowHead(msgspec.Struct, frozen=True, array_like=True):
    user_id: str
    has_more: bool
    seqs: list[int]
    lengths: list[int]


SNAPSHOT_HEAD = msgspec.msgpack.Decoder(_SnapshotHead)
WINDOW_HEAD = msgspec.msgpack.Decoder(_WindowHead)


def numbered(seq: int) -> bytes:
    """A session's event number as copies carry it: of one width, so that order of text is order of numbers."""
    return b"%0*d" % (DIGITS, seq)


class Notary:
    """Writes copies down and reads them again. Holds the secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def write_snapshot(self, key: bytes, generation: bytes, seq: int, snapshot: Snapshot) -> bytes | None:
        """The copy of a snapshot; None where it cannot be one."""
        found = MOVING.search(snapshot.body, max(0, snapshot.body.rfind(b'"message_count":')))
        if found is None:
            return None
        moving = b",".join(found.groups())
        cuts = [edge for group in range(1, 6) for edge in found.span(group)]
        head = msgspec.msgpack.encode(_SnapshotHead(snapshot.user_id, cuts))
        rest = b"%0*d" % (LENGTH_DIGITS, len(head)) + head + snapshot.body
        copy = (
            MARK + generation + numbered(seq) + FIRST_TIME
            + self._moving(key, generation, numbered(seq), moving)
            + self._digest(key, generation, rest) + rest
        )  # fmt: skip
        return copy if len(moving) <= MOVING_BYTES and len(copy) <= ENTRY_BYTES_MAX else None

    def read_snapshot(self, key: bytes, copy: bytes) -> Snapshot | None:
        """The snapshot that a copy is of; None: it is no copy of this key."""
        generation, seq = copy[len(MARK) : SEQ_AT], copy[SEQ_AT:TIMES_AT]
        moving_at, rest_at = HEAD_BYTES, HEAD_BYTES + DIGEST_BYTES + MOVING_BYTES
        moving = copy[moving_at + DIGEST_BYTES : rest_at].rstrip(b" ")
        rest = copy[rest_at + DIGEST_BYTES :]
        if copy[moving_at:rest_at] != self._moving(key, generation, seq, moving):
            return None
        if copy[rest_at : rest_at + DIGEST_BYTES] != self._digest(key, generation, rest):
            return None
        body_at = LENGTH_DIGITS + int(rest[:LENGTH_DIGITS])
        head = SNAPSHOT_HEAD.decode(rest[LENGTH_DIGITS:body_at])
        body, values, cuts = rest[body_at:], moving.split(b","), head.cuts
        pieces, at = [], 0
        for value, begin, end in zip(values, cuts[::2], cuts[1::2], strict=True):
            pieces += [body[at:begin], value]
            at = end
        return Snapshot(head.user_id, int(values[1]), b"".join([*pieces, body[at:]]))

    def write_window(self, key: bytes, generation: bytes, seq: int, window: Window) -> bytes | None:
        """The copy of a window; None where it is too large."""
        head = msgspec.msgpack.encode(
            _WindowHead(
                window.user_id,
                window.has_more,
                [message.seq for message in window.messages],
                [len(message.body) for message in window.messages],
            )
        )
        bodies = [message.body for message in window.messages]
        rest = b"".join([numbered(seq), b"%0*d" % (LENGTH_DIGITS, len(head)), head, *bodies])
        copy = MARK + generation + numbered(seq) + FIRST_TIME + self._digest(key, generation, rest) + rest
        return copy if len(copy) <= ENTRY_BYTES_MAX else None

    def read_window(self, key: bytes, copy: bytes) -> Window | None:
        """The window that a copy is of, with what was appended since; None: it is no copy of this key."""
        generation, rest_at = copy[len(MARK) : SEQ_AT], HEAD_BYTES + DIGEST_BYTES
        head_at = rest_at + DIGITS + LENGTH_DIGITS
        length = copy[rest_at + DIGITS : head_at]
        if not length.isdigit():
            return None
        body_at = head_at + int(length)
        try:
            head = WINDOW_HEAD.decode(copy[head_at:body_at])
        except msgspec.MsgspecError:
            return None
        end = body_at + sum(head.lengths)
        if copy[HEAD_BYTES:rest_at] != self._digest(key, generation, copy[rest_at:end]):
            return None
        added = self._additions(key, copy, end, copy[rest_at : rest_at + DIGITS], max(head.seqs, default=0))
        if added is None:
            return None
        messages, at = added, body_at
        for seq, size in zip(head.seqs, head.lengths, strict=True):
            messages.append(Spoken(seq, copy[at : at + size]))
            at += size
        return Window(head.user_id, head.has_more, messages)

    def _additions(self, key: bytes, copy: bytes, at: int, after: bytes, newest: int) -> list[Spoken] | None:
        """What was appended to a window, newest first; None unless each continues the one before, to the very end."""
        generation = copy[len(MARK) : SEQ_AT]
        added: list[Spoken] = []
        head_bytes = DIGEST_BYTES + 3 * DIGITS + LENGTH_DIGITS
        while at < len(copy):
            head = copy[at + DIGEST_BYTES : at + head_bytes]
            length = head[3 * DIGITS :]
            if len(added) > CONTINUED_MAX or not length.isdigit():
                return None
            body = copy[at + head_bytes : at + head_bytes + int(length)]
            if copy[at : at + DIGEST_BYTES] != self._digest(key, generation, head + body):
                return None
            seq = int(head[2 * DIGITS : 3 * DIGITS])
            if head[:DIGITS] != after or seq <= newest:
                return None
            after, newest = head[DIGITS : 2 * DIGITS], seq
            added.append(Spoken(seq, body))
            at += head_bytes + len(body)
        if copy[SEQ_AT:TIMES_AT] != after or copy[TIMES_AT:HEAD_BYTES] != b"%0*d" % (TIMES_DIGITS, len(added)):
            return None
        return added[::-1]

    def continue_snapshot(self, key: bytes, generation: bytes, addition: Addition) -> bytes:
        """What stands behind the seq of a snapshot's copy once `addition` has been appended."""
        moved = addition.moved
        moving = b"%d,%d,%b,%b,%b" % (
            moved.message_count, moved.version, moved.moment, moved.moment, moved.expires_at,
        )  # fmt: skip
        return FIRST_TIME + self._moving(key, generation, numbered(addition.after), moving)

    def continue_window(self, key: bytes, generation: bytes, addition: Addition) -> bytes:
        """What is put behind a window's copy once `addition` has been appended."""
        spoken = addition.spoken
        rest = (
            numbered(addition.before) + numbered(addition.after) + numbered(spoken.seq)
            + b"%0*d" % (LENGTH_DIGITS, len(spoken.body)) + spoken.body
        )  # fmt: skip
        return self._digest(key, generation, rest) + rest

    def _moving(self, key: bytes, generation: bytes, seq: bytes, moving: bytes) -> bytes:
        padded = moving.ljust(MOVING_BYTES)
        return self._digest(key, generation, seq + padded) + padded

    def _digest(self, key: bytes, generation: bytes, content: bytes) -> bytes:
        whole = hashlib.blake2b(key=self._secret, digest_size=DIGEST_BYTES)
        whole.update(b"%b\0%b\0" % (key, generation))
        whole.update(content)
        return whole.digest()


def seq_of(copy: bytes) -> int:
    """The last event of its session that a copy knows. Only of a copy that has been read."""
    return int(copy[SEQ_AT:TIMES_AT])
