"""How things become JSON: one encoder, so that the same thing always looks the same, in answers and in webhooks."""

from __future__ import annotations

from typing import Any

import msgspec

from service.copies.entries import Snapshot, Spoken, Window
from service.store.copies import WINDOW_MESSAGES, MessagesRead, SessionRead
from service.store.engine import WholeSecond


def _plain(value: Any) -> Any:
    if isinstance(value, WholeSecond):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    raise TypeError(f"a {type(value).__name__} has no place in an answer")


ENCODER = msgspec.json.Encoder(enc_hook=_plain)


def encode(value: Any) -> bytes:
    """`value` as JSON: times in UTC with six digits, payloads exactly as they are stored."""
    return ENCODER.encode(value)


def snapshot_of(found: SessionRead) -> Snapshot:
    """A session as it is answered."""
    return Snapshot(found.session.user_id, found.session.version, encode(found.session))


def window_of(found: MessagesRead, most: int = WINDOW_MESSAGES) -> Window:
    """The newest messages, `most` at the most, each as it is answered."""
    spoken = [Spoken(message.seq, encode(message)) for message in found.messages[:most]]
    return Window(found.user_id, len(found.messages) > most or found.messages.is_cut, spoken)
