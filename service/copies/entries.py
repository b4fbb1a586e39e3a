"""How a copy is written down: the ready bytes of the answer, who may have them, and digests that only we can make.

A digest covers the key, the generation and the numbers that stand beside it, and is made with a secret of PostgreSQL.
So whatever else somebody, or a fault, leaves in Redis is no copy: garbage, half a copy, one moved from another session
or tenant, one with another number. Such a thing is refused, never an error and never an answer.

Behind its head (`scripts.py`) a copy has what was read from PostgreSQL, and then what was appended since, each piece
with the number of the event before it and its own: only an unbroken chain up to the number in the head is a copy.
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from service.copies.scripts import CONTINUED_MAX, ENTRY_BYTES_MAX, GENERATION_BYTES, HEAD_BYTES, MARK, TIMES_DIGITS
from service.copies.scripts import SEQ_DIGITS as DIGITS

DIGEST_BYTES = 16
"""128 bits: nobody guesses one."""

CONTINUED_BYTES_MAX = 16 * 1024
"""A larger message is not put behind a window: the copy is deleted, and made anew by who reads it. For one more message

in a copy, nobody's acknowledgement waits until a megabyte has been sealed and sent.
"""

LENGTH_DIGITS = 8
MOVING = re.compile(
    rb'"message_count":(\d+),"attachment_count":\d+,"pending_tool_call_count":\d+,"version":(\d+),'
    rb'"created_at":"[^"]*","updated_at":("[^"]*"),"last_message_at":("[^"]*"|null),"expires_at":("[^"]*"),'
    rb'"ended_at":(?:"[^"]*"|null),"end_reason":(?:"[a-z]+"|null)\}\Z'
)
"""The end of a session's JSON, behind all that callers have written."""

AROUND_BYTES = HEAD_BYTES + DIGEST_BYTES + DIGITS + 2 * LENGTH_DIGITS
"""What a copy has beside its own head and the bodies."""

SEQ_AT = len(MARK) + GENERATION_BYTES
TIMES_AT = SEQ_AT + DIGITS
NEVER = b"0" * TIMES_DIGITS


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


class _Whole(msgspec.Struct, frozen=True):
    """A copy that is proven whole: its parts, and what was appended since."""

    head: bytes
    body: bytes
    added: list[bytes]


class _SnapshotHead(msgspec.Struct, frozen=True, array_like=True):
    user_id: str
    version: int
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
        cuts = [edge for group in range(1, 6) for edge in found.span(group)]
        head = _SnapshotHead(snapshot.user_id, snapshot.version, cuts)
        return self._write(key, generation, seq, msgspec.msgpack.encode(head), [snapshot.body])

    def write_window(self, key: bytes, generation: bytes, seq: int, window: Window) -> bytes | None:
        """The copy of a window; None where it is too large."""
        bodies = [message.body for message in window.messages]
        seqs, lengths = [message.seq for message in window.messages], [len(body) for body in bodies]
        head = _WindowHead(window.user_id, window.has_more, seqs, lengths)
        return self._write(key, generation, seq, msgspec.msgpack.encode(head), bodies)

    def read_snapshot(self, key: bytes, copy: bytes) -> Snapshot | None:
        """The snapshot that a copy is of, as it is since the last append; None: it is no copy of this key."""
        whole = self._read(key, copy)
        if whole is None:
            return None
        head, body = SNAPSHOT_HEAD.decode(whole.head), whole.body
        if not whole.added:
            return Snapshot(head.user_id, head.version, body)
        values, pieces, at = whole.added[-1].split(b","), [], 0
        for value, begin, end in zip(values, head.cuts[::2], head.cuts[1::2], strict=True):
            pieces += [body[at:begin], value]
            at = end
        return Snapshot(head.user_id, int(values[1]), b"".join([*pieces, body[at:]]))

    def read_window(self, key: bytes, copy: bytes) -> Window | None:
        """The window that a copy is of, with what was appended since; None: it is no copy of this key."""
        whole = self._read(key, copy)
        if whole is None:
            return None
        head, at = WINDOW_HEAD.decode(whole.head), 0
        messages = [Spoken(int(added[:DIGITS]), added[DIGITS:]) for added in reversed(whole.added)]
        for seq, size in zip(head.seqs, head.lengths, strict=True):
            messages.append(Spoken(seq, whole.body[at : at + size]))
            at += size
        return Window(head.user_id, head.has_more, messages)

    def continue_snapshot(self, key: bytes, generation: bytes, addition: Addition) -> bytes:
        """What is put behind a snapshot's copy once `addition` has been appended."""
        moved = addition.moved
        moving = b"%d,%d,%b,%b,%b" % (
            moved.message_count, moved.version, moved.moment, moved.moment, moved.expires_at,
        )  # fmt: skip
        return self._link(key, generation, addition, moving)

    def continue_window(self, key: bytes, generation: bytes, addition: Addition) -> bytes:
        """What is put behind a window's copy once `addition` has been appended; empty where it is too large."""
        if len(addition.spoken.body) > CONTINUED_BYTES_MAX:
            return b""
        return self._link(key, generation, addition, numbered(addition.spoken.seq) + addition.spoken.body)

    def _write(self, key: bytes, generation: bytes, seq: int, head: bytes, bodies: list[bytes]) -> bytes | None:
        body_bytes = sum(map(len, bodies))
        if AROUND_BYTES + len(head) + body_bytes > ENTRY_BYTES_MAX:
            return None
        lengths = _length(head) + b"%0*d" % (LENGTH_DIGITS, body_bytes)
        rest = b"".join([numbered(seq), lengths, head, *bodies])
        return b"".join([MARK, generation, numbered(seq), NEVER, self._digest(key, generation, rest), rest])

    def _link(self, key: bytes, generation: bytes, addition: Addition, added: bytes) -> bytes:
        rest = numbered(addition.before) + numbered(addition.after) + _length(added) + added
        return self._digest(key, generation, rest) + rest

    def _read(self, key: bytes, copy: bytes) -> _Whole | None:
        generation, at = copy[len(MARK) : SEQ_AT], HEAD_BYTES + DIGEST_BYTES
        lengths = copy[at + DIGITS : at + DIGITS + 2 * LENGTH_DIGITS]
        if not lengths.isdigit():
            return None
        head_at = at + DIGITS + 2 * LENGTH_DIGITS
        body_at = head_at + int(lengths[:LENGTH_DIGITS])
        end = body_at + int(lengths[LENGTH_DIGITS:])
        if copy[HEAD_BYTES:at] != self._digest(key, generation, copy[at:end]):
            return None
        added = self._added(key, copy, end)
        if added is None:
            return None
        return _Whole(copy[head_at:body_at], copy[body_at:end], added)

    def _added(self, key: bytes, copy: bytes, end: int) -> list[bytes] | None:
        """What was appended behind `end`; None unless each piece continues the one before, up to the number ahead."""
        generation, seq_at = copy[len(MARK) : SEQ_AT], HEAD_BYTES + DIGEST_BYTES
        seq, added = copy[seq_at : seq_at + DIGITS], list[bytes]()
        while end < len(copy):
            piece_at = end + DIGEST_BYTES + 2 * DIGITS + LENGTH_DIGITS
            length = copy[piece_at - LENGTH_DIGITS : piece_at]
            if len(added) == CONTINUED_MAX or not length.isdigit():
                return None
            digest_at, end = end, piece_at + int(length)
            rest = copy[digest_at + DIGEST_BYTES : end]
            is_ours = copy[digest_at : digest_at + DIGEST_BYTES] == self._digest(key, generation, rest)
            if not is_ours or rest[:DIGITS] != seq:
                return None
            seq = rest[DIGITS : 2 * DIGITS]
            added.append(copy[piece_at:end])
        return added if copy[SEQ_AT:HEAD_BYTES] == seq + b"%0*d" % (TIMES_DIGITS, len(added)) else None

    def _digest(self, key: bytes, generation: bytes, content: bytes) -> bytes:
        whole = hashlib.blake2b(key=self._secret, digest_size=DIGEST_BYTES)
        whole.update(b"%b\0%b\0" % (key, generation))
        whole.update(content)
        return whole.digest()


def _length(of: bytes) -> bytes:
    return b"%0*d" % (LENGTH_DIGITS, len(of))


def seq_of(copy: bytes) -> int:
    """The last event of its session that a copy knows. Only of a copy that has been read."""
    return int(copy[SEQ_AT:TIMES_AT])
